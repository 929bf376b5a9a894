/** Trees for the tests of the log's formats. */
import { createPrivateKey } from 'node:crypto';
import { localSigner, type NoteSigner } from '../../src/audit/note.ts';
import { nodeHash, type ReadNode } from '../../src/audit/tree.ts';

/** Entries of different lengths, none equal. */
export function leavesOf(count: number): Uint8Array[] {
  return Array.from({ length: count }, (_, index) =>
    new TextEncoder().encode(JSON.stringify({ n: index, pad: 'x'.repeat(index % 17) })),
  );
}

/** The nodes over leaf hashes, from all levels kept in memory. */
export function nodesOf(hashes: readonly Uint8Array[]): ReadNode {
  const levels: Uint8Array[][] = [[...hashes]];
  for (let below = levels[0] ?? []; below.length > 1; below = levels.at(-1) ?? []) {
    const level: Uint8Array[] = [];
    for (let at = 0; at + 1 < below.length; at += 2) {
      level.push(nodeHash(bytesOf(below[at]), bytesOf(below[at + 1])));
    }
    levels.push(level);
  }
  return (level, index) => bytesOf(levels[level]?.[index]);
}

export function bytesOf(bytes: Uint8Array | undefined): Uint8Array {
  if (bytes === undefined) throw new RangeError('there is no such node');
  return bytes;
}

/** A signer whose key is 32 bytes of this number: no secret, and the same each time. */
export function testSigner(name: string, number: number): NoteSigner {
  const seed = Buffer.alloc(32, number);
  const pkcs8 = Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), seed]);
  return localSigner(name, createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' }));
}
