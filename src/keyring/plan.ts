/**
 * From the rows that a round read to what each request needs: which root to ask the KMS for, and under which data key each
 * item is opened or sealed. Every object is authenticated here, before any call, and has to say itself
 * whose it is: a row that was moved, swapped or invented is KEY_RECORD_TAMPERED.
 */
import { sameBytes } from '../crypto/encoding.ts';
import { parseMessage } from '../crypto/message.ts';
import { tampered } from '../crypto/record-auth.ts';
import {
  type KeyRecord,
  type RecordKeys,
  type StoredBinding,
  type StoredHead,
  verifyBinding,
  verifyHead,
  verifyKeyRecord,
} from '../crypto/records.ts';
import { codeOf, type ErrorCode, ServiceError } from '../errors.ts';
import type { KmsTarget } from '../kms/caller.ts';
import type { HeadRow, KeyRecordRow } from '../store/keys.ts';
import type { Round, RoundQuestion } from '../store/rounds.ts';
import { decodeAccess, targetOf, wrapEntryName } from './binding.ts';
import type { FlightTarget, Plan } from './gate-ports.ts';
import type { DecryptItem, EncryptItem, KeyUse } from './use.ts';

export type ItemPlan =
  /** An existing data key. */
  | { readonly kind: 'key'; readonly record: KeyRecord }
  /** The purpose has no usable data key: the first item that gets there makes one. */
  | {
      readonly kind: 'new';
      readonly purpose: string;
      readonly keyVersion: number;
      readonly expectHeadGeneration: number | null;
    }
  | ItemFailure;

interface ItemFailure {
  readonly kind: 'fail';
  readonly code: ErrorCode;
  readonly detail: string;
}

/** One flight: the root to unwrap, the way to the customer key that wraps it, and what waits for it. */
export interface RootFlight extends FlightTarget {
  readonly scope: string;
  readonly root: KeyRecord;
  readonly binding: StoredBinding;
  readonly target: KmsTarget;
  /** 32 bytes. */
  readonly entryName: Uint8Array;
  readonly stateVersion: number;
  readonly items: Map<KeyUse, readonly ItemPlan[]>;
}

/** A lost race is followed by a round that sees the winner's head: who loses so many is kept from winning. */
const MAX_LOST_RACES = 8;

/** When a new version of a data key is due. */
export interface RotationPolicy {
  readonly maxAgeMs: number;
  /** Messages under one version; at most 2^32, which the log's append function enforces in any case. */
  readonly maxMessages: number;
}

interface Given {
  readonly recordKeys: RecordKeys;
  readonly rotation: RotationPolicy;
  readonly nowMs: number;
}

interface Tools extends Given {
  /** What was authenticated in this round: many requests use the same few rows. */
  readonly records: Map<KeyRecordRow, KeyRecord | ServiceError>;
  readonly heads: Map<HeadRow, StoredHead | ServiceError>;
}

/** No item of a request can succeed, which needs no KMS to be known. */
export class ItemsFailed extends ServiceError {
  readonly items: readonly ItemFailure[];

  constructor(first: ItemFailure, items: readonly ItemPlan[]) {
    super(first.code, { detail: first.detail });
    this.items = items.filter((item) => item.kind === 'fail');
  }
}

/** The key that an envelope names; undefined for what is no envelope. */
function keyIdOf({ envelope }: DecryptItem): Uint8Array | undefined {
  try {
    return parseMessage(envelope).keyId;
  } catch {
    return undefined;
  }
}

/** What one query must bring for these requests. */
export function questionOf(uses: readonly KeyUse[]): RoundQuestion {
  const scopes = new Set<string>();
  const heads = new Map<string, [string, string]>();
  const keyIds = new Map<string, Uint8Array>();
  for (const use of uses) {
    scopes.add(use.scope);
    for (const item of use.items) {
      if (use.operation === 'encrypt') heads.set(`${use.scope}/${item.purpose}`, [use.scope, item.purpose]);
      else {
        const keyId = keyIdOf(item as DecryptItem);
        if (keyId !== undefined) keyIds.set(hexOf(keyId), keyId);
      }
    }
  }
  return { scopes: [...scopes], heads: [...heads.values()], keyIds: [...keyIds.values()] };
}

