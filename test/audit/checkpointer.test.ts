/** From a log in the database to signed checkpoints, tiles and proofs that other code verifies. */
import { afterEach, describe, expect, test } from '@jest/globals';
import {
  encodeVerifierKey,
  localSigner,
  type NoteKey,
  parseCheckpoint,
  parseVerifierKey,
  verifyNote,
} from '../../src/audit/note.ts';
import { verifyProof } from '../../src/audit/proof.ts';
import type { Signer } from '../../src/audit/signer.ts';
import { decodeBundle, decodeTile, tilesOf } from '../../src/audit/tiles.ts';
import { leafHash, rootOf, verifyConsistency } from '../../src/audit/tree.ts';
import { createLogReader } from '../../src/service/log.ts';
import type { Database } from '../../src/store/db.ts';
import { readEntries, readHead } from '../../src/store/log.ts';
import { openDatabase } from '../../src/store/open.ts';
import { growTiles, readUnpublished } from '../../src/store/publication.ts';
import {
  asSuperuser,
  createDatabase,
  ENGINES,
  openTestPostgres,
  SERVICE_ROLE,
  serverUrl,
} from '../support/database.ts';
import {
  grow,
  newCheckpointer,
  newLogKey,
  newSignerFolder,
  newTenant,
  originOf,
  readingCore,
  type TestCheckpointer,
} from '../support/published-log.ts';

const KEY = newLogKey();
const [A, B] = ['ten_a', 'ten_b'];

function noteKey(tenant: string, key = KEY): NoteKey {
  const name = originOf(tenant);
  return { name, publicKey: localSigner(name, key).publicKey };
}

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function start(db: Database, open: () => Promise<Signer>): TestCheckpointer {
  const checkpointer = newCheckpointer(db, open);
  cleanups.push(() => checkpointer.stop());
  return checkpointer;
}

function signerFolder() {
  const folder = newSignerFolder();
  cleanups.push(() => folder.remove());
  return folder;
}

/** The checkpoint that the API gives, after its signature has been verified. */
async function verified(db: Database, tenant: string, key = noteKey(tenant)) {
  const note = await createLogReader(readingCore(db)).readCheckpoint({ tenant });
  const text = verifyNote(note, [key])?.text;
  const checkpoint = text === undefined ? undefined : parseCheckpoint(text);
  if (checkpoint?.origin !== originOf(tenant)) throw new Error('not a checkpoint of this log');
  return checkpoint;
}

function headOf(db: Database, tenant: string) {
  return db.transaction(tenant, readHead, { logs: [] });
}

function entriesOf(db: Database, tenant: string, from = 0) {
  return db.transaction(tenant, (tx) => readEntries(tx, from, 100_000), { logs: [] });
}

