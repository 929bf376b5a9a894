import { readdirSync, readFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from '@jest/globals';
import { parseCheckpoint, parseVerifierKey, verifyNote } from '../../src/audit/note.ts';
import { verifyProof } from '../../src/audit/proof.ts';
import { decodeBundle, decodeTile } from '../../src/audit/tiles.ts';
import { leafHash, rootOf, verifyConsistency, verifyInclusion } from '../../src/audit/tree.ts';
import { bytesOf } from './trees.ts';
import { auditVectors, VECTOR_ORIGIN } from './vector-source.ts';

const folder = new URL('../vectors/audit/', import.meta.url);
const names = readdirSync(folder).filter((name) => name !== 'README.md');
const stored = (name: string) => readFileSync(new URL(name, folder), 'utf8');
const linesOf = (name: string) => stored(name).trimEnd().split('\n');
const base64 = (text: string | undefined) => new Uint8Array(Buffer.from(text ?? '', 'base64'));
const records = linesOf('records.jsonl').map((line) => new TextEncoder().encode(line));
const hashes = linesOf('leaf-hashes.txt').map(base64);

describe('stored vectors', () => {
  let computed: Map<string, string>;
  beforeAll(async () => {
    computed = await auditVectors();
  });

  test('are what the program gives', () => {
    expect([...computed.keys()].sort()).toEqual([...names].sort());
    for (const [name, text] of computed) expect([name, stored(name)]).toEqual([name, text]);
  });

  test('hold together: records, tiles, checkpoints and proofs', () => {
    const key = parseVerifierKey(stored('log.vkey').trim());
    if (key === undefined) throw new Error('no key');
    const [older, newer] = ['checkpoint-4', 'checkpoint'].map((name) => {
      const note = verifyNote(stored(name), [key]);
      const checkpoint = note && parseCheckpoint(note.text);
      if (checkpoint === undefined) throw new Error(`${name} does not verify`);
      return checkpoint;
    });
    if (older === undefined || newer === undefined) throw new Error('no checkpoints');
    expect(newer).toMatchObject({ origin: VECTOR_ORIGIN, size: records.length });
    expect(records.map((record) => Buffer.from(leafHash(record)))).toEqual(
      hashes.map((hash) => Buffer.from(hash)),
    );
    expect(Buffer.compare(rootOf(hashes), newer.root)).toBe(0);
    const grown = linesOf('consistency-4-9.txt').map(base64);
    expect(verifyConsistency(older.size, newer.size, older.root, newer.root, grown)).toBe(true);
    const proof = verifyProof(stored('record-6.tlog-proof'), bytesOf(records[6]), {
      origin: VECTOR_ORIGIN,
      keys: [key],
    });
    expect(proof?.index).toBe(6);
    expect(decodeTile(base64(stored('tile-0-000.p-9.base64')), 9)).toEqual(hashes);
    expect(decodeBundle(base64(stored('tile-entries-000.p-9.base64')), 9)).toEqual(records);
  });

  test('of small trees verify', () => {
    const tree = JSON.parse(stored('tree.json')) as {
      roots: string[];
      inclusion: { index: number; size: number; proof: string[] };
      consistency: { from: number; to: number; proof: string[] };
    };
    const root = (size: number) => base64(tree.roots[size]);
    const { index, size, proof } = tree.inclusion;
    const leaf = leafHash(new TextEncoder().encode(String(index)));
    expect(verifyInclusion(index, size, leaf, proof.map(base64), root(size))).toBe(true);
    const { from, to } = tree.consistency;
    expect(verifyConsistency(from, to, root(from), root(to), tree.consistency.proof.map(base64))).toBe(true);
  });
});

/** Leaves and roots of github.com/transparency-dev/merkle v0.0.2, testonly/constants.go (Apache-2.0); in Certificate Transparency before. */
const PUBLISHED = [
  ['', '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d'],
  ['00', 'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125'],
  ['10', 'aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77'],
  ['2021', 'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7'],
  ['3031', '4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4'],
  ['40414243', '76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef'],
  ['5051525354555657', 'ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c'],
  ['606162636465666768696a6b6c6d6e6f', '5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328'],
] as const;

test('published roots are ours', () => {
  const leaves = PUBLISHED.map(([leaf]) => leafHash(Buffer.from(leaf, 'hex')));
  for (const [at, [, root]] of PUBLISHED.entries()) {
    expect(Buffer.from(rootOf(leaves.slice(0, at + 1))).toString('hex')).toBe(root);
  }
});

describe('the page', () => {
  const page = readFileSync(new URL('../../src/audit/FORMAT.md', import.meta.url), 'utf8');
  const blocks = [...page.matchAll(/^```(text|hex) (\S+)\n([^`]*)^```/gm)].map(
    ([, kind = '', name = '', text = '']) => ({ kind, name, text }),
  );

  test('shows every type of record and every format', () => {
    const isRecord = (name: string) => /^record-[0-9]+$/.test(name);
    const shown = blocks.map(({ name }) => name).filter(isRecord);
    expect(shown.sort()).toEqual(records.map((_, index) => `record-${index}`));
    const rest = ['checkpoint', 'log.vkey', 'record-6.tlog-proof', 'consistency-4-9.txt'];
    expect(
      blocks.filter(({ kind, name }) => kind === 'text' && !isRecord(name)).map(({ name }) => name),
    ).toEqual(rest);
    expect(blocks.filter(({ kind }) => kind === 'hex')).toHaveLength(2);
    const types = new Set(records.map((record) => JSON.parse(Buffer.from(record).toString()).typ));
    for (const type of types) expect(page).toContain(`\n### ${type}\n`);
    expect(page.match(/^### /gm)).toHaveLength(types.size);
  });

  test.each(blocks)('its example $name is the vector', ({ kind, name, text }) => {
    const [, record] = /^record-([0-9]+)$/.exec(name) ?? [];
    if (record !== undefined) {
      expect(text.trim()).toBe(linesOf('records.jsonl')[Number(record)]);
    } else if (kind === 'text') {
      expect(text).toBe(stored(name));
    } else {
      const shown = text.trim().replaceAll(' ', '');
      expect(shown).toHaveLength(32);
      expect(Buffer.from(stored(name), 'base64').toString('hex').startsWith(shown)).toBe(true);
    }
  });

  test('names every field that a record of each type has', () => {
    for (const record of records) {
      for (const field of Object.keys(JSON.parse(Buffer.from(record).toString()))) {
        expect(page).toContain(`\`${field}\``);
      }
    }
  });
});
