/**
 * The Merkle tree of a log: RFC 6962, section 2.1, with SHA-256; the checks are those of RFC 9162, sections 2.1.3 and 2.1.4.
 * Sizes and indices are safe integers. A perfect subtree is named by its level (0: leaves) and its index within the level;
 * it covers the leaves [index · 2^level, (index + 1) · 2^level).
 */
import { createHash } from 'node:crypto';

export const HASH_BYTES = 32;

export interface NodeId {
  readonly level: number;
  readonly index: number;
}

/** Gives the 32-byte hash of a perfect subtree. Calls of one proof come at once, so a reader may answer them together. */
export type ReadNode = (level: number, index: number) => Uint8Array | Promise<Uint8Array>;

/** SHA-256(0x00 ‖ leaf), 32 bytes. */
export function leafHash(leaf: Uint8Array): Uint8Array {
  return createHash('sha256').update(Uint8Array.of(0)).update(leaf).digest();
}

/** SHA-256(0x01 ‖ left ‖ right), 32 bytes. */
export function nodeHash(left: Uint8Array, right: Uint8Array): Uint8Array {
  return createHash('sha256').update(Uint8Array.of(1)).update(left).update(right).digest();
}

/** The root of the tree without leaves: SHA-256 of nothing. */
export function emptyRoot(): Uint8Array {
  return createHash('sha256').digest();
}

/** The root over these leaf hashes (or over any row of equally high perfect subtrees, in order). */
export function rootOf(hashes: readonly Uint8Array[]): Uint8Array {
  return frontierRoot(
    hashes.reduce<readonly Uint8Array[]>(
      (frontier, hash, size) => appendToFrontier(frontier, size, hash),
      [],
    ),
  );
}

/** The perfect subtrees that cover [from, to), left to right. `from` must be a multiple of a power of two ≥ to − from, or 0. */
export function subtrees(from: number, to: number): NodeId[] {
  const nodes: NodeId[] = [];
  let at = from;
  while (at < to) {
    let level = 0;
    while (at % 2 ** (level + 1) === 0 && at + 2 ** (level + 1) <= to) level += 1;
    nodes.push({ level, index: at / 2 ** level });
    at += 2 ** level;
  }
  return nodes;
}

/** The frontier of a tree of `size` leaves: the perfect subtrees whose hashes give its root, largest first. */
export function frontier(size: number): NodeId[] {
  checkSize(size);
  return subtrees(0, size);
}

/** The frontier's hashes after one more leaf. `size`: leaves before it. The given list is not changed. */
export function appendToFrontier(
  hashes: readonly Uint8Array[],
  size: number,
  leaf: Uint8Array,
): Uint8Array[] {
  const next = [...hashes];
  let last = leaf;
  for (let rest = size; rest % 2 === 1; rest = Math.floor(rest / 2)) {
    const left = next.pop();
    if (left === undefined) throw new RangeError('the frontier does not belong to this size');
    last = nodeHash(left, last);
  }
  next.push(last);
  return next;
}

/** The root over the hashes of a frontier, largest subtree first. */
export function frontierRoot(hashes: readonly Uint8Array[]): Uint8Array {
  if (hashes.length === 0) return emptyRoot();
  return hashes.reduceRight((right, left) => nodeHash(left, right));
}

/** The root of the first `size` leaves. Rejects as the reader does. */
export async function rootFromNodes(size: number, read: ReadNode): Promise<Uint8Array> {
  checkSize(size);
  return rangeHash({ from: 0, to: size }, read);
}

/**
 * The inclusion proof of RFC 6962, 2.1.1: from the leaf's sibling up to the root's child.
 * Throws RangeError unless 0 ≤ index < size; rejects as the reader does.
 */
export async function inclusionProof(index: number, size: number, read: ReadNode): Promise<Uint8Array[]> {
  checkSize(size);
  checkSize(index);
  if (index >= size) throw new RangeError('the index lies outside the tree');
  return Promise.all(siblings(index, 0, size).map((range) => rangeHash(range, read)));
}

/**
 * The consistency proof of RFC 6962, 2.1.2, that the first tree is a prefix of the second; empty where from is 0 or `to`.
 * Throws RangeError unless 0 ≤ from ≤ to; rejects as the reader does.
 */
export async function consistencyProof(from: number, to: number, read: ReadNode): Promise<Uint8Array[]> {
  checkSize(from);
  checkSize(to);
  if (from > to) throw new RangeError('a tree does not shrink');
  if (from === 0 || from === to) return [];
  return Promise.all(consistencyRanges(from, to).map((range) => rangeHash(range, read)));
}

