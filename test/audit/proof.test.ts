import { beforeAll, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { encodeCheckpoint, signNote } from '../../src/audit/note.ts';
import { encodeProof, parseProof, verifyProof } from '../../src/audit/proof.ts';
import { inclusionProof, leafHash, rootOf } from '../../src/audit/tree.ts';
import { bytesOf, leavesOf, nodesOf, testSigner } from './trees.ts';

const LEAVES = leavesOf(70);
const HASHES = LEAVES.map(leafHash);
const signer = testSigner('log.example/a', 1);
const log = { origin: 'log.example/a', keys: [signer] };
const read = nodesOf(HASHES);

async function checkpointOf(size: number, origin = log.origin, by = signer): Promise<string> {
  return signNote(encodeCheckpoint({ origin, size, root: rootOf(HASHES.slice(0, size)) }), by);
}

async function proofOf(index: number, size: number): Promise<string> {
  return encodeProof({
    index,
    hashes: await inclusionProof(index, size, read),
    checkpoint: await checkpointOf(size),
  });
}

let proof = '';
beforeAll(async () => {
  proof = await proofOf(41, 70);
});

test('each entry of each size is proved by its own text', async () => {
  for (const size of [1, 2, 7, 64, 70]) {
    for (let index = 0; index < size; index += 1) {
      const text = await proofOf(index, size);
      expect(verifyProof(text, bytesOf(LEAVES[index]), log)).toMatchObject({ index, checkpoint: { size } });
      expect(verifyProof(text, bytesOf(LEAVES[(index + 1) % 70]), log)).toBeUndefined();
    }
  }
});

describe('a proof is refused', () => {
  test('for another origin or another key', async () => {
    const entry = bytesOf(LEAVES[41]);
    expect(verifyProof(proof, entry, log)).toBeDefined();
    expect(verifyProof(proof, entry, { ...log, origin: 'log.example/b' })).toBeUndefined();
    expect(verifyProof(proof, entry, { ...log, keys: [testSigner('log.example/a', 2)] })).toBeUndefined();
    const foreign = {
      ...(parseProof(proof) ?? { index: 0, hashes: [] }),
      checkpoint: await checkpointOf(70, 'log.example/b'),
    };
    expect(verifyProof(encodeProof(foreign), entry, log)).toBeUndefined();
  });

  test("whatever character is changed, but for the origin's own key name", () => {
    fc.assert(
      fc.property(fc.nat(proof.length - 1), fc.string({ unit: 'binary', maxLength: 2 }), (at, put) => {
        const changed = proof.slice(0, at) + put + proof.slice(at + 1);
        fc.pre(changed !== proof);
        expect(verifyProof(changed, bytesOf(LEAVES[41]), log)).toBeUndefined();
      }),
    );
  });

  test.each<[string, (text: string) => string]>([
    ['another first line', (text) => text.replace('@v1', '@v2')],
    ['a leading zero', (text) => text.replace('index 41', 'index 041')],
    ['no index', (text) => text.replace('index 41\n', '')],
    ['extra data that is not base64', (text) => text.replace('index', 'extra ?\nindex')],
    ['extra data twice', (text) => text.replace('index', 'extra AA==\nextra AA==\nindex')],
    ['a carriage return', (text) => text.replace('\n', '\r\n')],
    ['a hash too many', (text) => text.replace('\n\n', `\n${'A'.repeat(43)}=\n\n`)],
    ['a short hash', (text) => text.replace('\n\n', '\nAAAA\n\n')],
    ['54 hashes', (text) => text.replace('\n\n', `\n${`${'A'.repeat(43)}=\n`.repeat(54)}\n`)],
    ['no checkpoint', (text) => text.slice(0, text.indexOf('\n\n') + 2)],
  ])('with %s', (_, change) => {
    expect(change(proof)).not.toBe(proof);
    expect(verifyProof(change(proof), bytesOf(LEAVES[41]), log)).toBeUndefined();
  });
});

test('extra data is skipped, since nothing authenticates it', () => {
  const extra = proof.replace('index', 'extra AAEC\nindex');
  expect(verifyProof(extra, bytesOf(LEAVES[41]), log)?.index).toBe(41);
});

test('what cannot be read back is not written', async () => {
  const checkpoint = await checkpointOf(70);
  for (const bad of [{ index: -1 }, { hashes: [new Uint8Array(31)] }, { checkpoint: 'none' }]) {
    expect(() => encodeProof({ index: 0, hashes: [], checkpoint, ...bad })).toThrow(RangeError);
  }
});
