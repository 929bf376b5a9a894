import { createHash } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  appendToFrontier,
  consistencyProof,
  emptyRoot,
  frontier,
  frontierRoot,
  inclusionProof,
  leafHash,
  nodeHash,
  type ReadNode,
  rootFromNodes,
  rootOf,
  verifyConsistency,
  verifyInclusion,
} from '../../src/audit/tree.ts';
import { bytesOf, leavesOf, nodesOf } from './trees.ts';

const MOST = 70;
const LEAVES = leavesOf(MOST);
const HASHES = LEAVES.map(leafHash);

/** MTH of RFC 6962, 2.1, word for word, over entries. */
function mth(entries: readonly Uint8Array[]): Buffer {
  const sha256 = (...parts: Uint8Array[]) => createHash('sha256').update(Buffer.concat(parts)).digest();
  const [only] = entries;
  if (only === undefined) return sha256();
  if (entries.length === 1) return sha256(Uint8Array.of(0), only);
  const k = below(entries.length);
  return sha256(Uint8Array.of(1), mth(entries.slice(0, k)), mth(entries.slice(k)));
}

/** PATH of RFC 6962, 2.1.1. */
function path(m: number, entries: readonly Uint8Array[]): Buffer[] {
  if (entries.length === 1) return [];
  const k = below(entries.length);
  if (m < k) return [...path(m, entries.slice(0, k)), mth(entries.slice(k))];
  return [...path(m - k, entries.slice(k)), mth(entries.slice(0, k))];
}

/** SUBPROOF of RFC 6962, 2.1.2. */
function subproof(m: number, entries: readonly Uint8Array[], complete: boolean): Buffer[] {
  if (m === entries.length) return complete ? [] : [mth(entries)];
  const k = below(entries.length);
  if (m <= k) return [...subproof(m, entries.slice(0, k), complete), mth(entries.slice(k))];
  return [...subproof(m - k, entries.slice(k), false), mth(entries.slice(0, k))];
}

function below(n: number): number {
  return 2 ** Math.floor(Math.log2(n - 1));
}

const text = (hashes: readonly Uint8Array[]) => hashes.map((hash) => Buffer.from(hash).toString('hex'));
const same = (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) === 0;
const read = nodesOf(HASHES);

describe('roots', () => {
  test('are those of the definition for each size', async () => {
    for (let size = 0; size <= MOST; size += 1) {
      const expected = mth(LEAVES.slice(0, size));
      expect(same(rootOf(HASHES.slice(0, size)), expected)).toBe(true);
      expect(same(await rootFromNodes(size, read), expected)).toBe(true);
    }
  });

  test('grow leaf by leaf from the frontier', () => {
    let hashes: readonly Uint8Array[] = [];
    for (const [size, leaf] of HASHES.entries()) {
      hashes = appendToFrontier(hashes, size, leaf);
      expect(hashes).toHaveLength(frontier(size + 1).length);
      expect(same(frontierRoot(hashes), mth(LEAVES.slice(0, size + 1)))).toBe(true);
    }
    expect(() => appendToFrontier([], 1, emptyRoot())).toThrow(RangeError);
  });
});

describe('proofs of the definition', () => {
  test('inclusion: every index of every size', async () => {
    for (let size = 1; size <= MOST; size += 1) {
      const root = rootOf(HASHES.slice(0, size));
      for (let index = 0; index < size; index += 1) {
        const proof = await inclusionProof(index, size, read);
        expect(text(proof)).toEqual(text(path(index, LEAVES.slice(0, size))));
        expect(verifyInclusion(index, size, bytesOf(HASHES[index]), proof, root)).toBe(true);
      }
    }
  });

  test('consistency: every pair of sizes', async () => {
    for (let to = 0; to <= MOST; to += 1) {
      const newer = rootOf(HASHES.slice(0, to));
      for (let from = 0; from <= to; from += 1) {
        const proof = await consistencyProof(from, to, read);
        const expected = from === 0 ? [] : subproof(from, LEAVES.slice(0, to), true);
        expect(text(proof)).toEqual(text(expected));
        expect(verifyConsistency(from, to, rootOf(HASHES.slice(0, from)), newer, proof)).toBe(true);
      }
    }
  });
});

const size = fc.integer({ min: 1, max: MOST });
const flip = (bytes: Uint8Array, bit: number) =>
  bytes.map((byte, at) => (at === bit >> 3 ? byte ^ (1 << (bit & 7)) : byte));

