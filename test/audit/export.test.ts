import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { exportLog } from '../../src/audit/export.ts';
import { encodeCheckpoint, encodeVerifierKey, signNote } from '../../src/audit/note.ts';
import { tarHeader } from '../../src/audit/tar.ts';
import { tilePath, tilesOf } from '../../src/audit/tiles.ts';
import { leafHash, rootOf } from '../../src/audit/tree.ts';
import type { Database } from '../../src/store/db.ts';
import { appendUnits, readEntries, readHead } from '../../src/store/log.ts';
import { createTenant } from '../../src/store/tenants.ts';
import { openTestPostgres, type TestDatabase } from '../support/database.ts';
import { WRITER } from '../support/log-units.ts';
import { archiveOf, checkpointOf, each, originOf, pack, recordsOf, unpack } from './exported.ts';
import { bytesOf, testSigner } from './trees.ts';

const signer = testSigner(originOf('ten_a'), 7);
const records = recordsOf('ten_a', 300);

async function sourceOf(list: readonly Uint8Array[] = records) {
  return { checkpoint: await checkpointOf(list, signer), key: signer, leaves: each(list) };
}

describe('an export', () => {
  test('holds every file of the log and what its reader needs, and nothing else', async () => {
    const files = unpack(await archiveOf(await sourceOf()));
    const log = [...tilesOf(300)].map((tile) => `log/${tilePath(tile)}`);
    const rest = [
      'README.txt',
      'log.vkey',
      'log.pem',
      'note.txt',
      'note.sig',
      'log/checkpoint',
      'openings.jsonl',
    ];
    expect([...files.keys()].sort()).toEqual([...log, ...rest].sort());
    expect(Buffer.from(bytesOf(files.get('log.vkey'))).toString()).toBe(`${encodeVerifierKey(signer)}\n`);
    expect(files.get('note.sig')).toHaveLength(64);
    expect(files.get('openings.jsonl')).toHaveLength(0);
  });

  test('has the same bytes each time, however the leaves arrive', async () => {
    const once = await archiveOf(await sourceOf());
    async function* slowly() {
      for (const record of records) {
        await Promise.resolve();
        yield Buffer.from(record);
      }
    }
    expect((await archiveOf({ ...(await sourceOf()), leaves: slowly() })).equals(once)).toBe(true);
    expect(pack(unpack(once)).equals(once)).toBe(true);
  });

  test('of an older checkpoint asks for no more leaves than that counts', async () => {
    let asked = 0;
    async function* counted() {
      for (const record of records) {
        asked += 1;
        yield record;
      }
    }
    const checkpoint = await checkpointOf(records.slice(0, 257), signer);
    const archive = await archiveOf({ checkpoint, key: signer, leaves: counted() });
    expect(asked).toBe(257);
    expect(archive.equals(await archiveOf(await sourceOf(records.slice(0, 257))))).toBe(true);
  });

  test('carries openings of the length that was said', async () => {
    const lines = Buffer.from('{"i":1}\n{"i":2}\n');
    const openings = { bytes: lines.length, chunks: each([lines.subarray(0, 5), lines.subarray(5)]) };
    const files = unpack(await archiveOf({ ...(await sourceOf()), openings }));
    expect(Buffer.from(bytesOf(files.get('openings.jsonl'))).equals(lines)).toBe(true);
    for (const bytes of [lines.length - 1, lines.length + 1]) {
      const wrong = { ...(await sourceOf()), openings: { bytes, chunks: each([lines]) } };
      await expect(archiveOf(wrong)).rejects.toThrow(RangeError);
    }
  });

  test('of another key, another origin or other leaves does not come out', async () => {
    const source = await sourceOf();
    const other = testSigner(originOf('ten_b'), 7);
    const checkpoint = encodeCheckpoint({ origin: other.name, size: 0, root: rootOf([]) });
    for (const wrong of [
      { ...source, key: testSigner(originOf('ten_a'), 8) },
      { ...source, checkpoint: 'no note' },
      { ...source, checkpoint: await signNote(checkpoint, signer) },
      { ...source, checkpoint: await signNote('three\nother\nlines\n', signer) },
    ]) {
      await expect(exportLog(wrong).next()).rejects.toThrow(RangeError);
    }
    await expect(archiveOf({ ...source, leaves: each(records.slice(0, 299)) })).rejects.toThrow(RangeError);
    await expect(archiveOf({ ...source, leaves: each(records.toReversed()) })).rejects.toThrow(RangeError);
  });

  test('has names and sizes that a ustar header holds', () => {
    for (const name of ['', 'a b', 'é', 'x'.repeat(101)])
      expect(() => tarHeader(name, 0)).toThrow(RangeError);
    for (const size of [-1, 0.5, 8 ** 11]) expect(() => tarHeader('a', size)).toThrow(RangeError);
    expect(tarHeader('x'.repeat(100), 8 ** 11 - 1)).toHaveLength(512);
  });
});

describe('the log of one tenant from a database with others', () => {
  let opened: TestDatabase;
  beforeAll(async () => {
    opened = await openTestPostgres();
  });
  afterAll(() => opened?.drop());

  /** Event ids that depend on the place only, so that the same leaves can be appended twice. */
  const eidOf = (tenant: string, index: number) =>
    createHash('sha256').update(`${tenant} ${index}`).digest().subarray(0, 16);

  async function append(database: Database, tenant: string, leaves: readonly Uint8Array[], from: number) {
    const rows = leaves.map((leaf, at) => ({ eid: eidOf(tenant, from + at), leaf, guarded: false }));
    await appendUnits(database, WRITER, [{ tenant, kind: 'plain', rows }]);
  }

  async function exported(database: Database, tenant: string): Promise<Buffer> {
    return database.transaction(
      tenant,
      async (tx) => {
        const { size, root } = await readHead(tx);
        const by = testSigner(originOf('ten_a'), 7);
        const checkpoint = await signNote(encodeCheckpoint({ origin: by.name, size, root }), by);
        async function* leaves() {
          for (let from = 0; from < size; from += 100) {
            for (const entry of await readEntries(tx, from, 100)) yield entry.leaf;
          }
        }
        return archiveOf({ checkpoint, key: by, leaves: leaves() });
      },
      { logs: [] },
    );
  }

  test('has the same bytes with and without their traffic', async () => {
    const [alone, between, other] = ['ten_alone', 'ten_between', 'ten_other'];
    for (const tenant of [alone, between, other]) {
      await opened.database.transaction(tenant, (tx) => createTenant(tx, tenant));
    }
    const noise = recordsOf(other, 300);
    await append(opened.database, alone, records, 0);
    for (let from = 0; from < 300; from += 50) {
      await append(opened.database, other, noise.slice(from, from + 50), from);
      await append(opened.database, between, records.slice(from, from + 50), from);
    }
    const archive = await exported(opened.database, between);
    expect(archive.equals(await exported(opened.database, alone))).toBe(true);
    expect(archive.equals(await archiveOf(await sourceOf()))).toBe(true);
    expect(archive.includes('ten_other')).toBe(false);
  });

  test('has the root that the database keeps', async () => {
    const tenant = 'ten_root';
    await opened.database.transaction(tenant, (tx) => createTenant(tx, tenant));
    await append(opened.database, tenant, records, 0);
    const head = await opened.database.transaction(tenant, readHead, { logs: [] });
    expect(Buffer.compare(head.root, rootOf(records.map(leafHash)))).toBe(0);
  });
});
