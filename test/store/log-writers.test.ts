import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { Database } from '../../src/store/db.ts';
import { appendUnits } from '../../src/store/log.ts';
import { openDatabase } from '../../src/store/open.ts';
import { bumpStateVersion, createTenant, readTenant } from '../../src/store/tenants.ts';
import { openTestPostgres, type TestPostgres } from '../support/database.ts';
import { intent, keyedTenant, outcome, plain, readLog, row, WRITER } from '../support/log-units.ts';

const CALLS = 60;

let opened: TestPostgres;
/** A second replica: its own pool on the same database. */
let replica: Database;

beforeAll(async () => {
  opened = await openTestPostgres();
  replica = await openDatabase({ url: opened.url });
});
afterAll(async () => {
  await replica?.close();
  await opened?.drop();
});

test('two writers on one hot tenant: indices stay dense, every leaf is kept once, the root is right', async () => {
  await opened.database.transaction('hot', (tx) => createTenant(tx, 'hot'));
  const write = async (database: Database) => {
    const indices: (number | null)[] = [];
    for (let call = 0; call < CALLS; call += 1) {
      const results = await appendUnits(database, WRITER, [plain('hot', 3), plain('hot', 2)]);
      indices.push(...results.flatMap((result) => result.rows.map((one) => one.index)));
    }
    return indices;
  };
  const [ours, theirs] = await Promise.all([write(opened.database), write(replica)]);
  const all = [...ours, ...theirs].map(Number).sort((a, b) => a - b);
  expect(all).toEqual(Array.from({ length: CALLS * 10 }, (_, index) => index));
  const log = await readLog(opened.database, 'hot');
  expect(log.entries.map((entry) => entry.index)).toEqual(all);
  expect(log.head).toMatchObject({ size: CALLS * 10, root: log.recomputed });
});

test('writers of many tenants in opposite orders, and transactions of two logs, do not deadlock', async () => {
  const tenants = ['w1', 'w2', 'w3', 'w4'];
  for (const tenant of tenants) await opened.database.transaction(tenant, (tx) => createTenant(tx, tenant));
  const write = async (database: Database, order: readonly string[]) => {
    for (let call = 0; call < 20; call += 1) {
      await appendUnits(
        database,
        WRITER,
        order.map((tenant) => plain(tenant)),
      );
    }
  };
  const administer = async (tenant: string, other: string) => {
    for (let call = 0; call < 20; call += 1) {
      await replica.transaction(
        tenant,
        async (tx) => {
          await bumpStateVersion(tx);
          await appendUnits(tx, WRITER, [plain(tenant), plain(other)]);
        },
        { logs: [other, tenant] },
      );
    }
  };
  await Promise.all([
    write(opened.database, tenants),
    write(replica, [...tenants].reverse()),
    administer('w1', 'w4'),
    administer('w4', 'w1'),
  ]);
  const logs = await Promise.all(tenants.map((tenant) => readLog(opened.database, tenant)));
  expect(logs.map((log) => log.head.size)).toEqual([80, 40, 40, 80]);
  for (const log of logs) expect(log.head.root).toEqual(log.recomputed);
});

test('an append that waits for an administrative change sees it: the use is dropped', async () => {
  await keyedTenant(opened.database, 'raced');
  const flight = intent('raced');
  await appendUnits(opened.database, WRITER, [flight]);
  const started = Promise.withResolvers<void>();
  const release = Promise.withResolvers<void>();
  const change = opened.database.transaction('raced', async (tx) => {
    await bumpStateVersion(tx);
    started.resolve();
    await release.promise;
    await appendUnits(tx, WRITER, [plain('raced')]);
  });
  await started.promise;
  const use = appendUnits(replica, WRITER, [outcome(flight)]);
  await waitsForLock();
  release.resolve();
  await change;
  expect(await use).toMatchObject([{ verdict: 'state-moved', rows: [{ index: 2 }, { index: null }] }]);
});

test('an append that is ordered before an administrative change is released', async () => {
  await keyedTenant(opened.database, 'ordered');
  const flight = intent('ordered');
  await appendUnits(opened.database, WRITER, [flight]);
  expect(await appendUnits(replica, WRITER, [outcome(flight)])).toMatchObject([{ verdict: 'appended' }]);
  await opened.database.transaction('ordered', bumpStateVersion);
  expect(await appendUnits(replica, WRITER, [outcome(flight)])).toMatchObject([{ verdict: 'state-moved' }]);
});

test('two administrative changes at once both count in the state version', async () => {
  await opened.database.transaction('versions', (tx) => createTenant(tx, 'versions'));
  const bump = (database: Database) => database.transaction('versions', bumpStateVersion);
  const versions = await Promise.all(
    Array.from({ length: 10 }, (_, i) => bump(i % 2 === 0 ? replica : opened.database)),
  );
  expect(versions.sort((a, b) => a - b)).toEqual(Array.from({ length: 10 }, (_, i) => i + 2));
  expect(await opened.database.transaction('versions', readTenant)).toMatchObject({ stateVersion: 11 });
});

test('two replicas that count under one limit never pass it together', async () => {
  const { tenant, dataKey } = await keyedTenant(opened.database, 'counted');
  const use = () => ({
    tenant,
    kind: 'plain' as const,
    rows: [row(true)],
    counts: [{ keyId: dataKey, count: 1, limit: 25 }],
  });
  const write = async (database: Database) => {
    const verdicts: string[] = [];
    for (let call = 0; call < 10; call += 1) {
      const results = await appendUnits(database, WRITER, [use(), use()]);
      verdicts.push(...results.map((result) => result.verdict));
    }
    return verdicts;
  };
  const verdicts = (await Promise.all([write(opened.database), write(replica)])).flat();
  expect(verdicts.filter((verdict) => verdict === 'appended')).toHaveLength(25);
  expect((await readLog(opened.database, tenant)).head.size).toBe(25);
});

/** Resolves once a session of this database waits for a lock. */
async function waitsForLock(): Promise<void> {
  for (;;) {
    const rows = await opened.database.query(
      `SELECT 1 FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE a.datname = current_database() AND NOT l.granted`,
    );
    if (rows.length > 0) return;
  }
}
