/**
 * The reconciliation shown on the tour's own traffic: somebody uses the customer's key behind the service's back, and the
 * comparison of the two logs finds exactly that one call.
 *
 * Another KMS is one more module with a default export of type {@link OpenDemoKms}: `test/demo/<name>.ts`.
 */
import { createHash, randomUUID } from 'node:crypto';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { keyRefOf, openLocalKeystore } from '../../adapters/kms/local/keystore.ts';
import { createLocalKms } from '../../adapters/kms/local.ts';
import { type ApiClient, apiClient, expectStatus } from '../api-client.ts';
import { type Replica, startReplica } from '../assemble.ts';
import { type Config, readConfig } from '../config.ts';
import { secretBytes } from '../secret-bytes.ts';
import { type TourKms, tour } from '../tour.ts';
import type { Vendor } from './event.ts';
import { readOurs } from './ours.ts';
import { reconcile } from './reconcile.ts';
import { reportOf } from './report.ts';
import { summaryOf } from './summary.ts';
import { VENDOR_LOGS } from './vendors.ts';

/** The customer's side of the demonstration: a KMS, a thief of its credentials, and its log. */
export interface DemoKms {
  readonly vendor: Vendor;
  /** What the replica must allow or find to reach the KMS; a development replica's settings otherwise. */
  readonly config?: Partial<Config>;
  readonly tour: TourKms;
  /** Decrypts with the customer's key, past the service. */
  rogueDecrypt(): Promise<void>;
  /** The KMS's own log, as the customer would export it. */
  log(): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** `folder` is the replica's, for whoever needs files in it. */
export type OpenDemoKms = (folder: string) => Promise<DemoKms>;

const PAGE = 1_000;

/** Returns the exit status: 0 when the rogue call is found and nothing else is. */
export async function runDemo(name: string, say: (line: string) => void): Promise<number> {
  const open = await demoKms(name);
  const folder = mkdtempSync(join(tmpdir(), 'keytether-reconcile-'));
  let kms: DemoKms | undefined;
  let replica: Replica | undefined;
  try {
    kms = await open(folder);
    const config = { ...readConfig({ KEYTETHER_FOLDER: folder }), port: 0, ...kms.config };
    replica = await startReplica(config);
    const operator = apiClient(replica.url, readFileSync(config.operatorTokenFile, 'utf8').trim());
    const { tenant, auditor } = await tour(operator, kms.tour, () => {});
    say(
      `The tour ran against the ${name} KMS. Now a thief decrypts with the customer's key, past the service.\n`,
    );
    await kms.rogueDecrypt();

    const pages = await readLog(auditor, tenant);
    const bytes = await kms.log();
    const log = VENDOR_LOGS[kms.vendor];
    const theirs = log.parse('their log', bytes);
    const result = reconcile(
      readOurs([{ name: 'our log', bytes: pages }]),
      [{ log, ...theirs }],
      theirs.malformed,
      {
        now: Date.now(),
      },
    );
    say(reportOf(result));
    const summary = summaryOf(result, [fileOf('ours', pages), fileOf('theirs', bytes)]);
    const { receipt } = expectStatus(
      await auditor.post(`/v1/tenants/${tenant}/log/reconciliations`, summary),
      201,
    );
    say(`\nThe result is record ${receipt.index} of ${receipt.origin}.`);

    const found = result.findings.filter(({ class: name }) => name !== 'matched');
    const asMeant = found.length === 1 && result.theirs['theirs-only'] === 1 && result.malformed.length === 0;
    say(asMeant ? 'Exactly the rogue call was found.' : 'That is not what the demonstration should find.');
    return asMeant ? 0 : 1;
  } finally {
    await replica?.stop();
    await kms?.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The tenant's whole log, as pages, one a line. */
export async function readLog(auditor: ApiClient, tenant: string): Promise<Uint8Array> {
  const pages: string[] = [];
  for (let from = 0, size = 1; from < size; from += PAGE) {
    const page = expectStatus(await auditor.get(`/v1/tenants/${tenant}/log?from=${from}&limit=${PAGE}`), 200);
    size = page.size;
    pages.push(JSON.stringify(page));
  }
  return new TextEncoder().encode(pages.join('\n'));
}

function fileOf(side: 'ours' | 'theirs', bytes: Uint8Array) {
  return { side, sha256: createHash('sha256').update(bytes).digest('base64'), bytes: bytes.length };
}

async function demoKms(name: string): Promise<OpenDemoKms> {
  if (name === 'local') return openLocalDemo;
  const file = new URL(`../../test/demo/${name}.ts`, import.meta.url);
  if (!/^[a-z]{1,32}$/.test(name) || !existsSync(file))
    throw new Error(`--demo ${name}: there is no such demonstration`);
  return ((await import(file.href)) as { readonly default: OpenDemoKms }).default;
}

const openLocalDemo: OpenDemoKms = async (folder) => {
  const kmsFolder = join(folder, 'kms');
  const keystore = openLocalKeystore(kmsFolder);
  const keyRef = keystore.createKey('acme-master-key');
  return {
    vendor: 'local',
    tour: {
      provider: 'local',
      keyRef: keyRefOf('acme-master-key'),
      access: {},
      switchOff: () => keystore.disable(keyRef),
      switchOn: () => keystore.enable(keyRef),
      log: () => keystore.usage().map((line) => line.correlation_id),
    },
    rogueDecrypt: () => rogueUnwrap(kmsFolder, keyRef),
    log: async () => readFileSync(join(kmsFolder, 'usage.jsonl')),
    close: async () => {},
  };
};

/**
 * Unwraps a key past the service, as who has the credentials and a stolen wrapped key would. That wrapped key is made on a copy of the
 * KMS, so that the KMS's own log has the unwrap and nothing besides.
 */
export async function rogueUnwrap(kmsFolder: string, keyRef: string): Promise<void> {
  const copy = mkdtempSync(join(tmpdir(), 'keytether-stolen-'));
  const context = { tenant: 'ten_x', scope: 'default', key: 'key_x' };
  const call = { signal: new AbortController().signal, correlationId: randomUUID() };
  const host = { secret: () => Promise.reject(new Error('none')), endpointAllowed: () => false };
  const open = (folder: string) => {
    const driver = createLocalKms({ folder, production: false });
    return driver.open(keyRef, driver.access.parse({}), host);
  };
  try {
    cpSync(kmsFolder, copy, { recursive: true });
    const { wrapped } = await (await open(copy)).wrap(secretBytes(32), context, call);
    const { key } = await (await open(kmsFolder)).unwrap(wrapped, context, call);
    key.fill(0);
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}
