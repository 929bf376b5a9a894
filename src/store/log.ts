/** The usage log in the database: appending units of leaves, and reading them back. */
import { createHash } from 'node:crypto';
import type { Executor, Row, Transaction } from './db.ts';
import { bytesToUuid, hex, plainArray } from './values.ts';

export const MAX_LEAF_BYTES = 16_384;

/** One event. The bytes are stored and served as they are. */
export interface LogRow {
  /** 16 bytes that name the event; appending the same id again changes nothing. Time-ordered ids (UUIDv7) keep the index small. */
  readonly eid: Uint8Array;
  /** At most {@link MAX_LEAF_BYTES}. */
  readonly leaf: Uint8Array;
  /** Whether the row may be appended only if the unit's conditions hold. */
  readonly guarded: boolean;
}

/** How a flight ended. */
export type FlightResult = 'ok' | 'refused' | 'other';

export type UnitKind =
  | { readonly kind: 'plain' }
  /** Opens a flight under the event id of the unit's first row. `entry`: 32 bytes that name the wrap entry. */
  | { readonly kind: 'intent'; readonly entry: Uint8Array }
  /** Uses the flight that the intent of this event id opened, and says how it ended. */
  | { readonly kind: 'outcome'; readonly flight: Uint8Array; readonly result: FlightResult };

/** A data key to insert and make current, only while its root and the head are still the ones that were read. */
export interface NewDataKey {
  readonly scope: string;
  readonly purpose: string;
  /** 16 bytes. */
  readonly keyId: Uint8Array;
  readonly keyVersion: number;
  /** Of the record's mutable part. */
  readonly generation: number;
  readonly wrapperIds: readonly Uint8Array[];
  readonly immutable: Uint8Array;
  readonly mutable: Uint8Array;
  readonly head: { readonly generation: number; readonly object: Uint8Array };
  /** Generation of the head to replace, or null where there must be none yet. */
  readonly expectHeadGeneration: number | null;
  /** Key id of the root that must still be current in the scope. */
  readonly parentRoot: Uint8Array;
}

export interface SealCount {
  readonly keyId: Uint8Array;
  /** Messages to add. */
  readonly count: number;
  /** The sum may not pass this. */
  readonly limit: number;
}

/** Leaves of one tenant that are judged together. */
export type LogUnit = UnitKind & {
  readonly tenant: string;
  readonly rows: readonly LogRow[];
  /** The tenant's state_version that the round read; absent where it does not matter. */
  readonly stateVersion?: number;
  readonly newKeys?: readonly NewDataKey[];
  readonly counts?: readonly SealCount[];
};

/** Why a unit's guarded rows, new keys and counts were dropped; `appended` when they were not. */
export type Verdict =
  | 'appended'
  | 'intent-closed'
  | 'fenced'
  | 'state-moved'
  | 'head-moved'
  | 'count-exceeded';

export interface AppendedRow {
  /** Null when the row was dropped. */
  readonly index: number | null;
  /** 32 bytes; zero when the row was dropped. */
  readonly leafHash: Uint8Array;
}

export interface UnitResult {
  readonly verdict: Verdict;
  /** In the order of the unit's rows. */
  readonly rows: readonly AppendedRow[];
  /** By the database's clock, milliseconds since 1970. */
  readonly committedMs: number;
}

const KIND = { plain: 0, intent: 1, outcome: 2 } as const;
const RESULT = { ok: 1, refused: 2, other: 3 } as const;
const VERDICTS: readonly Verdict[] = [
  'appended',
  'intent-closed',
  'fenced',
  'state-moved',
  'head-moved',
  'count-exceeded',
];

const APPEND = `SELECT indices, verdicts, hashes, committed_ms FROM keytether.log_append($1::bytea, $2::int[], $3::bytea, $4::int[],
  $5::bool[], $6::text[], $7::smallint[], $8::smallint[], $9::bytea, $10::bytea, $11::bigint[], $12::uuid, $13::jsonb, $14::int[],
  $15::bytea, $16::bigint[], $17::bigint[])`;