/** Every way to spoil a proof of at least one hash, by number. */
function spoilt(proof: readonly Uint8Array[], way: number, at: number): Uint8Array[] {
  const place = at % Math.max(1, proof.length);
  if (way === 0) return proof.map((hash, index) => (index === place ? flip(hash, at % 256) : hash));
  if (way === 1) return proof.slice(0, -1);
  if (way === 2) return [...proof, emptyRoot()];
  if (way === 3) return proof.slice(1);
  return proof.map((hash, index) => (index === place ? hash.subarray(0, 31) : hash));
}

describe('proofs of something else are refused', () => {
  test('inclusion: another leaf, index, size, root or path', async () => {
    await fc.assert(
      fc.asyncProperty(size, fc.nat(), fc.nat(4), fc.nat(255), async (leaves, at, way, bit) => {
        const index = at % leaves;
        const proof = await inclusionProof(index, leaves, read);
        const root = rootOf(HASHES.slice(0, leaves));
        const leaf = bytesOf(HASHES[index]);
        expect(verifyInclusion(index, leaves, flip(leaf, bit), proof, root)).toBe(false);
        expect(verifyInclusion(index, leaves, leaf, proof, flip(root, bit))).toBe(false);
        expect(verifyInclusion(leaves, leaves, leaf, proof, root)).toBe(false);
        for (let other = 0; other < leaves; other += 1) {
          if (other !== index) expect(verifyInclusion(other, leaves, leaf, proof, root)).toBe(false);
        }
        const bad = spoilt(proof, way, bit);
        if (text(bad).join() !== text(proof).join()) {
          expect(verifyInclusion(index, leaves, leaf, bad, root)).toBe(false);
        }
      }),
    );
  });

  test('consistency: another older root, newer root, size or path', async () => {
    await fc.assert(
      fc.asyncProperty(size, fc.nat(), fc.nat(4), fc.nat(255), async (to, at, way, bit) => {
        const from = 1 + (at % to);
        const proof = await consistencyProof(from, to, read);
        const older = rootOf(HASHES.slice(0, from));
        const newer = rootOf(HASHES.slice(0, to));
        expect(verifyConsistency(from, to, flip(older, bit), newer, proof)).toBe(false);
        expect(verifyConsistency(from, to, older, flip(newer, bit), proof)).toBe(false);
        expect(verifyConsistency(to + 1, to, older, newer, proof)).toBe(false);
        const bad = spoilt(proof, way, bit);
        if (text(bad).join() !== text(proof).join()) {
          expect(verifyConsistency(from, to, older, newer, bad)).toBe(false);
        }
      }),
    );
  });

  test.each([-1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53])(
    'no size or index is %p',
    async (bad) => {
      const root = emptyRoot();
      expect(verifyInclusion(bad, 5, root, [], root)).toBe(false);
      expect(verifyInclusion(0, bad, root, [], root)).toBe(false);
      expect(verifyConsistency(bad, 5, root, root, [])).toBe(false);
      expect(verifyConsistency(1, bad, root, root, [])).toBe(false);
      await expect(inclusionProof(bad, 5, read)).rejects.toThrow(RangeError);
      await expect(inclusionProof(0, bad, read)).rejects.toThrow(RangeError);
      await expect(consistencyProof(bad, 5, read)).rejects.toThrow(RangeError);
      expect(() => frontier(bad)).toThrow(RangeError);
    },
  );

  test('a tree does not shrink, and the empty tree has one root', async () => {
    await expect(consistencyProof(3, 2, read)).rejects.toThrow(RangeError);
    await expect(inclusionProof(2, 2, read)).rejects.toThrow(RangeError);
    expect(verifyConsistency(0, 0, emptyRoot(), emptyRoot(), [])).toBe(true);
    expect(verifyConsistency(0, 0, emptyRoot(), leafHash(emptyRoot()), [])).toBe(false);
    expect(verifyConsistency(0, 3, leafHash(emptyRoot()), rootOf(HASHES.slice(0, 3)), [])).toBe(false);
    expect(verifyConsistency(0, 3, emptyRoot(), rootOf(HASHES.slice(0, 3)), [emptyRoot()])).toBe(false);
  });
});

test('sizes beyond 32 bits are proved with the nodes they name', async () => {
  const half = leafHash(emptyRoot());
  const asked: string[] = [];
  const far: ReadNode = (level, index) => {
    asked.push(`${level}/${index}`);
    return half;
  };
  const proof = await inclusionProof(2 ** 40, 2 ** 40 + 1, far);
  expect(asked).toEqual(['40/0']);
  expect(verifyInclusion(2 ** 40, 2 ** 40 + 1, half, proof, nodeHash(half, half))).toBe(true);
  expect(await consistencyProof(2 ** 52, 2 ** 52 + 1, far)).toHaveLength(1);
  expect(verifyConsistency(2 ** 52, 2 ** 52 + 1, half, nodeHash(half, half), [half])).toBe(true);
});
