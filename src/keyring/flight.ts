/**
 * The keys of one flight, from the answer of the customer's KMS to the moment when they are zeroed, and the work that is done
 * with them: open or seal every item, and encode the records that say so.
 */
import { hash } from 'node:crypto';
import { encodeLeaf, eventIdText, type Leaf, type LeafKey, newEventId, type Writer } from '../audit/leaf.ts';
import { type DurableRecord, Sealed } from '../audit/sealed.ts';
import { messageContext } from '../crypto/context.ts';
import { createKey, DATA_KEY_WRAP_ALG, openRecordKey, unwrapDataKey, wrapDataKey } from '../crypto/keys.ts';
import { open, seal } from '../crypto/message.ts';
import {
  authenticateHead,
  authenticateKeyRecord,
  type KeyRecord,
  parseKeyImmutable,
  type RecordKeys,
} from '../crypto/records.ts';
import { codeOf, type ErrorCode, ServiceError } from '../errors.ts';
import type { LogRow, NewDataKey } from '../store/log.ts';
import { keyIdText } from './binding.ts';
import type { KmsOutcome } from './gate-ports.ts';
import type { ItemPlan, RootFlight } from './plan.ts';
import type { DecryptItem, EncryptItem, ItemResult, KeyUse, Released } from './use.ts';

/** What came back from one call. With `ok` it holds the root's key until {@link disposeKeys}. */
export interface KeyAnswer extends KmsOutcome {
  readonly requestId: string;
  /** Text of the intent's event id. */
  readonly intent: string;
  readonly rootKey: Uint8Array | undefined;
  /** Keys that were unwrapped or made during the flight, by hex of their id. */
  readonly dataKeys: Map<string, Uint8Array>;
  /** Keys that were made during the flight, by purpose. */
  readonly created: Map<string, CreatedKey>;
}

interface CreatedKey {
  readonly record: KeyRecord;
  readonly stored: NewDataKey;
  readonly leaves: readonly Leaf[];
}

/** Results of one request that wait for their records. */
export interface Opened {
  readonly use: KeyUse;
  readonly results: readonly ItemResult[];
  readonly rows: readonly LogRow[];
  /** Messages that were sealed, by key id. */
  readonly counts: readonly { readonly keyId: Uint8Array; readonly count: number }[];
  /** Filled in when the rows are durable. */
  records: readonly DurableRecord[];
}

/** Every item of a request failed: its code is the request's, and its rows are what the log gets. */
export class UseFailed extends Error {
  readonly code: ErrorCode;
  readonly opened: Opened;

  constructor(code: ErrorCode, opened: Opened) {
    super(code);
    this.name = 'UseFailed';
    this.code = code;
    this.opened = opened;
  }
}

export interface FlightTools {
  readonly writer: Writer;
  readonly recordKeys: RecordKeys;
  readonly now: () => number;
}

export function disposeKeys(answer: KeyAnswer): void {
  answer.rootKey?.fill(0);
  for (const key of answer.dataKeys.values()) key.fill(0);
  answer.dataKeys.clear();
}

/** Opens or seals every item of a request, synchronously. Throws {@link UseFailed} when none succeeds. */
export function useFlight(flight: RootFlight, answer: KeyAnswer, use: KeyUse, tools: FlightTools): Opened {
  const plans = flight.items.get(use);
  if (plans === undefined) throw new ServiceError('INTERNAL', { detail: 'no-plan' });
  const done = use.items.map((_, i) => useItem(flight, answer, use, i, plans[i], tools));
  const opened = record(answer, use, done, tools);
  const failed = opened.results.find((result) => !result.ok);
  if (failed === undefined || failed.ok || opened.results.some((result) => result.ok)) return opened;
  throw new UseFailed(failed.code, opened);
}

type Done =
  | {
      readonly ok: true;
      readonly bytes: Uint8Array;
      readonly record: KeyRecord;
      readonly envelope: Uint8Array;
    }
  | {
      readonly ok: false;
      readonly code: ErrorCode;
      readonly detail: string;
      readonly record: KeyRecord | undefined;
      readonly envelope: Uint8Array | undefined;
    };

