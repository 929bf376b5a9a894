import { createHash } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { pruneFlights, readOpenFlights } from '../../src/store/flights.ts';
import { listHeads, listKeyRecords, replaceHead } from '../../src/store/keys.ts';
import { appendUnits, type LogUnit, type NewDataKey, type UnitResult } from '../../src/store/log.ts';
import { bumpStateVersion, createTenant, setTenantState } from '../../src/store/tenants.ts';
import { ENGINES, type TestDatabase } from '../support/database.ts';
import {
  bytes,
  flightOf,
  intent,
  type KeyedTenant,
  keyedTenant,
  outcome,
  plain,
  readLog,
  row,
  WRITER,
} from '../support/log-units.ts';

describe.each(ENGINES)('log_append on $engine', ({ open }) => {
  let opened: TestDatabase;
  let own: KeyedTenant;
  let tenants = 0;

  beforeAll(async () => {
    opened = await open();
  });
  afterAll(() => opened?.drop());
  beforeEach(async () => {
    tenants += 1;
    own = await keyedTenant(opened.database, `ten_${tenants}`);
  });

  const append = (...units: LogUnit[]) => appendUnits(opened.database, WRITER, units);

  async function appendOne(unit: LogUnit): Promise<UnitResult> {
    const [result] = await append(unit);
    if (result === undefined) throw new Error('no result');
    return result;
  }

  async function intended(entry?: Uint8Array): Promise<LogUnit> {
    const unit = intent(own.tenant, entry);
    await append(unit);
    return unit;
  }

  const indices = (result: UnitResult) => result.rows.map((one) => one.index);

  async function sealedCount(keyId: Uint8Array = own.dataKey): Promise<number | undefined> {
    const records = await opened.database.transaction(own.tenant, (tx) => listKeyRecords(tx, 100), {
      logs: [],
    });
    return records.find((record) => Buffer.compare(record.keyId, keyId) === 0)?.sealedCount;
  }

  function newKey(over: Partial<NewDataKey> = {}): NewDataKey {
    return {
      scope: 'default',
      purpose: 'notes',
      keyId: bytes(16),
      keyVersion: 2,
      generation: 1,
      wrapperIds: [own.root],
      immutable: bytes(30),
      mutable: bytes(60),
      head: { generation: 2, object: bytes(50) },
      expectHeadGeneration: 1,
      parentRoot: own.root,
      ...over,
    };
  }

  test('leaves get dense indices in the order of the call, per tenant, with RFC 6962 hashes and root', async () => {
    const other = await keyedTenant(opened.database, `ten_${tenants}-other`);
    const units = [plain(own.tenant, 2), plain(other.tenant, 3), plain(own.tenant, 1)];
    const results = await append(...units);
    expect(results.map(indices)).toEqual([[0, 1], [0, 1, 2], [2]]);
    const [first] = await append(plain(own.tenant, 20));
    expect(first && indices(first)).toEqual(Array.from({ length: 20 }, (_, i) => i + 3));

    const log = await readLog(opened.database, own.tenant);
    expect(log.head.size).toBe(23);
    expect(log.head.root).toEqual(log.recomputed);
    const sent = units[0]?.rows[1];
    expect(log.entries[1]).toMatchObject({ index: 1, eid: sent?.eid, leaf: sent?.leaf });
    expect(log.entries[1]?.leafHash).toEqual(results[0]?.rows[1]?.leafHash);
    const expected = createHash('sha256')
      .update(Uint8Array.of(0))
      .update(sent?.leaf ?? '')
      .digest();
    expect(log.entries[1]?.leafHash).toEqual(new Uint8Array(expected));
  });

  test('the root is right at every size from 0 to 40', async () => {
    for (let size = 0; size <= 40; size += 1) {
      const log = await readLog(opened.database, own.tenant);
      expect(log.head).toMatchObject({ size, root: log.recomputed });
      await append(plain(own.tenant));
    }
  });

  test('an empty leaf and one of 16,384 bytes are kept; one byte more is refused', async () => {
    const kept = await append({
      tenant: own.tenant,
      kind: 'plain',
      rows: [row(true, bytes(0)), row(true, bytes(16_384))],
    });
    expect(kept.map(indices)).toEqual([[0, 1]]);
    const log = await readLog(opened.database, own.tenant);
    expect(log.entries.map((entry) => entry.leaf.length)).toEqual([0, 16_384]);
    await expect(
      append({ tenant: own.tenant, kind: 'plain', rows: [row(true, bytes(16_385))] }),
    ).rejects.toThrow(RangeError);
  });

  test('an unknown tenant fails the whole call and leaves nothing', async () => {
    await expect(append(plain(own.tenant), plain('ten_nobody'))).rejects.toMatchObject({
      code: 'INTERNAL',
      cause: { code: 'KT001' },
    });
    expect((await readLog(opened.database, own.tenant)).head.size).toBe(0);
  });

  test('an outcome of an open flight is appended, and a second chunk of an ok flight too', async () => {
    const flight = await intended();
    expect(await appendOne(outcome(flight))).toMatchObject({
      verdict: 'appended',
      rows: [{ index: 1 }, { index: 2 }],
    });
    expect(await appendOne(outcome(flight))).toMatchObject({
      verdict: 'appended',
      rows: [{ index: 3 }, { index: 4 }],
    });
  });

  test('verdict intent-closed: unknown flight, other tenant, refused or otherwise ended flight', async () => {
    const other = await keyedTenant(opened.database, `ten_${tenants}-other`);
    const unknown = await appendOne(outcome(intent(own.tenant)));
    expect(unknown).toMatchObject({ verdict: 'intent-closed', rows: [{ index: 0 }, { index: null }] });
    expect(unknown.rows[1]?.leafHash).toEqual(bytes(32, 0));

    const foreign = { ...outcome(await intended()), tenant: other.tenant };
    expect((await appendOne(foreign)).verdict).toBe('intent-closed');

    for (const result of ['refused', 'other'] as const) {
      const flight = await intended(bytes(32));
      expect((await appendOne({ ...outcome(flight, result), rows: [row(false)] })).verdict).toBe('appended');
      expect((await appendOne(outcome(flight))).verdict).toBe('intent-closed');
    }
  });

  test('verdict fenced: a refusal of a later flight of the same wrap entry closes the earlier ones', async () => {
    const entry = bytes(32);
    const early = await intended(entry);
    const elsewhere = await intended(bytes(32));
    const late = await intended(entry);
    await append({ ...outcome(late, 'refused'), rows: [row(false)] });
    expect(await appendOne(outcome(early))).toMatchObject({
      verdict: 'fenced',
      rows: [{ index: 4 }, { index: null }],
    });
    expect((await appendOne(outcome(elsewhere))).verdict).toBe('appended');
    expect((await appendOne(outcome(await intended(entry)))).verdict).toBe('appended');
  });

  test('a refusal of an earlier flight does not touch a later one', async () => {
    const entry = bytes(32);
    const early = await intended(entry);
    const late = await intended(entry);
    await append({ ...outcome(early, 'refused'), rows: [row(false)] });
    expect((await appendOne(outcome(late))).verdict).toBe('appended');
  });

  test('within one call, what stands after a refusal is fenced and what stands before it is not', async () => {
    const entry = bytes(32);
    const [first, second, refused] = [await intended(entry), await intended(entry), await intended(entry)];
    const results = await append(
      outcome(first),
      { ...outcome(refused, 'refused'), rows: [row(false)] },
      outcome(second),
      outcome(refused),
    );
    expect(results.map((result) => result.verdict)).toEqual([
      'appended',
      'appended',
      'fenced',
      'intent-closed',
    ]);
  });

  test('verdict state-moved: a use that read an older state version is dropped, for plain units as well', async () => {
    const flight = await intended();
    await opened.database.transaction(own.tenant, bumpStateVersion);
    expect((await appendOne(outcome(flight))).verdict).toBe('state-moved');
    expect((await appendOne(outcome(flight, 'ok', { stateVersion: 2 }))).verdict).toBe('appended');
    await opened.database.transaction(own.tenant, (tx) => setTenantState(tx, 'suspended'));
    const { stateVersion: _, ...unchecked } = outcome(flight);
    expect((await appendOne(unchecked)).verdict).toBe('appended');
    const use: LogUnit = { tenant: own.tenant, kind: 'plain', stateVersion: 2, rows: [row(true)] };
    expect(await appendOne(use)).toMatchObject({ verdict: 'state-moved', rows: [{ index: null }] });
  });

  test('a new data key becomes current with its leaf', async () => {
    const key = newKey();
    const counts = [{ keyId: key.keyId, count: 3, limit: 10 }];
    const unit = outcome(await intended(), 'ok', { newKeys: [key], counts });
    expect((await appendOne(unit)).verdict).toBe('appended');
    const heads = await opened.database.transaction(own.tenant, listHeads, { logs: [] });
    expect(heads[1]).toEqual({
      scope: 'default',
      purpose: 'notes',
      currentKey: key.keyId,
      generation: 2,
      object: key.head.object,
    });
    expect(await sealedCount(key.keyId)).toBe(3);
    const [record] = await opened.database.transaction(own.tenant, (tx) =>
      listKeyRecords(tx, 9, { wrapper: own.root }),
    );
    expect(record?.wrapperIds).toEqual([own.root]);
  });

  test('a first data key of a purpose needs that there is none yet', async () => {
    const first = () => newKey({ purpose: 'mail', keyVersion: 1, expectHeadGeneration: null });
    const flight = await intended();
    const results = await append(
      outcome(flight, 'ok', { newKeys: [first()] }),
      outcome(flight, 'ok', { newKeys: [first()] }),
    );
    expect(results.map((result) => result.verdict)).toEqual(['appended', 'head-moved']);
  });

  test('verdict head-moved: head generation, current root or key version is not what was read; nothing of the unit stays', async () => {
    const flight = await intended();
    const wrong = [
      newKey({ expectHeadGeneration: 7 }),
      newKey({ parentRoot: bytes(16) }),
      newKey({ expectHeadGeneration: null }),
      newKey({ keyVersion: 1 }),
      newKey({ keyId: own.dataKey }),
      newKey({ scope: 'elsewhere' }),
    ];
    for (const key of wrong) {
      const unit = outcome(flight, 'ok', {
        newKeys: [newKey({ purpose: 'mail', expectHeadGeneration: null }), key],
        counts: [{ keyId: own.dataKey, count: 1, limit: 10 }],
      });
      expect((await appendOne(unit)).verdict).toBe('head-moved');
    }
    const heads = await opened.database.transaction(own.tenant, listHeads, { logs: [] });
    expect(heads.map((head) => [head.purpose, head.generation])).toEqual([
      ['', 1],
      ['notes', 1],
    ]);
    expect(await sealedCount()).toBe(0);
  });

  test('a new data key is dropped when its root was replaced meanwhile', async () => {
    const flight = await intended();
    await opened.database.transaction(own.tenant, (tx) =>
      replaceHead(
        tx,
        { scope: 'default', purpose: '', currentKey: bytes(16), generation: 2, object: bytes(3) },
        1,
      ),
    );
    expect((await appendOne(outcome(flight, 'ok', { newKeys: [newKey()] }))).verdict).toBe('head-moved');
  });

  test('verdict count-exceeded: counts stop at the limit, unit by unit, and all keys of a unit or none', async () => {
    const flight = await intended();
    const count = (n: number) =>
      outcome(flight, 'ok', { counts: [{ keyId: own.dataKey, count: n, limit: 10 }] });
    expect((await append(count(4), count(4))).map((one) => one.verdict)).toEqual(['appended', 'appended']);
    const verdicts = (await append(count(3), count(1), count(2), count(1))).map((one) => one.verdict);
    expect(verdicts).toEqual(['count-exceeded', 'appended', 'count-exceeded', 'appended']);
    expect(await sealedCount()).toBe(10);
    const both = outcome(flight, 'ok', {
      counts: [
        { keyId: own.root, count: 1, limit: 10 },
        { keyId: own.dataKey, count: 1, limit: 10 },
      ],
    });
    expect((await appendOne(both)).verdict).toBe('count-exceeded');
    expect(await sealedCount(own.root)).toBe(0);
    const gone = outcome(flight, 'ok', { counts: [{ keyId: bytes(16), count: 1, limit: 10 }] });
    expect((await appendOne(gone)).verdict).toBe('count-exceeded');
  });

  test('a new key whose count would pass the limit is not inserted', async () => {
    const key = newKey();
    const unit = outcome(await intended(), 'ok', {
      newKeys: [key],
      counts: [{ keyId: key.keyId, count: 2, limit: 1 }],
    });
    expect((await appendOne(unit)).verdict).toBe('count-exceeded');
    expect(await sealedCount(key.keyId)).toBeUndefined();
  });

  test('the same call again returns the same indices and counts, opens and closes nothing twice', async () => {
    const flight = intent(own.tenant);
    const key = newKey();
    const counts = [{ keyId: own.dataKey, count: 2, limit: 10 }];
    const units = [outcome(flight, 'ok', { newKeys: [key], counts }), plain(own.tenant, 2)];
    const opening = await append(flight);
    expect(await append(flight)).toMatchObject(opening.map(({ rows, verdict }) => ({ rows, verdict })));
    const first = await append(...units);
    await opened.database.transaction(own.tenant, bumpStateVersion);
    const again = await append(...units, plain(own.tenant));
    expect(again.slice(0, 2).map(({ rows, verdict }) => ({ rows, verdict }))).toEqual(
      first.map(({ rows, verdict }) => ({ rows, verdict })),
    );
    expect(again[2]?.rows[0]?.index).toBe(5);
    expect(await sealedCount()).toBe(2);
    const log = await readLog(opened.database, own.tenant);
    expect(log.head).toMatchObject({ size: 6, root: log.recomputed });
  });

  test('a dropped unit can be sent again: its unguarded row keeps its index, its guarded row is judged anew', async () => {
    const flight = await intended();
    const unit = outcome(flight, 'ok', { stateVersion: 2 });
    expect(await appendOne(unit)).toMatchObject({
      verdict: 'state-moved',
      rows: [{ index: 1 }, { index: null }],
    });
    expect(await appendOne(unit)).toMatchObject({
      verdict: 'state-moved',
      rows: [{ index: 1 }, { index: null }],
    });
    await opened.database.transaction(own.tenant, bumpStateVersion);
    expect(await appendOne(unit)).toMatchObject({ verdict: 'appended', rows: [{ index: 1 }, { index: 2 }] });
  });

  test('a repeated intent of a closed flight does not open it again, even when the flight is forgotten', async () => {
    const flight = await intended();
    await append({ ...outcome(flight, 'refused'), rows: [row(false)] });
    await append(flight);
    expect((await appendOne(outcome(flight))).verdict).toBe('intent-closed');
    await pruneFlights(opened.database, 0);
    await append(flight);
    expect((await appendOne(outcome(flight))).verdict).toBe('intent-closed');
  });

  test('units of many kinds and tenants in one call are each judged on their own', async () => {
    const other = await keyedTenant(opened.database, `ten_${tenants}-other`);
    const flight = await intended();
    const results = await append(
      outcome(intent(own.tenant)),
      plain(other.tenant),
      intent(other.tenant),
      outcome(flight, 'ok', { stateVersion: 5 }),
      outcome(flight, 'ok', { counts: [{ keyId: own.dataKey, count: 1, limit: 1 }] }),
      outcome(flight, 'ok', { counts: [{ keyId: own.dataKey, count: 1, limit: 1 }] }),
    );
    expect(results.map((result) => [result.verdict, ...indices(result)])).toEqual([
      ['intent-closed', 1, null],
      ['appended', 0],
      ['appended', 1],
      ['state-moved', 2, null],
      ['appended', 3, 4],
      ['count-exceeded', 5, null],
    ]);
  });

  test('an append inside a transaction that rolls back leaves nothing', async () => {
    const attempt = opened.database.transaction(own.tenant, async (tx) => {
      await appendUnits(tx, WRITER, [plain(own.tenant)]);
      throw new Error('changed my mind');
    });
    await expect(attempt).rejects.toThrow('changed my mind');
    expect((await readLog(opened.database, own.tenant)).head.size).toBe(0);
  });

  test('an administrative change and its leaf are one transaction', async () => {
    await opened.database.transaction(
      `ten_${tenants}-new`,
      async (tx) => {
        await createTenant(tx, 'new');
        await appendUnits(tx, WRITER, [plain(tx.tenant), plain(own.tenant)]);
      },
      { logs: [own.tenant] },
    );
    expect((await readLog(opened.database, `ten_${tenants}-new`)).head.size).toBe(1);
    expect((await readLog(opened.database, own.tenant)).head.size).toBe(1);
  });

  test('open flights are listed until they end; ended ones can be forgotten, and then release nothing', async () => {
    const flight = await intended(bytes(32, 5));
    const listed = async () =>
      (await readOpenFlights(opened.database, 0, 1_000)).filter((one) => one.tenant === own.tenant);
    expect(await listed()).toMatchObject([
      { intent: flightOf(flight), intentIndex: 0, entry: bytes(32, 5), writer: WRITER },
    ]);
    expect(await readOpenFlights(opened.database, 3_600_000, 1_000)).toEqual([]);
    await append(outcome(flight));
    expect(await listed()).toEqual([]);
    expect(await pruneFlights(opened.database, 3_600_000)).toBe(0);
    expect(await pruneFlights(opened.database, 0)).toBeGreaterThan(0);
    expect((await appendOne(outcome(flight))).verdict).toBe('intent-closed');
  });

  test('the commit time of a tenant never goes back', async () => {
    const first = await appendOne(plain(own.tenant));
    const second = await appendOne(plain(own.tenant));
    expect(second.committedMs).toBeGreaterThanOrEqual(first.committedMs);
  });
});