/** Says for each request what to do. Never throws: what goes wrong with one scope or key concerns its requests only. */
export function planRound(uses: readonly KeyUse[], round: Round, given: Given): Plan<RootFlight>[] {
  const tools: Tools = { ...given, records: new Map(), heads: new Map() };
  const scopes = new Map<string, ScopePlan | ServiceError>();
  let alone = 0;
  return uses.map((use) => {
    try {
      const scope = memo(scopes, use.scope, () => planScope(use, round, tools));
      const items = planItems(use, scope, round, tools);
      const failed = items.find((item) => item.kind === 'fail');
      if (failed !== undefined && items.every((item) => item.kind === 'fail')) {
        return { code: failed.code, cause: new ItemsFailed(failed, items) };
      }
      // A scope that wants its own call for each use gets a flight of its own each time.
      const flight = scope.perUse
        ? { ...scope.flight, key: `${scope.flight.key}#${alone++}`, items: new Map() }
        : scope.flight;
      flight.items.set(use, items);
      return { flight };
    } catch (error) {
      return { code: codeOf(error), cause: error };
    }
  });
}

interface ScopePlan {
  readonly flight: RootFlight;
  readonly perUse: boolean;
  /** Messages that this round wants to seal, by purpose. */
  readonly wanted: Map<string, number>;
}

function planScope(use: KeyUse, round: Round, tools: Tools): ScopePlan {
  const { tenant, scope } = use;
  const row = round.rootHeads.find((each) => each.scope === scope);
  if (row === undefined) {
    // Keys without a root head: somebody took the head away. It must never look like a first use.
    const used = [...round.heads, ...round.records.values()].some((each) => each.scope === scope);
    throw used
      ? tampered('head-missing')
      : new ServiceError('CUSTOMER_KEY_NOT_ACTIVE', { detail: 'no-head' });
  }
  const head = checkHead(row, tenant, scope, '', tools);
  if (head.keyId === undefined || head.bindingId === undefined)
    throw new ServiceError('CUSTOMER_KEY_NOT_ACTIVE', { detail: 'no-root' });
  const root = checkRecord(round.records.get(hexOf(head.keyId)), tenant, tools);
  const wrap = root.wraps[0];
  if (root.kind !== 'root' || root.scope !== scope || root.keyVersion !== head.keyVersion)
    throw tampered('root');
  if (root.mode !== 'one' || wrap === undefined || !sameBytes(wrap.wrapperId, head.bindingId))
    throw tampered('root-wrap');
  const binding = checkBinding(round, head.bindingId, tenant, tools);
  if (binding.state !== 'active') throw new ServiceError('CUSTOMER_KEY_DISABLED', { detail: binding.state });
  const entryName = wrapEntryName(root.keyId, wrap);
  const entry = hexOf(entryName);
  const flight: RootFlight = {
    key: `${scope}/${hexOf(root.keyId)}/${entry}/${binding.version}`,
    entry,
    entryName,
    scope,
    root,
    binding,
    target: targetOf(binding),
    stateVersion: round.stateVersion,
    items: new Map(),
  };
  return { flight, perUse: decodeAccess(binding.access).perUse.includes(scope), wanted: new Map() };
}

function planItems(use: KeyUse, scope: ScopePlan, round: Round, tools: Tools): ItemPlan[] {
  if (use.operation === 'decrypt') {
    return use.items.map((item) => planDecrypt(item as DecryptItem, use, scope, round, tools));
  }
  return use.items.map((item) => planEncrypt(item as EncryptItem, use, scope, round, tools));
}

/** The envelope names the key; the request says whose it must be. All mismatches look alike to the caller. */
function planDecrypt(
  item: DecryptItem,
  use: KeyUse,
  { flight }: ScopePlan,
  round: Round,
  tools: Tools,
): ItemPlan {
  const fail = (detail: string): ItemPlan => ({ kind: 'fail', code: 'DECRYPT_FAILED', detail });
  const keyId = keyIdOf(item);
  if (keyId === undefined) return { kind: 'fail', code: 'ENVELOPE_MALFORMED', detail: 'header' };
  const row = round.records.get(hexOf(keyId));
  if (row === undefined) return fail('unknown-key');
  const record = checkRecord(row, use.tenant, tools);
  if (record.kind !== 'data') return fail('not-a-data-key');
  if (record.scope !== use.scope) return fail('other-scope');
  if (record.purpose !== item.purpose) return fail('other-purpose');
  checkParent(record, flight.root);
  return { kind: 'key', record };
}

