/**
 * One tree as one archive that needs no service and no network to be verified: the log as static files, the key, and what
 * each check proves. The bytes depend on the tree, its checkpoint and its openings only.
 */
import { exportReadme } from './export-readme.ts';
import {
  encodeVerifierKey,
  keyId,
  type NoteKey,
  parseCheckpoint,
  publicKeyPem,
  splitNote,
  verifyNote,
} from './note.ts';
import { tarEnd, tarHeader, tarPadding } from './tar.ts';
import { encodeBundle, TILE_WIDTH, tilePath } from './tiles.ts';
import { appendToFrontier, frontierRoot, leafHash, rootOf } from './tree.ts';

/** The folder that the archive unpacks to. */
export const EXPORT_FOLDER = 'audit-export';

export interface ExportSource {
  /** A checkpoint as it was signed. */
  readonly checkpoint: string;
  /** The key that signed it; its name is the checkpoint's origin. */
  readonly key: NoteKey;
  /** The leaves from index 0 on. No more are read than the checkpoint counts. */
  readonly leaves: AsyncIterable<Uint8Array>;
  /** JSON lines, of exactly this many bytes together. */
  readonly openings?: { readonly bytes: number; readonly chunks: AsyncIterable<Uint8Array> };
}

/**
 * The archive, piece by piece; no more than one bundle of entries is kept in memory.
 * Throws RangeError before the first piece for a checkpoint that the key did not sign, and later, so that no whole archive
 * comes out, when leaves are missing or give another root, or when the openings have another length.
 */
export async function* exportLog(source: ExportSource): AsyncGenerator<Uint8Array> {
  const { key } = source;
  const note = verifyNote(source.checkpoint, [key]);
  const checkpoint = note && parseCheckpoint(note.text);
  const signature = splitNote(source.checkpoint)?.signatures.find(
    (line) => line.name === key.name && line.keyId === keyId(key),
  );
  if (note === undefined || checkpoint === undefined || signature === undefined) {
    throw new RangeError('the checkpoint is not signed by this key');
  }
  if (checkpoint.origin !== key.name)
    throw new RangeError('the checkpoint is not of the log that the key names');

  yield* tarFile('README.txt', utf8(exportReadme(checkpoint)));
  yield* tarFile('log.vkey', utf8(`${encodeVerifierKey(key)}\n`));
  yield* tarFile('log.pem', utf8(publicKeyPem(key)));
  yield* tarFile('note.txt', utf8(note.text));
  yield* tarFile('note.sig', signature.signature);
  yield* tarFile('log/checkpoint', utf8(source.checkpoint));
  const files = logFiles(source.leaves, checkpoint.size);
  let next = await files.next();
  for (; !next.done; next = await files.next()) yield* tarFile(`log/${next.value.path}`, next.value.bytes);
  if (Buffer.compare(next.value, checkpoint.root) !== 0) {
    throw new RangeError('the leaves are not those of the checkpoint');
  }
  yield* openingsFile(source.openings);
  yield tarEnd();
}

interface LogFile {
  readonly path: string;
  readonly bytes: Uint8Array;
}

/** Bundles and tiles below the log's prefix, each as soon as it is complete, partial ones last. Returns the root. */
async function* logFiles(
  leaves: AsyncIterable<Uint8Array>,
  size: number,
): AsyncGenerator<LogFile, Uint8Array> {
  const tiles: Uint8Array[][] = [[]];
  let bundle: Uint8Array[] = [];
  let frontier: readonly Uint8Array[] = [];
  let count = 0;
  for await (const leaf of upTo(size, leaves)) {
    const hash = leafHash(leaf);
    frontier = appendToFrontier(frontier, count, hash);
    count += 1;
    bundle.push(leaf);
    tiles[0]?.push(hash);
    if (bundle.length < TILE_WIDTH) continue;
    yield bundleFile(bundle, count);
    bundle = [];
    yield* fullTiles(tiles, count);
  }
  if (count < size) throw new RangeError('leaves are missing');
  if (bundle.length > 0) yield bundleFile(bundle, count);
  for (const [level, hashes] of tiles.entries()) {
    if (hashes.length > 0) yield tileFile(level, hashes, count);
  }
  return frontierRoot(frontier);
}

/** The tiles that the leaf before `count` has filled, lowest first; each leaves its root in the tile above. */
function* fullTiles(tiles: Uint8Array[][], count: number): Generator<LogFile> {
  for (const [level, hashes] of tiles.entries()) {
    if (hashes.length < TILE_WIDTH) return;
    yield tileFile(level, hashes, count);
    tiles[level] = [];
    const above = tiles[level + 1] ?? [];
    above.push(rootOf(hashes));
    tiles[level + 1] = above;
  }
}

function tileFile(level: number, hashes: readonly Uint8Array[], count: number): LogFile {
  const index = Math.floor((count - 1) / TILE_WIDTH ** (level + 1));
  const path = tilePath({ kind: 'hashes', level, index, width: hashes.length });
  return { path, bytes: Buffer.concat(hashes) };
}

function bundleFile(bundle: readonly Uint8Array[], count: number): LogFile {
  const index = Math.floor((count - 1) / TILE_WIDTH);
  return { path: tilePath({ kind: 'entries', index, width: bundle.length }), bytes: encodeBundle(bundle) };
}

/** The first `size` leaves; the source is asked for no more. */
async function* upTo(size: number, leaves: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let left = size;
  if (left === 0) return;
  for await (const leaf of leaves) {
    yield leaf;
    left -= 1;
    if (left === 0) return;
  }
}

async function* openingsFile(openings: ExportSource['openings']): AsyncGenerator<Uint8Array> {
  const size = openings?.bytes ?? 0;
  yield tarHeader(`${EXPORT_FOLDER}/openings.jsonl`, size);
  let left = size;
  for await (const chunk of openings?.chunks ?? []) {
    left -= chunk.length;
    if (left < 0) break;
    yield chunk;
  }
  if (left !== 0) throw new RangeError('the openings are not as long as they were said to be');
  yield tarPadding(size);
}

function* tarFile(name: string, bytes: Uint8Array): Generator<Uint8Array> {
  yield tarHeader(`${EXPORT_FOLDER}/${name}`, bytes.length);
  yield bytes;
  yield tarPadding(bytes.length);
}

function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}