describe.each(ENGINES)('checkpoints on $engine', ({ open }) => {
  async function opened(): Promise<Database> {
    const database = await open();
    cleanups.push(() => database.drop());
    return database.database;
  }

  test('cover each tree that grew, and name their key in the tree itself', async () => {
    const db = await opened();
    await newTenant(db, A, 5);
    await newTenant(db, B, 1);
    const folder = signerFolder();
    const checkpointer = start(db, () => folder.open([KEY]));
    await checkpointer.round();
    expect(checkpointer.events).toEqual([]);
    for (const tenant of [A, B]) {
      const head = await headOf(db, tenant);
      expect(await verified(db, tenant)).toMatchObject({ size: head.size, root: head.root });
      const last = (await entriesOf(db, tenant)).at(-1);
      const leaf = JSON.parse(Buffer.from(last?.leaf ?? []).toString());
      expect(leaf).toMatchObject({ typ: 'log.key', origin: originOf(tenant) });
      expect(leaf.vkey).toBe(encodeVerifierKey(noteKey(tenant)));
      const vkey = await createLogReader(readingCore(db)).readLogKey({ tenant });
      expect(parseVerifierKey(vkey)).toMatchObject({ name: originOf(tenant) });
    }
    expect(await readUnpublished(db, 10)).toEqual([]);

    await grow(db, B, 2);
    expect(await readUnpublished(db, 10)).toMatchObject([{ tenant: B, published: 2 }]);
    const [before] = [await headOf(db, A)];
    await checkpointer.round();
    expect(await verified(db, B)).toMatchObject({ size: 4 });
    expect((await headOf(db, A)).size).toBe(before.size);
  });

  test('lead to tiles, entries and proofs that verify against them', async () => {
    const db = await opened();
    await newTenant(db, A, 700);
    const folder = signerFolder();
    const checkpointer = start(db, () => folder.open([KEY]));
    const reader = createLogReader(readingCore(db));
    const call = { tenant: A };
    await expect(reader.readCheckpoint(call)).rejects.toMatchObject({ code: 'CHECKPOINT_PENDING' });
    await checkpointer.round();
    const first = await verified(db, A);
    await grow(db, A, 333);
    await checkpointer.round();
    const { size, root } = await verified(db, A);
    expect([first.size, size]).toEqual([701, 1034]);

    const leaves: Uint8Array[] = [];
    for (const tile of tilesOf(size)) {
      const bytes = await reader.readTile(call, tile);
      if (tile.kind === 'entries') leaves.push(...decodeBundle(bytes, tile.width));
      else if (tile.level === 1) expect(decodeTile(bytes, tile.width)).toHaveLength(4);
    }
    expect(rootOf(leaves.map(leafHash))).toEqual(root);
    for (const beyond of [
      { kind: 'hashes', level: 0, index: 4, width: 11 },
      { kind: 'hashes', level: 1, index: 0, width: 5 },
      { kind: 'entries', index: 5, width: 1 },
      { kind: 'hashes', level: 63, index: 0, width: 1 },
    ] as const) {
      await expect(reader.readTile(call, beyond)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    }

    const log = { origin: originOf(A), keys: [noteKey(A)] };
    for (const entry of (await entriesOf(db, A)).filter(({ index }) => index % 97 === 0)) {
      const proof = await reader.proveEntry(call, entry.eid);
      expect(verifyProof(proof, entry.leaf, log)?.index).toBe(entry.index);
      expect(verifyProof(proof, Buffer.from('{}'), log)).toBeUndefined();
    }
    await grow(db, A, 1);
    const late = (await entriesOf(db, A)).at(-1);
    await expect(reader.proveEntry(call, late?.eid ?? new Uint8Array(16))).rejects.toMatchObject({
      code: 'CHECKPOINT_PENDING',
    });
    await expect(reader.proveEntry(call, new Uint8Array(16))).rejects.toMatchObject({ code: 'NOT_FOUND' });

    const { proof } = await reader.proveConsistency(call, { from: first.size });
    const hashes = proof.map((each) => new Uint8Array(Buffer.from(each, 'base64')));
    expect(verifyConsistency(first.size, size, first.root, root, hashes)).toBe(true);
    expect(await reader.proveConsistency(call, { from: 0, to: 5 })).toEqual({ from: 0, to: 5, proof: [] });
    for (const range of [
      { from: 1, to: size + 1 },
      { from: 6, to: 5 },
    ]) {
      await expect(reader.proveConsistency(call, range)).rejects.toMatchObject({ code: 'REQUEST_INVALID' });
    }
  });

  test('of one tenant prove nothing of another, whose ids are not found', async () => {
    const db = await opened();
    await newTenant(db, A, 3);
    await newTenant(db, B, 3);
    const folder = signerFolder();
    await start(db, () => folder.open([KEY])).round();
    const [foreign] = await entriesOf(db, B);
    const reader = createLogReader(readingCore(db));
    await expect(reader.proveEntry({ tenant: A }, foreign?.eid ?? new Uint8Array(16))).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
    await expect(verified(db, A, noteKey(B))).rejects.toThrow();
    await expect(reader.readCheckpoint({ tenant: 'ten_c' })).rejects.toMatchObject({
      code: 'CHECKPOINT_PENDING',
    });
  });

  test('entries are found by what they say, a page at a time', async () => {
    const db = await opened();
    await newTenant(db, A, 20);
    await grow(db, A, 10, 'b');
    const reader = createLogReader(readingCore(db));
    const indices = async (query: object) => {
      const page = await reader.searchEntries({ tenant: A }, { from: 0, limit: 100, ...query });
      return [page.entries.map(({ i }) => i), page.next];
    };
    const upTo = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);
    expect(await indices({})).toEqual([upTo(0, 30), undefined]);
    expect(await indices({ from: 5, to: 9 })).toEqual([upTo(5, 9), undefined]);
    expect(await indices({ limit: 7 })).toEqual([upTo(0, 7), 7]);
    expect(await indices({ op: 'b' })).toEqual([upTo(20, 30), undefined]);
    expect(await indices({ op: 'b', limit: 4 })).toEqual([upTo(20, 24), 24]);
    expect(await indices({ op: 'b', actor: `prn_${'b'.repeat(26)}`, from: 24 })).toEqual([
      [25, 27, 29],
      undefined,
    ]);
    expect(await indices({ typ: 'key.use' })).toEqual([[], undefined]);
    expect(await indices({ out: 'ok' })).toEqual([[], undefined]);
    expect(await indices({ from: 30 })).toEqual([[], undefined]);
    const { entries } = await reader.searchEntries({ tenant: A }, { from: 3, to: 4, limit: 1 });
    expect(entries[0]?.h).toBe(Buffer.from(leafHash(Buffer.from(entries[0]?.leaf ?? ''))).toString('base64'));
  });
});

