import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  decodeBundle,
  decodeTile,
  encodeBundle,
  encodeTile,
  parseTilePath,
  type Tile,
  tilePath,
  tileReader,
  tilesOf,
  widthAt,
} from '../../src/audit/tiles.ts';
import {
  consistencyProof,
  inclusionProof,
  leafHash,
  type ReadNode,
  rootFromNodes,
} from '../../src/audit/tree.ts';
import { leavesOf, nodesOf } from './trees.ts';

describe('paths', () => {
  test.each<[Tile, string]>([
    [{ kind: 'hashes', level: 0, index: 0, width: 256 }, 'tile/0/000'],
    [{ kind: 'hashes', level: 1, index: 1_234_067, width: 256 }, 'tile/1/x001/x234/067'],
    [{ kind: 'hashes', level: 63, index: 999, width: 255 }, 'tile/63/999.p/255'],
    [{ kind: 'entries', index: 1000, width: 1 }, 'tile/entries/x001/000.p/1'],
    [
      { kind: 'entries', index: Number.MAX_SAFE_INTEGER, width: 256 },
      'tile/entries/x009/x007/x199/x254/x740/991',
    ],
  ])('%j is %s', (tile, path) => {
    expect(tilePath(tile)).toBe(path);
    expect(parseTilePath(path)).toEqual(tile);
  });

  test.each([
    '',
    'checkpoint',
    'tile/0',
    'tile/0/0',
    'tile/0/00',
    'tile/0/0000',
    'tile/00/000',
    'tile/64/000',
    'tile/-1/000',
    'tile/entry/000',
    'tile/0/x000/067',
    'tile/0/001/067',
    'tile/0/x001',
    'tile/0/x001/x067',
    'tile/0/000.p/0',
    'tile/0/000.p/256',
    'tile/0/000.p/01',
    'tile/0/000.p/',
    'tile/0/000.p',
    'tile/0/000/',
    '/tile/0/000',
    'tile/0/000\n',
    'tile/0/../000',
    'tile/0/x009/x007/x199/x254/x740/992',
    'tile/0/x999/x999/x999/x999/x999/999',
    'tile/0/x001/x000/x000/x000/x000/x000/000',
    'tile/0/٠٠٠',
  ])('%j is no path', (path) => {
    expect(parseTilePath(path)).toBeUndefined();
  });

  test('every tile has one path, and it is read back', () => {
    const index = fc.nat({ max: Number.MAX_SAFE_INTEGER });
    const width = fc.integer({ min: 1, max: 256 });
    fc.assert(
      fc.property(index, width, fc.option(fc.nat(63)), (at, wide, level) => {
        const tile: Tile =
          level === null
            ? { kind: 'entries', index: at, width: wide }
            : { kind: 'hashes', level, index: at, width: wide };
        expect(parseTilePath(tilePath(tile))).toEqual(tile);
      }),
    );
  });

  test('what is no tile has no path', () => {
    const good = { kind: 'hashes', level: 0, index: 0, width: 1 } as const;
    for (const bad of [
      { level: 64 },
      { level: -1 },
      { width: 0 },
      { width: 257 },
      { index: -1 },
      { index: 0.5 },
    ]) {
      expect(() => tilePath({ ...good, ...bad })).toThrow(RangeError);
    }
  });
});

describe('the files of a log', () => {
  test('of 70,000 entries are those of the example in the specification', () => {
    const tiles = [...tilesOf(70_000)];
    const count = (level: number, full: boolean) =>
      tiles.filter((tile) => tile.kind === 'hashes' && tile.level === level && (tile.width === 256) === full);
    expect(count(0, true)).toHaveLength(273);
    expect(count(0, false).map(tilePath)).toEqual(['tile/0/273.p/112']);
    expect(count(1, true).map(tilePath)).toEqual(['tile/1/000']);
    expect(count(1, false).map(tilePath)).toEqual(['tile/1/001.p/17']);
    expect(count(2, false).map(tilePath)).toEqual(['tile/2/000.p/1']);
    expect(tiles.filter((tile) => tile.kind === 'entries')).toHaveLength(274);
    expect(tiles).toHaveLength(273 + 1 + 1 + 1 + 1 + 274);
  });

  test('of 0 and of 256 entries hold no empty tile', () => {
    expect([...tilesOf(0)]).toEqual([]);
    expect([...tilesOf(256)].map(tilePath)).toEqual(['tile/0/000', 'tile/1/000.p/1', 'tile/entries/000']);
    expect(widthAt(0, 1, 256)).toBe(0);
    expect(widthAt(3, 0, 256)).toBe(0);
  });

  test('are enough for every root and proof', async () => {
    const size = 66_000;
    const nodes = nodesOf(leavesOf(size).map(leafHash));
    const files = new Map<string, Uint8Array>();
    for (const tile of tilesOf(size)) {
      if (tile.kind === 'hashes') files.set(tilePath(tile), await encodeTile(tile, nodes));
    }
    const asked: string[] = [];
    const tiled = () =>
      tileReader(size, (level, index, width) => {
        const path = tilePath({ kind: 'hashes', level, index, width });
        asked.push(path);
        return files.get(path) ?? new Uint8Array();
      });
    const both = async (make: (read: ReadNode) => Promise<unknown>) =>
      expect(await make(tiled())).toEqual(await make(nodes));
    for (const at of [1, 255, 256, 257, 65_535, 65_536, 65_999, size]) {
      await both(async (read) => Buffer.from(await rootFromNodes(at, read)).toString('hex'));
      await both(async (read) =>
        (await inclusionProof(at - 1, size, read)).map((h) => Buffer.from(h).toString('hex')),
      );
      await both(async (read) =>
        (await consistencyProof(at, size, read)).map((h) => Buffer.from(h).toString('hex')),
      );
    }
    asked.length = 0;
    await inclusionProof(300, size, tiled());
    expect(new Set(asked).size).toBe(asked.length);
    expect(asked.length).toBeLessThanOrEqual(5);
    await expect((async () => tiled()(0, size))()).rejects.toThrow(RangeError);
  });
});

describe('bundles', () => {
  test('hold entries of each length, and are read back', () => {
    const entries = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 10 });
    fc.assert(
      fc.property(entries, (list) => {
        const bundle = encodeBundle(list);
        expect(decodeBundle(bundle, list.length).map((entry) => [...entry])).toEqual(
          list.map((entry) => [...entry]),
        );
        expect(() => decodeBundle(bundle, list.length + 1)).toThrow(RangeError);
        expect(() => decodeBundle(Buffer.concat([bundle, Uint8Array.of(0)]), list.length)).toThrow(
          RangeError,
        );
        if (list.length > 0)
          expect(() => decodeBundle(bundle.subarray(0, -1), list.length)).toThrow(RangeError);
      }),
    );
    expect([...encodeBundle([Uint8Array.of(7)])]).toEqual([0, 1, 7]);
  });

  test('the longest entry has 65,535 bytes', () => {
    expect(decodeBundle(encodeBundle([new Uint8Array(65_535)]), 1)[0]).toHaveLength(65_535);
    expect(() => encodeBundle([new Uint8Array(65_536)])).toThrow(RangeError);
  });

  test('a tile is as long as its hashes', () => {
    expect(decodeTile(new Uint8Array(64), 2)).toHaveLength(2);
    expect(() => decodeTile(new Uint8Array(64), 1)).toThrow(RangeError);
    expect(() => decodeTile(new Uint8Array(63), 2)).toThrow(RangeError);
  });
});
