/**
 * A log as static files (c2sp.org/tlog-tiles): paths, tiles of up to 256 hashes, and bundles of up to 256 entries.
 * The tile (level, index) holds the perfect subtrees of tree level 8 · level from 256 · index on.
 */
import { HASH_BYTES, type ReadNode, rootOf } from './tree.ts';

export const TILE_WIDTH = 256;
const TILE_HEIGHT = 8;
const MAX_LEVEL = 63;

/** A file of the log besides the checkpoint. `width`: 1 to 255 for a partial one, 256 for a full one. */
export type Tile =
  | { readonly kind: 'hashes'; readonly level: number; readonly index: number; readonly width: number }
  | { readonly kind: 'entries'; readonly index: number; readonly width: number };

/** Its path below the log's prefix, such as `tile/0/x001/x234/067.p/12`. Throws RangeError for what has no path. */
export function tilePath(tile: Tile): string {
  const level = tile.kind === 'entries' ? 'entries' : tile.level;
  if (tile.kind === 'hashes' && !between(tile.level, 0, MAX_LEVEL)) throw new RangeError('not a tile level');
  if (!between(tile.width, 1, TILE_WIDTH)) throw new RangeError('not a tile width');
  if (!between(tile.index, 0, Number.MAX_SAFE_INTEGER)) throw new RangeError('not a tile index');
  const suffix = tile.width === TILE_WIDTH ? '' : `.p/${tile.width}`;
  return `tile/${level}/${indexPath(tile.index)}${suffix}`;
}

/** Reads a path below the log's prefix; undefined unless it is exactly what {@link tilePath} writes. */
export function parseTilePath(path: string): Tile | undefined {
  const match =
    /^tile\/(entries|[0-9]{1,2})\/((?:x[0-9]{3}\/){0,5}[0-9]{3})(?:\.p\/([1-9][0-9]{0,2}))?$/.exec(path);
  const [, kind, place, partial] = match ?? [];
  if (kind === undefined || place === undefined) return undefined;
  const index = Number(place.replaceAll(/[x/]/g, ''));
  const width = partial === undefined ? TILE_WIDTH : Number(partial);
  if (partial !== undefined && width >= TILE_WIDTH) return undefined;
  const tile: Tile =
    kind === 'entries'
      ? { kind: 'entries', index, width }
      : { kind: 'hashes', level: Number(kind), index, width };
  if (!Number.isSafeInteger(index) || (tile.kind === 'hashes' && tile.level > MAX_LEVEL)) return undefined;
  return tilePath(tile) === path ? tile : undefined;
}

/** How many hashes the tile has in a tree of `size` leaves: 0 to 256. Bundles of entries are as wide as the tiles of level 0. */
export function widthAt(level: number, index: number, size: number): number {
  const hashes = Math.floor(size / TILE_WIDTH ** level);
  return Math.max(0, Math.min(TILE_WIDTH, hashes - index * TILE_WIDTH));
}

/** Every file of a log of `size` leaves besides the checkpoint, in a fixed order: by level, then index; entries last. */
export function* tilesOf(size: number): Generator<Tile> {
  for (let level = 0; Math.floor(size / TILE_WIDTH ** level) > 0; level += 1) {
    for (let index = 0; widthAt(level, index, size) > 0; index += 1) {
      yield { kind: 'hashes', level, index, width: widthAt(level, index, size) };
    }
  }
  for (let index = 0; widthAt(0, index, size) > 0; index += 1) {
    yield { kind: 'entries', index, width: widthAt(0, index, size) };
  }
}

/** The bytes of a tile: `width` hashes, in order. Rejects as the reader does. */
export async function encodeTile(
  tile: Tile & { readonly kind: 'hashes' },
  read: ReadNode,
): Promise<Uint8Array> {
  const first = tile.index * TILE_WIDTH;
  const reads = Array.from({ length: tile.width }, (_, at) => read(tile.level * TILE_HEIGHT, first + at));
  return Buffer.concat(await Promise.all(reads));
}

/** The hashes of a tile. Throws RangeError unless the length is that of `width` hashes. */
export function decodeTile(bytes: Uint8Array, width: number): Uint8Array[] {
  if (bytes.length !== width * HASH_BYTES) throw new RangeError('not a tile of this width');
  return Array.from({ length: width }, (_, at) => bytes.slice(at * HASH_BYTES, (at + 1) * HASH_BYTES));
}

/**
 * Reads the nodes of a tree of `size` leaves from its tiles, each of which `readTile` gives as bytes. One reader asks for
 * each tile once. A node that a tile of this size does not hold throws RangeError.
 */
export function tileReader(
  size: number,
  readTile: (level: number, index: number, width: number) => Uint8Array | Promise<Uint8Array>,
): ReadNode {
  const known = new Map<string, Promise<Uint8Array[]>>();
  const tileOf = (level: number, index: number): Promise<Uint8Array[]> => {
    const name = `${level}/${index}`;
    const width = widthAt(level, index, size);
    const tile =
      known.get(name) ??
      Promise.resolve(readTile(level, index, width)).then((bytes) => decodeTile(bytes, width));
    known.set(name, tile);
    return tile;
  };
  return async (level, index) => {
    const height = level % TILE_HEIGHT;
    const first = index * 2 ** height;
    const at = first % TILE_WIDTH;
    const hashes = await tileOf((level - height) / TILE_HEIGHT, (first - at) / TILE_WIDTH);
    const under = hashes.slice(at, at + 2 ** height);
    if (under.length !== 2 ** height) throw new RangeError('the tree has no such node');
    return rootOf(under);
  };
}

/** A bundle: each entry after its length as a big-endian u16. Throws RangeError for an entry above 65,535 bytes. */
export function encodeBundle(entries: readonly Uint8Array[]): Uint8Array {
  const parts = entries.flatMap((entry) => {
    if (entry.length > 0xffff) throw new RangeError('an entry is too long for a bundle');
    return [Uint8Array.of(entry.length >> 8, entry.length & 0xff), entry];
  });
  return Buffer.concat(parts);
}

/** The entries of a bundle. Throws RangeError unless it holds exactly `width` entries and nothing more. */
export function decodeBundle(bytes: Uint8Array, width: number): Uint8Array[] {
  const entries: Uint8Array[] = [];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  while (at + 2 <= bytes.length) {
    const end = at + 2 + view.getUint16(at);
    if (end > bytes.length) break;
    entries.push(bytes.slice(at + 2, end));
    at = end;
  }
  if (at !== bytes.length || entries.length !== width)
    throw new RangeError('not a bundle of this many entries');
  return entries;
}

function indexPath(index: number): string {
  const digits = String(index);
  const groups = digits.padStart(Math.ceil(digits.length / 3) * 3, '0').match(/.{3}/g) ?? [];
  return groups.map((group, at) => (at < groups.length - 1 ? `x${group}` : group)).join('/');
}

function between(value: number, low: number, high: number): boolean {
  return Number.isSafeInteger(value) && value >= low && value <= high;
}
