/** The tenant's tree as its readers see it: entries, tiles, checkpoints and proofs. */
import { encodeProof } from '../audit/proof.ts';
import { storedNodes } from '../audit/stored-tree.ts';
import { encodeBundle, type Tile, widthAt } from '../audit/tiles.ts';
import { consistencyProof, inclusionProof } from '../audit/tree.ts';
import { ServiceError } from '../errors.ts';
import type { Transaction } from '../store/db.ts';
import { type EntryFilter, findEntry, searchEntries } from '../store/entries.ts';
import { readEntries, readHead } from '../store/log.ts';
import { readCheckpoint, readTile, type StoredCheckpoint } from '../store/publication.ts';
import { type Core, originOf, reading } from './core.ts';

interface TenantCall {
  readonly tenant: string;
}

export interface EntryQuery extends EntryFilter {
  readonly from: number;
  /** Index behind the last entry that is wanted; undefined: the end of the log. */
  readonly to?: number | undefined;
  readonly limit: number;
}

export function createLogReader(core: Core) {
  /** Work on what the newest checkpoint covers. Throws CHECKPOINT_PENDING before the first. */
  function published<T>(
    tenant: string,
    work: (tx: Transaction, checkpoint: StoredCheckpoint) => Promise<T>,
  ): Promise<T> {
    return reading(core, tenant, async (tx) => {
      const checkpoint = await readCheckpoint(tx);
      if (checkpoint === undefined) throw new ServiceError('CHECKPOINT_PENDING', { retryAfterSeconds: 1 });
      return work(tx, checkpoint);
    });
  }

  return {
    /** A page of entries with the root at the present size, which no checkpoint need cover yet. */
    readLog(call: TenantCall, page: { readonly from: number; readonly limit: number }) {
      return reading(core, call.tenant, async (tx) => {
        const head = await readHead(tx);
        const entries = await readEntries(tx, page.from, page.limit);
        return {
          origin: originOf(core, call.tenant),
          size: head.size,
          root: base64(head.root),
          entries: entries.map(({ index, leafHash, leaf }) => ({
            index,
            leafHash: base64(leafHash),
            leaf: text(leaf),
          })),
        };
      });
    },

    readCheckpoint: (call: TenantCall): Promise<string> =>
      published(call.tenant, async (_, { note }) => note),

    /** The verifier key of the newest checkpoint. */
    readLogKey: (call: TenantCall): Promise<string> => published(call.tenant, async (_, { vkey }) => vkey),

    /** The bytes of a tile or a bundle that the newest checkpoint covers in this width; else NOT_FOUND. */
    readTile(call: TenantCall, tile: Tile): Promise<Uint8Array> {
      return published(call.tenant, async (tx, { size }) => {
        const level = tile.kind === 'hashes' ? tile.level : 0;
        if (widthAt(level, tile.index, size) < tile.width) throw new ServiceError('NOT_FOUND');
        if (tile.kind === 'hashes') return readTile(tx, tile.level, tile.index, tile.width);
        const entries = await readEntries(tx, tile.index * 256, tile.width);
        return encodeBundle(entries.map(({ leaf }) => leaf));
      });
    },

    /** Entries that fit, and where to go on. A page may be empty although there is more. */
    searchEntries(call: TenantCall, query: EntryQuery) {
      return reading(core, call.tenant, async (tx) => {
        const { size } = await readHead(tx);
        const to = Math.min(query.to ?? size, size);
        const { found, next } = await searchEntries(tx, { from: query.from, to, limit: query.limit }, query);
        const entries = found.map(({ index, leafHash, leaf }) => ({
          i: index,
          h: base64(leafHash),
          leaf: text(leaf),
        }));
        return { entries, next };
      });
    },

    /** The proof that the event is in the log, under the newest checkpoint. `eid`: 16 bytes. */
    proveEntry(call: TenantCall, eid: Uint8Array): Promise<string> {
      return reading(core, call.tenant, async (tx) => {
        const index = await findEntry(tx, eid);
        if (index === undefined) throw new ServiceError('NOT_FOUND');
        const checkpoint = await readCheckpoint(tx);
        if (checkpoint === undefined || index >= checkpoint.size) {
          throw new ServiceError('CHECKPOINT_PENDING', { retryAfterSeconds: 1 });
        }
        const hashes = await inclusionProof(index, checkpoint.size, storedNodes(tx, checkpoint.size));
        return encodeProof({ index, hashes, checkpoint: checkpoint.note });
      });
    },

    /** The proof that the tree at `from` is a prefix of the tree at `to`; absent: the size of the newest checkpoint. */
    proveConsistency(call: TenantCall, range: { readonly from: number; readonly to?: number | undefined }) {
      return published(call.tenant, async (tx, { size }) => {
        const { from, to = size } = range;
        if (to > size) throw invalid('to', 'must be at most the size of the newest checkpoint');
        if (from > to) throw invalid('from', 'must be at most the size that it leads to');
        const proof = await consistencyProof(from, to, storedNodes(tx, to));
        return { from, to, proof: proof.map(base64) };
      });
    },
  };
}

function invalid(path: string, rule: string): ServiceError {
  return new ServiceError('REQUEST_INVALID', { errors: [{ path, rule }] });
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}

function text(leaf: Uint8Array): string {
  return new TextDecoder('utf-8', { fatal: true }).decode(leaf);
}
