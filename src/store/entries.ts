/** Entries of the usage log found by what they say. Leaves are parsed as they are read, so one call looks at a bounded number. */
import type { Transaction } from './db.ts';
import { bytesToUuid } from './values.ts';

/** Leaves that one search parses at most. */
export const SEARCH_LEAVES = 10_000;

/** What an entry must say; absent means anything. */
export interface EntryFilter {
  readonly typ?: string | undefined;
  readonly op?: string | undefined;
  readonly out?: string | undefined;
  /** Id of a key of ours or of a customer key. */
  readonly key?: string | undefined;
  /** Id of the principal who asked. */
  readonly actor?: string | undefined;
}

export interface FoundEntry {
  readonly index: number;
  /** 32 bytes. */
  readonly leafHash: Uint8Array;
  /** The exact bytes that were hashed. */
  readonly leaf: Uint8Array;
}

export interface EntrySearch {
  readonly found: readonly FoundEntry[];
  /** Index to go on from; undefined at the end of what was asked for. */
  readonly next: number | undefined;
}

/** At most `limit` entries of [from, to) that fit, in order, out of the first {@link SEARCH_LEAVES} of them. */
export async function searchEntries(
  tx: Transaction,
  range: { readonly from: number; readonly to: number; readonly limit: number },
  filter: EntryFilter,
): Promise<EntrySearch> {
  const { from, to, limit } = range;
  const end = Math.min(to, from + SEARCH_LEAVES);
  if (end <= from) return { found: [], next: undefined };
  const { typ, op, out, key, actor } = filter;
  const wanted = [typ, op, out, key, actor];
  const all = wanted.every((each) => each === undefined);
  const conditions = all
    ? ''
    : `AND ($5::text IS NULL OR j ->> 'typ' = $5) AND ($6::text IS NULL OR j ->> 'op' = $6)
       AND ($7::text IS NULL OR j ->> 'out' = $7)
       AND ($8::text IS NULL OR j -> 'key' ->> 'id' = $8 OR j -> 'kms' ->> 'cmk' = $8)
       AND ($9::text IS NULL OR j -> 'act' ->> 'id' = $9)`;
  const parsed = all ? '' : "CROSS JOIN LATERAL (SELECT convert_from(l.leaf, 'UTF8')::jsonb AS j OFFSET 0) p";
  const rows = await tx.query<{ leaf_index: number; leaf_hash: Uint8Array; leaf: Uint8Array }>(
    `SELECT l.leaf_index, l.leaf_hash, l.leaf FROM keytether.log_leaf l ${parsed}
     WHERE l.tenant_id = $1 AND l.leaf_index >= $2 AND l.leaf_index < $3 ${conditions}
     ORDER BY l.leaf_index LIMIT $4`,
    [tx.tenant, from, end, limit, ...(all ? [] : wanted.map((each) => each ?? null))],
  );
  const found = rows.map((row) => ({ index: row.leaf_index, leafHash: row.leaf_hash, leaf: row.leaf }));
  const last = found.length === limit ? found.at(-1) : undefined;
  const next = last === undefined ? end : last.index + 1;
  return { found, next: next < to ? next : undefined };
}

/** Index of the event; undefined where the transaction's tenant has no such one. `eid`: 16 bytes. */
export async function findEntry(tx: Transaction, eid: Uint8Array): Promise<number | undefined> {
  const [row] = await tx.query<{ leaf_index: number }>(
    'SELECT leaf_index FROM keytether.log_leaf WHERE tenant_id = $1 AND eid = $2::uuid',
    [tx.tenant, bytesToUuid(eid)],
    'find_entry',
  );
  return row?.leaf_index;
}
