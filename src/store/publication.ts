/** What a tree publishes, in the database: full tiles, signed checkpoints, and how far each tree has come. */
import type { Executor, Transaction } from './db.ts';
import { textArray } from './values.ts';

export interface PublishedTree {
  readonly tenant: string;
  /** Size of the newest checkpoint; 0 before the first. */
  readonly published: number;
  /** Verifier key of the newest checkpoint; empty before the first. */
  readonly vkey: string;
}

export interface UnpublishedTree extends PublishedTree {
  /** Age in milliseconds of the first leaf that no checkpoint covers; undefined where the tree is smaller than its checkpoint. */
  readonly waitingMs: number | undefined;
}

/** Trees of all tenants whose size is not that of their newest checkpoint, the longest published first. */
export async function readUnpublished(
  executor: Executor,
  limit: number,
  except: readonly string[] = [],
): Promise<UnpublishedTree[]> {
  const rows = await executor.query<{
    tenant_id: string;
    published: number;
    vkey: string;
    waiting_ms: number | null;
  }>(
    'SELECT tenant_id, published, vkey, waiting_ms FROM keytether.log_unpublished($1, $2::text[])',
    [limit, textArray(except)],
    'log_unpublished',
  );
  return rows.map((row) => ({
    tenant: row.tenant_id,
    published: row.published,
    vkey: row.vkey,
    waitingMs: row.waiting_ms ?? undefined,
  }));
}

/** At most `limit` trees that have a checkpoint, in the order of their tenants' ids, behind the tenant `after`. */
export async function readPublished(
  executor: Executor,
  after: string,
  limit: number,
): Promise<PublishedTree[]> {
  return executor.query<{ tenant: string; published: number; vkey: string }>(
    'SELECT tenant_id AS tenant, published, vkey FROM keytether.log_published_trees($1, $2)',
    [after, limit],
    'log_published_trees',
  );
}

/** Writes at most `limit` full tiles that the transaction's tree lacks; true when none is missing. */
export async function growTiles(tx: Transaction, limit: number): Promise<boolean> {
  const [row] = await tx.query<{ done: boolean }>(
    'SELECT keytether.log_tile_grow($1, $2) AS done',
    [tx.tenant, limit],
    'log_tile_grow',
  );
  return row?.done === true;
}

/** Stores a checkpoint; false where the tree has a larger one already, or is smaller than it says. */
export async function publishCheckpoint(
  tx: Transaction,
  checkpoint: { readonly size: number; readonly note: string; readonly vkey: string },
): Promise<boolean> {
  const [row] = await tx.query<{ stored: boolean }>(
    'SELECT keytether.log_publish($1, $2, $3, $4) AS stored',
    [tx.tenant, checkpoint.size, checkpoint.note, checkpoint.vkey],
    'log_publish',
  );
  return row?.stored === true;
}

export interface StoredCheckpoint {
  readonly size: number;
  /** The signed note. */
  readonly note: string;
  readonly vkey: string;
}

/** The newest checkpoint of the transaction's tenant. */
export async function readCheckpoint(tx: Transaction): Promise<StoredCheckpoint | undefined> {
  const [row] = await tx.query<{ size: number; note: string; vkey: string }>(
    `SELECT c.size, c.note, p.vkey FROM keytether.log_published p
       JOIN keytether.log_checkpoint c ON c.tenant_id = p.tenant_id AND c.size = p.size
     WHERE p.tenant_id = $1`,
    [tx.tenant],
    'read_checkpoint',
  );
  return row;
}

/**
 * The first `width` hashes of a tile, 32 bytes each. Level 0 comes from the leaves where no full tile is stored yet; above it
 * the tiles below must be there, as they are for every tree that has a checkpoint. Throws RangeError where hashes are missing.
 */
export async function readTile(
  tx: Transaction,
  level: number,
  index: number,
  width: number,
): Promise<Uint8Array> {
  const stored = width === 256 ? await readFullTile(tx, level, index) : undefined;
  const hashes = stored ?? (await readHashes(tx, level, index * 256, index * 256 + width));
  if (hashes?.length !== width * 32) throw new RangeError('the tree has no such tile');
  return hashes;
}

async function readFullTile(tx: Transaction, level: number, index: number): Promise<Uint8Array | undefined> {
  const [row] = await tx.query<{ hashes: Uint8Array }>(
    'SELECT hashes FROM keytether.log_tile WHERE tenant_id = $1 AND level = $2 AND n = $3',
    [tx.tenant, level, index],
    'read_tile',
  );
  return row?.hashes;
}

async function readHashes(
  tx: Transaction,
  level: number,
  from: number,
  to: number,
): Promise<Uint8Array | null | undefined> {
  if (level === 0) {
    const [row] = await tx.query<{ hashes: Uint8Array | null }>(
      `SELECT string_agg(leaf_hash, '' ORDER BY leaf_index) AS hashes FROM keytether.log_leaf
       WHERE tenant_id = $1 AND leaf_index >= $2 AND leaf_index < $3`,
      [tx.tenant, from, to],
      'read_tile_leaves',
    );
    return row?.hashes;
  }
  const [row] = await tx.query<{ hashes: Uint8Array | null }>(
    `SELECT string_agg(root, '' ORDER BY n) AS hashes FROM keytether.log_tile
     WHERE tenant_id = $1 AND level = $2 AND n >= $3 AND n < $4`,
    [tx.tenant, level - 1, from, to],
    'read_tile_roots',
  );
  return row?.hashes;
}