function useItem(
  flight: RootFlight,
  answer: KeyAnswer,
  use: KeyUse,
  i: number,
  plan: ItemPlan | undefined,
  tools: FlightTools,
): Done {
  const { tenant, scope } = use;
  const item = use.items[i] as EncryptItem | DecryptItem;
  const envelope = 'envelope' in item ? item.envelope : undefined;
  if (plan === undefined || plan.kind === 'fail') {
    return {
      ok: false,
      code: plan?.code ?? 'INTERNAL',
      detail: plan?.detail ?? 'no-plan',
      record: undefined,
      envelope,
    };
  }
  let known: KeyRecord | undefined;
  try {
    const record = plan.kind === 'key' ? plan.record : createdKey(flight, answer, tenant, plan, tools).record;
    known = record;
    const key = dataKey(flight, answer, record);
    const { purpose, resourceId, context } = item;
    const contextOf = (header: Uint8Array) =>
      messageContext({ header, tenant, scope, purpose, resourceId, context });
    if ('envelope' in item)
      return { ok: true, bytes: open(key, item.envelope, contextOf), record, envelope: item.envelope };
    const sealed = seal(key, record.keyId, contextOf, item.plaintext);
    return { ok: true, bytes: sealed, record, envelope: sealed };
  } catch (error) {
    const detail = error instanceof ServiceError ? (error.detail ?? '') : 'unexpected';
    return { ok: false, code: codeOf(error), detail, record: known, envelope };
  }
}

/** K of a data key, unwrapped once per flight. */
function dataKey(flight: RootFlight, answer: KeyAnswer, record: KeyRecord): Uint8Array {
  const name = Buffer.from(record.keyId).toString('hex');
  const known = answer.dataKeys.get(name);
  if (known !== undefined) return known;
  const wrap = record.wraps[0];
  if (answer.rootKey === undefined || wrap === undefined)
    throw new ServiceError('INTERNAL', { detail: 'no-root-key' });
  const secret = unwrapDataKey(answer.rootKey, flight.root.keyId, record.immutable, wrap.wrapped);
  try {
    const key = openRecordKey(secret, record);
    answer.dataKeys.set(name, key);
    return key;
  } finally {
    secret.fill(0);
  }
}

/** Makes the next version of a purpose's data key, once per flight. It is stored with the records of its first uses. */
function createdKey(
  flight: RootFlight,
  answer: KeyAnswer,
  tenant: string,
  plan: Extract<ItemPlan, { kind: 'new' }>,
  { writer, recordKeys, now }: FlightTools,
): CreatedKey {
  const known = answer.created.get(plan.purpose);
  if (known !== undefined) return known;
  const { root, scope } = flight;
  if (answer.rootKey === undefined) throw new ServiceError('INTERNAL', { detail: 'no-root-key' });
  const { purpose, keyVersion } = plan;
  const { keyId, immutable, secret } = createKey({
    kind: 'data',
    keyVersion,
    createdMs: now(),
    tenant,
    scope,
    purpose,
  });
  try {
    const wrapped = wrapDataKey(answer.rootKey, root.keyId, immutable, secret);
    const wrapping = {
      generation: 1,
      state: 'active',
      mode: 'one',
      wraps: [{ wrapperId: root.keyId, kmsKeyVersion: '', wrapAlg: DATA_KEY_WRAP_ALG, wrapped }],
    } as const;
    const object = authenticateKeyRecord(immutable, wrapping, recordKeys);
    const identity = parseKeyImmutable(immutable);
    const generation = (plan.expectHeadGeneration ?? 0) + 1;
    const head = authenticateHead(
      { tenant, scope, purpose, keyId, keyVersion, bindingId: undefined, generation },
      recordKeys,
    );
    const change = (op: string, typ: string, bytes: Uint8Array) =>
      encodeLeaf(writer, tenant, {
        typ: 'admin.change',
        op,
        act: undefined,
        req: undefined,
        sc: scope,
        obj: { typ, id: keyIdText(keyId), h: sha256(bytes) },
      });
    const created: CreatedKey = {
      record: { ...identity, ...wrapping, suite: 1, immutable, authId: '', mac: new Uint8Array(32) },
      stored: {
        scope,
        purpose,
        keyId,
        keyVersion,
        generation: 1,
        wrapperIds: [root.keyId],
        immutable,
        mutable: object.subarray(immutable.length),
        head: { generation, object: head },
        expectHeadGeneration: plan.expectHeadGeneration,
        parentRoot: root.keyId,
      },
      leaves: [change('key.create', 'data-key', object), change('key.current', 'head', head)],
    };
    answer.created.set(purpose, created);
    return created;
  } finally {
    secret.fill(0);
  }
}

