/** Reads the log of one tenant out of the database, past the service. */
import { rootOf } from '../../src/store/log.ts';
import { connectOwner } from '../../src/store/postgres.ts';
import type { StoredLeaf, StoredLog } from './ledger.ts';

const PAGE = 5_000;

interface LeafRow extends Readonly<Record<string, unknown>> {
  readonly leaf_index: number;
  readonly leaf_hash: Uint8Array;
  readonly leaf: Uint8Array;
}

/** `url`: a role that sees the rows of all tenants. */
export async function readLog(url: string, tenant: string): Promise<StoredLog> {
  const owner = await connectOwner(url);
  try {
    const [head] = await owner.query<{ size: number; frontier: Uint8Array }>(
      'SELECT size, frontier FROM keytether.log_head WHERE tenant_id = $1',
      [tenant],
    );
    if (head === undefined) throw new Error(`no log of ${tenant}`);
    const leaves: StoredLeaf[] = [];
    for (let after = -1; ; ) {
      const rows = await owner.query<LeafRow>(
        `SELECT leaf_index, leaf_hash, leaf FROM keytether.log_leaf
         WHERE tenant_id = $1 AND leaf_index > $2 ORDER BY leaf_index LIMIT $3`,
        [tenant, after, PAGE],
      );
      for (const row of rows) leaves.push({ index: row.leaf_index, leafHash: row.leaf_hash, leaf: row.leaf });
      const last = rows.at(-1);
      if (last === undefined) break;
      after = last.leaf_index;
    }
    return { tenant, size: head.size, root: rootOf(head.frontier), leaves };
  } finally {
    await owner.close();
  }
}