interface AppendRow extends Row {
  readonly indices: (number | null)[];
  readonly verdicts: number[];
  readonly hashes: Uint8Array;
  readonly committed_ms: number;
}

/**
 * Appends units in order, all in one statement: outside a transaction it is durable when this returns.
 * Inside a transaction every tenant of the units must be among its `logs`. Event ids must differ within one call.
 * After STORE_UNAVAILABLE the same call may be made again: what was appended keeps its index and is judged `appended`.
 * `writer`: 16 bytes that name this process. Throws RangeError for a malformed unit, else as `Executor.query`.
 */
export async function appendUnits(
  executor: Executor,
  writer: Uint8Array,
  units: readonly LogUnit[],
): Promise<UnitResult[]> {
  if (units.length === 0) return [];
  const [row] = await executor.query<AppendRow>(APPEND, parameters(writer, units), 'log_append');
  if (row === undefined) throw new Error('log_append returned nothing');
  let next = 0;
  return units.map((unit, position) => {
    const first = next;
    next += unit.rows.length;
    return {
      verdict: VERDICTS[row.verdicts[position] ?? -1] ?? unknownVerdict(),
      rows: unit.rows.map((_, offset) => ({
        index: row.indices[first + offset] ?? null,
        leafHash: row.hashes.slice((first + offset) * 32, (first + offset + 1) * 32),
      })),
      committedMs: row.committed_ms,
    };
  });
}

function unknownVerdict(): never {
  throw new Error('log_append gave a verdict that this program does not know');
}

/** The 17 arguments of log_append; arrays as literals, bytes concatenated, because that is what both engines send fastest. */
function parameters(writer: Uint8Array, units: readonly LogUnit[]): unknown[] {
  const rows = units.flatMap((unit) => unit.rows);
  for (const row of rows) {
    if (row.eid.length !== 16) throw new RangeError('an event id has 16 bytes');
    if (row.leaf.length > MAX_LEAF_BYTES) throw new RangeError('a leaf is too long');
  }
  const rowUnit = units.flatMap((unit, position) => unit.rows.map(() => position + 1));
  const counts = units.flatMap((unit, position) =>
    (unit.counts ?? []).map((count) => ({ ...count, unit: position + 1 })),
  );
  const objects = units.flatMap((unit, position) =>
    (unit.newKeys ?? []).map((key) => newKeyJson(key, position + 1)),
  );
  return [
    concat(rows.map((row) => row.leaf)),
    plainArray(rows.map((row) => row.leaf.length)),
    concat(rows.map((row) => row.eid)),
    plainArray(rowUnit),
    plainArray(rows.map((row) => row.guarded)),
    `{${units.map((unit) => tenantItem(unit.tenant)).join(',')}}`,
    plainArray(units.map((unit) => KIND[unit.kind])),
    plainArray(units.map((unit) => (unit.kind === 'outcome' ? RESULT[unit.result] : 0))),
    concatFixed(
      units.map((unit) => (unit.kind === 'outcome' ? unit.flight : undefined)),
      16,
    ),
    concatFixed(
      units.map((unit) => (unit.kind === 'intent' ? unit.entry : undefined)),
      32,
    ),
    plainArray(units.map((unit) => unit.stateVersion ?? -1)),
    bytesToUuid(writer),
    objects.length === 0 ? null : JSON.stringify(objects),
    plainArray(counts.map((count) => count.unit)),
    concatFixed(
      counts.map((count) => count.keyId),
      16,
    ),
    plainArray(counts.map((count) => count.count)),
    plainArray(counts.map((count) => count.limit)),
  ];
}

function newKeyJson(key: NewDataKey, unit: number): object {
  return {
    unit,
    parent_root: hex(key.parentRoot),
    expect_head_generation: key.expectHeadGeneration,
    head: { generation: key.head.generation, object: hex(key.head.object) },
    record: {
      scope: key.scope,
      purpose: key.purpose,
      key_id: hex(key.keyId),
      key_version: key.keyVersion,
      generation: key.generation,
      wrapper_ids: key.wrapperIds.map(hex),
      immutable: hex(key.immutable),
      mutable: hex(key.mutable),
    },
  };
}

