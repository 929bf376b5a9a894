/** What every service function needs, and the two ways in which an administrator's act reaches database and log. */

import {
  type Actor,
  encodeLeaf,
  type KmsOperation,
  type LeafBody,
  type LeafKey,
  type Writer,
} from '../audit/leaf.ts';
import type { DurableRecord } from '../audit/sealed.ts';
import type { UsageLog } from '../audit/usage-log.ts';
import type { RecordKeys } from '../crypto/records.ts';
import { ServiceError } from '../errors.ts';
import { intentUnit } from '../keyring/keyring.ts';
import type { KmsAnswer, KmsCaller, KmsTarget } from '../kms/caller.ts';
import type { Receipt } from '../receipt.ts';
import type { Database, Durability, Transaction } from '../store/db.ts';
import { appendUnits, type LogRow } from '../store/log.ts';
import { bumpStateVersion } from '../store/tenants.ts';

export interface Core {
  readonly db: Database;
  readonly log: UsageLog;
  readonly kms: KmsCaller;
  readonly recordKeys: RecordKeys;
  readonly writer: Writer;
  /** What a commit survives, as it was found when the service started. */
  readonly durability: Durability;
  /** Throws LOG_UNAVAILABLE while a commit survives less than that. */
  assertDurable(): void;
  /** Host part of every log's origin. */
  readonly logHost: string;
}

/** The name of a tenant's log: it is in leaf 0 and in every receipt. */
export function originOf(core: Core, tenant: string): string {
  return `${core.logHost}/log/${tenant}`;
}

export function receiptOf(core: Core, tenant: string, record: DurableRecord): Receipt {
  const leafHash = Buffer.from(record.leafHash).toString('base64');
  return { origin: originOf(core, tenant), index: record.index, leafHash, durability: core.durability };
}

/** What a change adds to the log: in the tenant's own tree, or in another that the transaction holds. */
export type ChangeRecord = LeafBody & { readonly tree?: string };

/**
 * An administrator's act on one tenant: its rows, the raised state version and its records are one commit. `work` does
 * the rows and says what to record. `trees`: other logs that get a record.
 */
export async function change(
  core: Core,
  tenant: string,
  work: (tx: Transaction) => Promise<readonly ChangeRecord[]>,
  trees: readonly string[] = [],
): Promise<void> {
  core.assertDurable();
  await core.db.transaction(
    tenant,
    async (tx) => {
      const records = await work(tx);
      await bumpStateVersion(tx);
      const byTree = Map.groupBy(records, ({ tree }) => tree ?? tenant);
      const units = [...byTree].map(([tree, bodies]) => ({
        kind: 'plain' as const,
        tenant: tree,
        rows: bodies.map(({ tree: _, ...body }) => rowOf(core, tree, body as LeafBody)),
      }));
      await appendUnits(tx, core.writer.id, units);
    },
    { logs: [tenant, ...trees] },
  );
}

function rowOf(core: Core, tenant: string, body: LeafBody): LogRow {
  const { eid, bytes } = encodeLeaf(core.writer, tenant, body);
  return { eid, leaf: bytes, guarded: false };
}

/** Appends one record on its own and waits until it is durable. */
export async function recordNow(core: Core, tenant: string, body: LeafBody): Promise<DurableRecord> {
  const { records } = await core.log.append({ kind: 'plain', tenant, rows: [rowOf(core, tenant, body)] });
  const [record] = records;
  if (record === undefined) throw new ServiceError('LOG_UNAVAILABLE', { detail: 'record-dropped' });
  return record;
}

/** Reads only; takes no lock of the log. */
export function reading<T>(core: Core, tenant: string, work: (tx: Transaction) => Promise<T>): Promise<T> {
  return core.db.transaction(tenant, work, { logs: [] });
}

/**
 * One call to the customer's KMS outside the gate, as an administrator's act makes it: its intent is durable before it leaves and
 * its end before the answer is used. `entry`: 32 bytes that name what the call is about.
 */
export async function loggedCall<T>(
  core: Core,
  target: KmsTarget,
  about: { op: KmsOperation; entry: Uint8Array; key?: LeafKey; scope?: string },
  call: (correlationId: string) => Promise<KmsAnswer<T>>,
): Promise<KmsAnswer<T>> {
  const { tenant, bindingId, keyRef, provider } = target;
  const { op, entry, key, scope } = about;
  const kms = (cid: string) => ({ cid, cmk: bindingId, key: keyRef, prv: provider });
  const intent = intentUnit(core.writer, tenant, entry, (cid) => ({
    typ: 'kms.intent',
    op,
    kms: kms(cid),
    key,
    sc: scope,
    n: 1,
  }));
  await core.log.append(intent.unit);
  const answer = await call(intent.text);
  const ok = answer.outcome === 'ok';
  const out = ok
    ? 'ok'
    : answer.outcome === 'unknown'
      ? 'unknown'
      : answer.outcome === 'integrity'
        ? 'error'
        : 'denied';
  const result = rowOf(core, tenant, {
    typ: 'kms.result',
    op,
    kms: { ...kms(intent.text), rid: answer.requestId },
    key,
    kref: intent.text,
    out,
    rsn: ok ? undefined : answer.code,
  });
  const end = ok ? 'ok' : answer.outcome === 'refused' ? 'refused' : 'other';
  await core.log.append({ kind: 'outcome', tenant, flight: intent.eid, result: end, rows: [result] });
  return answer;
}

/** The value of an answer, or the error that it is. */
export function answered<T>(answer: KmsAnswer<T>): T {
  if (answer.outcome === 'ok') return answer.value;
  throw new ServiceError(answer.code, { detail: answer.detail, cause: answer.cause });
}

export function actorOf(principal: { readonly id: string; readonly role: string }): Actor {
  return { id: principal.id, role: principal.role };
}