describe('a checkpointer', () => {
  async function openedPostgres() {
    const opened = await openTestPostgres();
    cleanups.push(() => opened.drop());
    return opened;
  }

  test('writes a tree of more tiles than one round may write in several rounds, two levels high', async () => {
    const { database: db, ownerUrl } = await openedPostgres();
    await newTenant(db, A, 1);
    const name = ownerUrl.slice(ownerUrl.lastIndexOf('/') + 1);
    // The rows that appends would have made, at once; the frontier follows from the tiles.
    const size = 65_536 + 300;
    await asSuperuser(
      `INSERT INTO keytether.log_leaf (tenant_id, leaf_index, eid, committed_at, leaf_hash, leaf)
       SELECT '${A}', i, gen_random_uuid(), now(), sha256('\\x00'::bytea || convert_to(i::text, 'UTF8')), convert_to(i::text, 'UTF8')
       FROM generate_series(1, ${size - 1}) i`,
      name,
    );
    const entries = await entriesOf(db, A);
    const hashes = entries.map((entry) => entry.leafHash);
    const frontier = [65_536, 256, 32, 8, 4].reduce<{ at: number; parts: Uint8Array[] }>(
      ({ at, parts }, width) => ({ at: at + width, parts: [...parts, rootOf(hashes.slice(at, at + width))] }),
      { at: 0, parts: [] },
    );
    await asSuperuser(
      `UPDATE keytether.log_head SET size = ${size}, frontier = '\\x${Buffer.concat(frontier.parts).toString('hex')}' WHERE tenant_id = '${A}'`,
      name,
    );
    const folder = signerFolder();
    const checkpointer = start(db, () => folder.open([KEY]));
    await checkpointer.round();
    const reader = createLogReader(readingCore(db));
    await expect(reader.readCheckpoint({ tenant: A })).rejects.toMatchObject({ code: 'CHECKPOINT_PENDING' });
    await checkpointer.round();
    const checkpoint = await verified(db, A);
    expect(checkpoint.size).toBe(size + 1);
    const level2 = await reader.readTile({ tenant: A }, { kind: 'hashes', level: 2, index: 0, width: 1 });
    expect(Buffer.from(level2)).toEqual(Buffer.from(rootOf(hashes.slice(0, 65_536))));
    await grow(db, A, 600);
    await checkpointer.round();
    const { proof } = await reader.proveConsistency({ tenant: A }, { from: checkpoint.size });
    const later = await verified(db, A);
    const path = proof.map((each) => new Uint8Array(Buffer.from(each, 'base64')));
    expect(verifyConsistency(checkpoint.size, later.size, checkpoint.root, later.root, path)).toBe(true);
  });

  test('tiles grow the same when two write them at once, and again', async () => {
    const { database: db } = await openedPostgres();
    await newTenant(db, A, 1_000);
    const write = () => db.transaction(A, (tx) => growTiles(tx, 100), { logs: [] });
    expect(await Promise.all([write(), write(), write()])).toEqual([true, true, true]);
    const count = () =>
      db.transaction(A, (tx) => tx.query('SELECT level, n FROM keytether.log_tile ORDER BY level, n'));
    expect(await count()).toEqual([0, 1, 2].map((n) => ({ level: 0, n })));
    expect(await write()).toBe(true);
    expect(await db.transaction(A, (tx) => growTiles(tx, 0), { logs: [] })).toBe(true);
  });

  test('a restored copy of the database gets no signature, and is shown', async () => {
    const opened = await openedPostgres();
    await newTenant(opened.database, A, 10);
    await newTenant(opened.database, B, 10);
    const folder = signerFolder();
    const before = start(opened.database, () => folder.open([KEY]));
    await before.round();
    await before.stop();
    await opened.database.close();
    const snapshot = await createDatabase(opened.url.slice(opened.url.lastIndexOf('/') + 1));
    cleanups.push(() => snapshot.drop());

    // What the copy does not have: signed, and perhaps in an auditor's hands.
    const live = await openDatabase({ url: opened.url });
    cleanups.push(() => live.close());
    await grow(live, A, 20);
    const after = start(live, () => folder.open([KEY]));
    await after.round();
    const signed = await verified(live, A);
    expect(signed.size).toBe(31);
    await after.stop();

    const url = `${serverUrl()}/${snapshot.name}`.replace('postgres@', `${SERVICE_ROLE}@`);
    const restored = await openDatabase({ url });
    cleanups.push(() => restored.close());
    const checkpointer = start(restored, () => folder.open([KEY]));
    // Before anything is appended: nothing has to grow for it to show.
    await checkpointer.round();
    expect(checkpointer.events).toEqual([{ event: 'checkpoint-refused', tenant: A, why: 'smaller' }]);
    await grow(restored, A, 5, 'b');
    await grow(restored, B, 5, 'b');
    await checkpointer.round();
    expect(checkpointer.events).toEqual([{ event: 'checkpoint-refused', tenant: A, why: 'smaller' }]);
    expect([...checkpointer.refused]).toEqual([[A, 'smaller']]);
    expect((await verified(restored, A)).size).toBe(11);
    // B has lost nothing that was signed.
    expect((await verified(restored, B)).size).toBe(16);

    // Growing past the signed size does not help the other history, nor does a new start.
    await grow(restored, A, 40, 'b');
    await checkpointer.round();
    expect(checkpointer.events).toHaveLength(1);
    await checkpointer.stop();
    const again = start(restored, () => folder.open([KEY]));
    await again.round();
    expect(again.events).toEqual([{ event: 'checkpoint-refused', tenant: A, why: 'no-proof' }]);
    expect((await verified(restored, A)).size).toBe(11);
    expect(await readUnpublished(restored, 10)).toMatchObject([{ tenant: A, published: 11 }]);
  });

  test('of two replicas one has the lock, and the other takes over with the same memory', async () => {
    const opened = await openedPostgres();
    const other = await openDatabase({ url: opened.url });
    cleanups.push(() => other.close());
    await newTenant(opened.database, A, 3);
    const folder = signerFolder();
    let opens = 0;
    const open = () => {
      opens += 1;
      return folder.open([KEY]);
    };
    const [one, two] = [start(opened.database, open), start(other, open)];
    await one.round();
    await Promise.all([one.round(), two.round()]);
    expect([one.leading, two.leading, opens]).toEqual([true, false, 1]);
    await one.stop();
    await grow(other, A, 3);
    await two.round();
    expect([two.leading, opens]).toEqual([true, 2]);
    expect([...one.events, ...two.events]).toEqual([]);
    expect((await verified(other, A)).size).toBe(7);
  });

  test('gives the lead up when its connection dies, and takes it again', async () => {
    const opened = await openedPostgres();
    await newTenant(opened.database, A, 3);
    const folder = signerFolder();
    const checkpointer = start(opened.database, () => folder.open([KEY]));
    await checkpointer.round();
    await asSuperuser(
      `SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted
         AND database = (SELECT oid FROM pg_database WHERE datname = '${opened.url.slice(opened.url.lastIndexOf('/') + 1)}')`,
    );
    await grow(opened.database, A, 3);
    await checkpointer.round();
    expect(checkpointer.leading).toBe(true);
    expect((await verified(opened.database, A)).size).toBe(7);
  });

  test('a signature whose checkpoint was not stored is followed up from where the signer is', async () => {
    const { database: db } = await openedPostgres();
    await newTenant(db, A, 9);
    const folder = signerFolder();
    const head = await headOf(db, A);
    const signer = await folder.open([KEY]);
    const asked = { origin: originOf(A), size: head.size, root: head.root, from: 0, proof: [] };
    expect(await signer.sign([asked])).toMatchObject([{ verdict: 'signed' }]);
    await signer.close();
    await grow(db, A, 9);
    const checkpointer = start(db, () => folder.open([KEY]));
    await checkpointer.round();
    expect(checkpointer.events).toEqual([]);
    expect((await verified(db, A)).size).toBe(19);
  });

  test('a signer that cannot be reached holds nothing up and is asked again', async () => {
    const { database: db } = await openedPostgres();
    await newTenant(db, A, 3);
    const folder = signerFolder();
    let there = false;
    const checkpointer = start(db, async () => {
      if (!there) throw new Error('no signer');
      return folder.open([KEY]);
    });
    await checkpointer.round();
    expect(checkpointer.events).toMatchObject([{ event: 'checkpoint-failed', tenant: undefined }]);
    expect(checkpointer.leading).toBe(false);
    there = true;
    await checkpointer.round();
    expect((await verified(db, A)).size).toBe(4);
  });

  test('a new key is in the tree before its first checkpoint, which the old key signs as well', async () => {
    const { database: db } = await openedPostgres();
    await newTenant(db, A, 3);
    const folder = signerFolder();
    const first = start(db, () => folder.open([KEY]));
    await first.round();
    await first.stop();
    const next = newLogKey();
    const second = start(db, () => folder.open([next, KEY]));
    await second.round();
    expect((await verified(db, A)).size).toBe(5);
    await grow(db, A, 1);
    await second.round();
    await second.round();
    const leaves = (await entriesOf(db, A)).map(({ leaf }) => JSON.parse(Buffer.from(leaf).toString()));
    expect(leaves.filter(({ typ }) => typ === 'log.key').map(({ vkey }) => vkey)).toEqual([
      encodeVerifierKey(noteKey(A)),
      encodeVerifierKey(noteKey(A, next)),
    ]);
    expect((await verified(db, A)).size).toBe(6);
    expect((await verified(db, A, noteKey(A, next))).size).toBe(6);
  });
});
