/** Builders of log units for tests, and a Merkle root computed from the definition. */
import { createHash, randomBytes } from 'node:crypto';
import type { Database } from '../../src/store/db.ts';
import { insertHead, insertKeyRecord } from '../../src/store/keys.ts';
import { type FlightResult, type LogRow, type LogUnit, readEntries, readHead } from '../../src/store/log.ts';
import { createTenant } from '../../src/store/tenants.ts';

export const WRITER = new Uint8Array(16).fill(9);

export function bytes(length: number, fill?: number): Uint8Array {
  return fill === undefined ? new Uint8Array(randomBytes(length)) : new Uint8Array(length).fill(fill);
}

export function row(guarded = true, leaf: Uint8Array = bytes(40)): LogRow {
  return { eid: bytes(16), leaf, guarded };
}

export function plain(tenant: string, rows = 1): LogUnit {
  return { tenant, kind: 'plain', rows: Array.from({ length: rows }, () => row(false)) };
}

export function intent(tenant: string, entry = bytes(32, 1)): LogUnit {
  return { tenant, kind: 'intent', entry, rows: [row(false)] };
}

/** Event id of the intent that `unit` logged: the name of its flight. */
export function flightOf(unit: LogUnit): Uint8Array {
  const [first] = unit.rows;
  if (first === undefined) throw new Error('an intent has a row');
  return first.eid;
}

export type OutcomeExtras = Pick<LogUnit, 'stateVersion' | 'newKeys' | 'counts'>;

/** The flight's end (unguarded) and one use of it (guarded). */
export function outcome(
  of: LogUnit,
  result: FlightResult = 'ok',
  extras: Partial<OutcomeExtras> = {},
): LogUnit {
  return {
    tenant: of.tenant,
    kind: 'outcome',
    flight: flightOf(of),
    result,
    stateVersion: 1,
    rows: [row(false), row(true)],
    ...extras,
  };
}

export interface KeyedTenant {
  readonly tenant: string;
  readonly root: Uint8Array;
  readonly dataKey: Uint8Array;
}

/** A tenant with a current root and a current data key of purpose `notes`, generation 1 each. */
export async function keyedTenant(database: Database, tenant: string): Promise<KeyedTenant> {
  const [root, dataKey] = [bytes(16), bytes(16)];
  await database.transaction(tenant, async (tx) => {
    await createTenant(tx, tenant);
    const record = { scope: 'default', keyVersion: 1, generation: 1, immutable: bytes(9), mutable: bytes(9) };
    await insertKeyRecord(tx, { ...record, keyId: root, purpose: '', kind: 'root', wrapperIds: [bytes(16)] });
    await insertKeyRecord(tx, {
      ...record,
      keyId: dataKey,
      purpose: 'notes',
      kind: 'data',
      wrapperIds: [root],
    });
    const head = { scope: 'default', generation: 1, object: bytes(9) };
    await insertHead(tx, { ...head, purpose: '', currentKey: root });
    await insertHead(tx, { ...head, purpose: 'notes', currentKey: dataKey });
  });
  return { tenant, root, dataKey };
}

/** RFC 6962 section 2.1, word for word. */
export function merkleRoot(leaves: readonly Uint8Array[]): Uint8Array {
  const [only] = leaves;
  if (only === undefined) return sha256();
  if (leaves.length === 1) return sha256(Uint8Array.of(0), only);
  let split = 1;
  while (split * 2 < leaves.length) split *= 2;
  return sha256(Uint8Array.of(1), merkleRoot(leaves.slice(0, split)), merkleRoot(leaves.slice(split)));
}

function sha256(...parts: Uint8Array[]): Uint8Array {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return new Uint8Array(hash.digest());
}

/** The log as it is stored, with its head, and the root computed anew from the leaves' bytes. */
export function readLog(database: Database, tenant: string) {
  return database.transaction(
    tenant,
    async (tx) => {
      const head = await readHead(tx);
      const entries = await readEntries(tx, 0, 100_000);
      return { head, entries, recomputed: merkleRoot(entries.map((entry) => entry.leaf)) };
    },
    { logs: [] },
  );
}
