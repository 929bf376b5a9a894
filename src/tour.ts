/**
 * The point of the product, shown against a running replica over its own HTTP API: encrypt, decrypt, the customer switches the
 * key off, refused, on again, and the log of all that, checked without trusting the service.
 */
import { createHash } from 'node:crypto';
import { type ApiClient, expectStatus } from './api-client.ts';
import { onboard } from './onboard.ts';

/** The customer's side of the tour: a KMS of their own. */
export interface TourKms {
  /** As {@link onboard} takes it. */
  readonly prepare?: (tenant: string) => void;
  readonly provider: string;
  readonly keyRef: string;
  readonly access: object;
  switchOff(): void | Promise<void>;
  switchOn(): void | Promise<void>;
  /** The correlation ids in the KMS's own log of use, in order. */
  log(): readonly string[] | Promise<readonly string[]>;
}

interface LogEntry {
  readonly index: number;
  readonly leafHash: string;
  readonly leaf: string;
}

/**
 * Runs the tour and tells it to `say`, line by line. Returns the tenant that it made and its auditor. Throws an Error that names
 * the step that failed.
 */
export async function tour(
  operator: ApiClient,
  kms: TourKms,
  say: (line: string) => void,
): Promise<{ tenant: string; auditor: ApiClient; service: ApiClient }> {
  const step = (number: number, who: string, what: string) => say(`\n ${number}  ${who.padEnd(9)} ${what}`);
  const shown = (text: string) => say(`              ${text}`);

  step(1, 'customer', 'registers a key of their own KMS, and sees it proved to work and to refuse');
  const { tenant, service, auditor, customerKey, checks } = await onboard(operator, {
    name: 'Acme GmbH',
    ...kms,
  });
  shown(`${customerKey} → ${kms.keyRef}`);
  shown(checks.map(({ check, ok }) => `${check} ${ok ? '✓' : '✗'}`).join('   '));

  const path = `/v1/tenants/${tenant}`;
  const binding = { purpose: 'invoices', resourceId: 'invoice/4711', context: { region: 'eu' } };
  const secret = 'IBAN DE02 1203 0000 0000 2020 51';

  step(2, 'service', 'encrypts');
  const plaintext = Buffer.from(secret).toString('base64');
  const { envelope, receipt } = expectStatus(
    await service.post(`${path}/encrypt`, { plaintext, ...binding }),
    200,
  );
  shown(`${envelope.slice(0, 56)}…`);
  shown(`record ${receipt.index} of ${receipt.origin}, ${receipt.durability}`);

  const decrypt = () => service.post(`${path}/decrypt`, { envelope, ...binding });
  const opens = async () => {
    const opened = expectStatus(await decrypt(), 200);
    const text = Buffer.from(opened.plaintext, 'base64').toString();
    if (text !== secret) throw new Error('decrypt returned something else');
    shown(`200  ${text}`);
  };
  step(3, 'service', 'decrypts');
  await opens();

  step(4, 'customer', 'switches the key off, in their own KMS');
  await kms.switchOff();

  step(5, 'service', 'decrypts the same envelope');
  const refused = await decrypt();
  expectStatus(refused, 424);
  shown(`424  ${refused.body.code}: ${refused.body.title}`);
  shown(`     fault: ${refused.body.fault} · retryable: ${refused.body.retryable} · ${refused.body.action}`);

  step(6, 'customer', 'switches the key on again');
  await kms.switchOn();
  step(7, 'service', 'decrypts');
  await opens();

  step(8, 'auditor', 'reads the log of all that');
  const log = expectStatus(await auditor.get(`${path}/log?from=0&limit=200`), 200);
  const leaves = (log.entries as LogEntry[]).map((entry) => ({
    ...entry,
    leaf: JSON.parse(entry.leaf),
    text: entry.leaf,
  }));
  for (const { index, leaf } of leaves) shown(lineOf(index, leaf));

  step(9, 'auditor', 'checks it without trusting the service');
  const root = merkleRoot(leaves.map(({ text }) => leafHash(text))).toString('base64');
  if (leaves.length !== log.size || root !== log.root) throw new Error('the log does not verify');
  shown(`${log.size} records, none missing; Merkle root ${root.slice(0, 20)}… recomputed ✓`);
  const mine = leaves
    .filter(({ leaf }) => leaf.typ === 'kms.intent')
    .map(({ leaf }) => leaf.kms.cid as string);
  const theirs = new Set(await kms.log());
  const missing = [...theirs].filter((cid) => !mine.includes(cid));
  if (missing.length > 0 || mine.some((cid) => !theirs.has(cid))) throw new Error('the two logs differ');
  shown(`${theirs.size} calls in the customer's own KMS log, each with one intent here, and none besides ✓`);
  return { tenant, auditor, service };
}

function lineOf(
  index: number,
  leaf: { typ: string; op?: string; out?: string; rsn?: string; obj?: { typ: string } },
): string {
  const what = [leaf.op, leaf.out, leaf.rsn, leaf.obj?.typ].filter((part) => part !== undefined).join(' ');
  return `${String(index).padStart(3)}  ${leaf.typ.padEnd(13)} ${what}`;
}

function leafHash(text: string): Buffer {
  return createHash('sha256').update(Uint8Array.of(0)).update(text).digest();
}

/** RFC 6962 section 2.1, from the definition and not from the service's own code. */
function merkleRoot(hashes: readonly Buffer[]): Buffer {
  const [only] = hashes;
  if (only === undefined) return createHash('sha256').digest();
  if (hashes.length === 1) return only;
  let split = 1;
  while (split * 2 < hashes.length) split *= 2;
  return createHash('sha256')
    .update(Uint8Array.of(1))
    .update(merkleRoot(hashes.slice(0, split)))
    .update(merkleRoot(hashes.slice(split)))
    .digest();
}