/** One record for each purpose, key and outcome of the request; what succeeded is sealed under its record's id. */
function record(answer: KeyAnswer, use: KeyUse, done: readonly Done[], { writer }: FlightTools): Opened {
  const groups = new Map<string, { eid: Uint8Array; items: number[]; leaf: number }>();
  const counts = new Map<string, { keyId: Uint8Array; count: number }>();
  const results = done.map((each, i): ItemResult => {
    const keyId = each.record === undefined ? '' : keyIdText(each.record.keyId);
    const name = [use.items[i]?.purpose, keyId, each.ok ? 'ok' : `${each.code}/${each.detail}`].join('|');
    let group = groups.get(name);
    if (group === undefined) {
      group = { eid: newEventId(), items: [], leaf: groups.size };
      groups.set(name, group);
    }
    group.items.push(i);
    if (!each.ok) return { ok: false, code: each.code, detail: each.detail, leaf: group.leaf };
    if (use.operation === 'encrypt') {
      const count = counts.get(keyId)?.count ?? 0;
      counts.set(keyId, { keyId: each.record.keyId, count: count + 1 });
    }
    const sealed = new Sealed(each.bytes, group.eid);
    return { ok: true, sealed, keyId, keyVersion: each.record.keyVersion, leaf: group.leaf };
  });
  const anyOk = results.some((result) => result.ok);
  const rows = [...groups.values()].map(({ eid, items }): LogRow => {
    const first = done[items[0] ?? 0];
    if (first === undefined) throw new ServiceError('INTERNAL', { detail: 'no-item' });
    const key: LeafKey | undefined =
      first.record === undefined
        ? undefined
        : { id: keyIdText(first.record.keyId), ver: first.record.keyVersion };
    const leaf = encodeLeaf(
      writer,
      use.tenant,
      {
        typ: 'key.use',
        op: use.operation,
        act: use.actor,
        req: use.requestId,
        sc: use.scope,
        pu: use.items[items[0] ?? 0]?.purpose ?? '',
        key,
        env: items.flatMap((i) => {
          const envelope = done[i]?.envelope;
          return envelope === undefined ? [] : [sha256(envelope)];
        }),
        n: items.length,
        kref: answer.intent,
        out: first.ok ? 'ok' : 'error',
        rsn: first.ok ? undefined : first.code,
        dtl: first.ok || first.detail === '' ? undefined : first.detail,
      },
      eid,
    );
    // Failures beside a success wait for the same conditions, or a second try would log them twice.
    return { eid, leaf: leaf.bytes, guarded: anyOk };
  });
  return { use, results, rows, counts: [...counts.values()], records: [] };
}

/** The record of a request that the flight's answer, or our own state, ended for all its items alike. */
export function refusalRows(
  writer: Writer,
  use: KeyUse,
  refusal: {
    code: ErrorCode;
    detail: string | undefined;
    out: 'denied' | 'error' | 'unknown';
    intent: string | undefined;
  },
): LogRow[] {
  const purposes = Map.groupBy(use.items as readonly (EncryptItem | DecryptItem)[], (item) => item.purpose);
  return [...purposes].map(([purpose, items]) => {
    const leaf = encodeLeaf(writer, use.tenant, {
      typ: 'key.use',
      op: use.operation,
      act: use.actor,
      req: use.requestId,
      sc: use.scope,
      pu: purpose,
      key: undefined,
      env: items.flatMap((item) => ('envelope' in item ? [sha256(item.envelope)] : [])),
      n: items.length,
      kref: refusal.intent,
      out: refusal.out,
      rsn: refusal.code,
      dtl: refusal.detail,
    });
    return { eid: leaf.eid, leaf: leaf.bytes, guarded: false };
  });
}

/** The records that say that what `opened` allowed was not handed out. */
export function notReleasedRows(writer: Writer, intent: string, opened: Opened, code: ErrorCode): LogRow[] {
  return opened.rows
    .filter((row) => row.guarded)
    .map((row) => {
      const leaf = encodeLeaf(writer, opened.use.tenant, {
        typ: 'use.not_released',
        ref: eventIdText(row.eid),
        kref: intent,
        rsn: code,
      });
      return { eid: leaf.eid, leaf: leaf.bytes, guarded: false };
    });
}

export function dropOpened(opened: Opened): void {
  for (const result of opened.results) if (result.ok) result.sealed.destroy();
}

/** The answer to the service, once the records are there. */
export function released(opened: Opened): Released {
  return { results: opened.results, records: opened.records };
}

function sha256(bytes: Uint8Array): string {
  return hash('sha256', bytes, 'base64');
}