function planEncrypt(item: EncryptItem, use: KeyUse, scope: ScopePlan, round: Round, tools: Tools): ItemPlan {
  const { purpose } = item;
  const wanted = (scope.wanted.get(purpose) ?? 0) + 1;
  scope.wanted.set(purpose, wanted);
  const row = round.heads.find((each) => each.scope === use.scope && each.purpose === purpose);
  const stuck = (use.lostRaces ?? 0) >= MAX_LOST_RACES;
  // Somebody else made the first version, time and again, and still there is no head: it was taken away.
  if (row === undefined && stuck) throw tampered('head-missing');
  if (row === undefined) return { kind: 'new', purpose, keyVersion: 1, expectHeadGeneration: null };
  const head = checkHead(row, use.tenant, use.scope, purpose, tools);
  if (head.keyId === undefined)
    return { kind: 'new', purpose, keyVersion: 1, expectHeadGeneration: head.generation };
  const stored = round.records.get(hexOf(head.keyId));
  const record = checkRecord(stored, use.tenant, tools);
  if (
    record.kind !== 'data' ||
    record.scope !== use.scope ||
    record.purpose !== purpose ||
    record.keyVersion !== head.keyVersion
  ) {
    throw tampered('data-key');
  }
  checkParent(record, scope.flight.root);
  const { maxAgeMs, maxMessages } = tools.rotation;
  const due =
    record.state !== 'active' ||
    tools.nowMs - record.createdMs >= maxAgeMs ||
    (stored?.sealedCount ?? 0) + wanted > maxMessages;
  if (!due) return { kind: 'key', record };
  // Each try is a call to the customer's KMS, so it is not made for ever.
  if (stuck) return { kind: 'fail', code: 'OVERLOADED', detail: 'lost-races' };
  return { kind: 'new', purpose, keyVersion: record.keyVersion + 1, expectHeadGeneration: head.generation };
}

const NO_KEY = new Uint8Array(16);

/** A scope has one root in this version, so a data key that hangs elsewhere was put there. */
function checkParent(record: KeyRecord, root: KeyRecord): void {
  const wrap = record.wraps[0];
  if (wrap === undefined || !sameBytes(wrap.wrapperId, root.keyId)) throw tampered('parent');
}

function checkHead(
  row: HeadRow,
  tenant: string,
  scope: string,
  purpose: string,
  { heads, recordKeys }: Tools,
): StoredHead {
  const head = memo(heads, row, () => verifyHead(row.object, recordKeys));
  if (head.tenant !== tenant || head.scope !== scope || head.purpose !== purpose)
    throw tampered('head-moved');
  if (head.generation !== row.generation) throw tampered('head-generation');
  // What the log compares with when it inserts a key.
  if (!sameBytes(row.currentKey, head.keyId ?? NO_KEY)) throw tampered('head-current');
  return head;
}

/** Authenticates a record row; a row that something authentic points to must exist. */
function checkRecord(
  row: KeyRecordRow | undefined,
  tenant: string,
  { records, recordKeys }: Tools,
): KeyRecord {
  if (row === undefined) throw tampered('record-missing');
  return memo(records, row, () => authenticRecord(row, tenant, recordKeys));
}

function authenticRecord(row: KeyRecordRow, tenant: string, recordKeys: RecordKeys): KeyRecord {
  const object = new Uint8Array(row.immutable.length + row.mutable.length);
  object.set(row.immutable);
  object.set(row.mutable, row.immutable.length);
  const record = verifyKeyRecord(object, recordKeys);
  if (record.tenant !== tenant || !sameBytes(record.keyId, row.keyId)) throw tampered('record-moved');
  if (record.immutable.length !== row.immutable.length || record.generation !== row.generation)
    throw tampered('record-split');
  return record;
}

function checkBinding(
  round: Round,
  bindingId: Uint8Array,
  tenant: string,
  { recordKeys }: Tools,
): StoredBinding {
  const row = round.bindings.get(hexOf(bindingId));
  if (row === undefined) throw tampered('binding-missing');
  const binding = verifyBinding(row.object, recordKeys);
  if (
    binding.tenant !== tenant ||
    !sameBytes(binding.bindingId, bindingId) ||
    binding.version !== row.version
  ) {
    throw tampered('binding-moved');
  }
  return binding;
}

/** Computes once per round, failures included. */
function memo<K, T>(known: Map<K, T | ServiceError>, name: K, make: () => T): T {
  let value = known.get(name);
  if (value === undefined) {
    try {
      value = make();
    } catch (error) {
      value = error instanceof ServiceError ? error : new ServiceError('INTERNAL', { cause: error });
    }
    known.set(name, value);
  }
  if (value instanceof ServiceError) throw value;
  return value;
}

function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
}