/** Whether `proof` shows that the leaf hash stands at `index` of the tree of `size` leaves with this root. Never throws. */
export function verifyInclusion(
  index: number,
  size: number,
  leaf: Uint8Array,
  proof: readonly Uint8Array[],
  root: Uint8Array,
): boolean {
  if (!isSize(index) || !isSize(size) || index >= size) return false;
  if (![leaf, root, ...proof].every(isHash)) return false;
  let at = index;
  let last = size - 1;
  let hash = leaf;
  for (const sibling of proof) {
    if (last === 0) return false;
    if (at % 2 === 1 || at === last) {
      hash = nodeHash(sibling, hash);
      while (at % 2 === 0 && at !== 0) {
        at /= 2;
        last = Math.floor(last / 2);
      }
    } else {
      hash = nodeHash(hash, sibling);
    }
    at = Math.floor(at / 2);
    last = Math.floor(last / 2);
  }
  return last === 0 && equal(hash, root);
}

/**
 * Whether `proof` shows that the tree of `from` leaves and root `fromRoot` is a prefix of the tree of `to` leaves and
 * root `toRoot`. The empty tree is a prefix of every tree, by the empty proof. Never throws.
 */
export function verifyConsistency(
  from: number,
  to: number,
  fromRoot: Uint8Array,
  toRoot: Uint8Array,
  proof: readonly Uint8Array[],
): boolean {
  if (!isSize(from) || !isSize(to) || from > to) return false;
  if (![fromRoot, toRoot, ...proof].every(isHash)) return false;
  if (to === 0 && !equal(toRoot, emptyRoot())) return false;
  if (from === 0) return proof.length === 0 && equal(fromRoot, emptyRoot());
  if (from === to) return proof.length === 0 && equal(fromRoot, toRoot);
  const path = isPowerOfTwo(from) ? [fromRoot, ...proof] : proof;
  const [seed, ...rest] = path;
  if (seed === undefined) return false;
  let at = from - 1;
  let last = to - 1;
  while (at % 2 === 1) {
    at = Math.floor(at / 2);
    last = Math.floor(last / 2);
  }
  let older = seed;
  let newer = seed;
  for (const hash of rest) {
    if (last === 0) return false;
    if (at % 2 === 1 || at === last) {
      older = nodeHash(hash, older);
      newer = nodeHash(hash, newer);
      while (at % 2 === 0 && at !== 0) {
        at /= 2;
        last = Math.floor(last / 2);
      }
    } else {
      newer = nodeHash(newer, hash);
    }
    at = Math.floor(at / 2);
    last = Math.floor(last / 2);
  }
  return last === 0 && equal(older, fromRoot) && equal(newer, toRoot);
}

interface Range {
  readonly from: number;
  readonly to: number;
}

/** What stands beside the path from the leaf to the root of [from, to), nearest first. */
function siblings(leaf: number, from: number, to: number): Range[] {
  const ranges: Range[] = [];
  let low = from;
  let high = to;
  while (high - low > 1) {
    const middle = low + split(high - low);
    if (leaf < middle) {
      ranges.push({ from: middle, to: high });
      high = middle;
    } else {
      ranges.push({ from: low, to: middle });
      low = middle;
    }
  }
  return ranges.reverse();
}

function consistencyRanges(from: number, to: number): Range[] {
  const ranges: Range[] = [];
  let low = 0;
  let high = to;
  while (high !== from) {
    const middle = low + split(high - low);
    if (from <= middle) {
      ranges.push({ from: middle, to: high });
      high = middle;
    } else {
      ranges.push({ from: low, to: middle });
      low = middle;
    }
  }
  // A subtree that begins at 0 is the older tree itself, whose root the verifier has.
  if (low !== 0) ranges.push({ from: low, to: high });
  return ranges.reverse();
}

async function rangeHash(range: Range, read: ReadNode): Promise<Uint8Array> {
  const nodes = subtrees(range.from, range.to);
  return frontierRoot(await Promise.all(nodes.map((node) => read(node.level, node.index))));
}

/** The largest power of two below `width`, which is at least 2. */
function split(width: number): number {
  let power = 1;
  while (power * 2 < width) power *= 2;
  return power;
}

function isPowerOfTwo(size: number): boolean {
  return split(size + 1) === size;
}

function isSize(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}

function checkSize(value: number): void {
  if (!isSize(value)) throw new RangeError('not a size or an index of a tree');
}

function isHash(value: Uint8Array): boolean {
  return value.length === HASH_BYTES;
}

function equal(left: Uint8Array, right: Uint8Array): boolean {
  return left.every((byte, at) => byte === right[at]);
}
