/** The nodes of a tree as the database has them. */
import type { Transaction } from '../store/db.ts';
import { readTile } from '../store/publication.ts';
import { tileReader } from './tiles.ts';
import type { ReadNode } from './tree.ts';

/** Reads the tree of the transaction's tenant at `size`, which its tiles must cover. A connection answers one question at a time. */
export function storedNodes(tx: Transaction, size: number): ReadNode {
  let turn: Promise<unknown> = Promise.resolve();
  return tileReader(size, (level, index, width) => {
    const mine = turn.then(() => readTile(tx, level, index, width));
    turn = mine.catch(() => undefined);
    return mine;
  });
}