function tenantItem(tenant: string): string {
  if (!/^[a-z0-9_-]{1,64}$/.test(tenant)) throw new RangeError('not a tenant id');
  return `"${tenant}"`;
}

/** Leaves, ids and wrapped keys: nothing here is a plaintext. */
function concat(parts: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(parts);
}

function concatFixed(parts: readonly (Uint8Array | undefined)[], length: number): Uint8Array {
  const joined = new Uint8Array(parts.length * length);
  for (const [position, part] of parts.entries()) {
    if (part === undefined) continue;
    if (part.length !== length) throw new RangeError(`expected ${length} bytes`);
    joined.set(part, position * length);
  }
  return joined;
}

export interface LogEntry {
  readonly index: number;
  /** 16 bytes. */
  readonly eid: Uint8Array;
  readonly leaf: Uint8Array;
  /** SHA-256(0x00 ‖ leaf) as stored. */
  readonly leafHash: Uint8Array;
  /** By the database's clock, milliseconds since 1970. */
  readonly committedMs: number;
}

interface EntryRow extends Row {
  readonly leaf_index: number;
  readonly eid: Uint8Array;
  readonly leaf: Uint8Array;
  readonly leaf_hash: Uint8Array;
  readonly committed_ms: number;
}

/** At most `limit` entries of the transaction's tenant from index `from` on, in order. */
export async function readEntries(tx: Transaction, from: number, limit: number): Promise<LogEntry[]> {
  const rows = await tx.query<EntryRow>(
    `SELECT leaf_index, uuid_send(eid) AS eid, leaf, leaf_hash, floor(extract(epoch FROM committed_at) * 1000)::bigint AS committed_ms
     FROM keytether.log_leaf WHERE tenant_id = $1 AND leaf_index >= $2 ORDER BY leaf_index LIMIT $3`,
    [tx.tenant, from, limit],
    'read_entries',
  );
  return rows.map((row) => ({
    index: row.leaf_index,
    eid: row.eid,
    leaf: row.leaf,
    leafHash: row.leaf_hash,
    committedMs: row.committed_ms,
  }));
}

/** Leaf hashes of the indices [from, to), 32 bytes each, in order: what tiles and proofs are made of. */
export async function readLeafHashes(tx: Transaction, from: number, to: number): Promise<Uint8Array[]> {
  const rows = await tx.query<{ leaf_hash: Uint8Array }>(
    `SELECT leaf_hash FROM keytether.log_leaf
     WHERE tenant_id = $1 AND leaf_index >= $2 AND leaf_index < $3 ORDER BY leaf_index`,
    [tx.tenant, from, to],
    'read_leaf_hashes',
  );
  return rows.map((row) => row.leaf_hash);
}

export interface LogHead {
  /** Number of leaves. */
  readonly size: number;
  /** RFC 6962 Merkle tree hash, 32 bytes. */
  readonly root: Uint8Array;
  readonly committedMs: number;
}

/** Size and root of the log of the transaction's tenant. */
export async function readHead(tx: Transaction): Promise<LogHead> {
  const [row] = await tx.query<{ size: number; frontier: Uint8Array; committed_ms: number }>(
    `SELECT size, frontier, floor(extract(epoch FROM committed_at) * 1000)::bigint AS committed_ms
     FROM keytether.log_head WHERE tenant_id = $1`,
    [tx.tenant],
    'read_head',
  );
  if (row === undefined) throw new RangeError('the tenant has no log');
  return { size: row.size, root: rootOf(row.frontier), committedMs: row.committed_ms };
}

/** The RFC 6962 root over the roots of the perfect subtrees, largest first; of nothing, SHA-256 of the empty string. */
export function rootOf(frontier: Uint8Array): Uint8Array {
  if (frontier.length === 0) return createHash('sha256').digest();
  let root = frontier.slice(-32);
  for (let end = frontier.length - 32; end > 0; end -= 32) {
    root = createHash('sha256')
      .update(Uint8Array.of(1))
      .update(frontier.subarray(end - 32, end))
      .update(root)
      .digest();
  }
  return new Uint8Array(root);
}
