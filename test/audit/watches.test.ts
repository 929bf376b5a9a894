import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { createUsageLog } from '../../src/audit/usage-log.ts';
import { watchDurability, watchPublication } from '../../src/audit/watches.ts';
import { type Core, change } from '../../src/service/core.ts';
import type { Database, Durability } from '../../src/store/db.ts';
import { appendUnits, readHead } from '../../src/store/log.ts';
import { migrate } from '../../src/store/migrate.ts';
import { openDatabase } from '../../src/store/open.ts';
import { connectOwner, type OwnerConnection } from '../../src/store/postgres.ts';
import { createTenant } from '../../src/store/tenants.ts';
import { plain, WRITER } from '../support/log-units.ts';
import { type StartedServer, startPostgres } from '../support/postgres.ts';

describe('on a server whose settings change', () => {
  let server: StartedServer;
  let owner: OwnerConnection;
  let db: Database;

  beforeAll(async () => {
    server = await startPostgres();
    const url = `${server.url}/postgres`;
    await migrate(url);
    owner = await connectOwner(url);
    db = await openDatabase({ url });
    await db.transaction('a', (tx) => createTenant(tx, 'a'), { logs: [] });
  });
  afterAll(async () => {
    await db?.close();
    await owner?.close();
    await server?.stop();
  });

  /** A new setting reaches a session at its next statement after the reload; the watch asks until then. */
  async function set(value: string, watch: { check(): Promise<void>; readonly weakened: boolean }) {
    await owner.exec(`ALTER SYSTEM SET full_page_writes = ${value}`);
    await owner.exec('SELECT pg_reload_conf()');
    const weak = value === 'off';
    for (const until = Date.now() + 20_000; watch.weakened !== weak && Date.now() < until; ) {
      await watch.check();
    }
    expect(watch.weakened).toBe(weak);
  }

  test('nothing is appended while commits survive less than at the start, and all is well afterwards', async () => {
    const reports: Durability[] = [];
    const watch = watchDurability(
      await db.durability(),
      () => db.durability(),
      (now) => reports.push(now),
    );
    await watch.check();
    expect([watch.weakened, reports]).toEqual([false, []]);
    const log = createUsageLog({
      async append(units) {
        watch.assert();
        return appendUnits(db, WRITER, units);
      },
    });
    const core = { db, log, writer: { id: WRITER, build: 'test' }, assertDurable: watch.assert } as Core;
    const act = () => change(core, 'a', async () => [{ typ: 'writer.start', durability: 'durable' }]);
    await log.append(plain('a'));

    await set('off', watch);
    await expect(log.append(plain('a'))).rejects.toMatchObject({ code: 'LOG_UNAVAILABLE' });
    await expect(act()).rejects.toMatchObject({ code: 'LOG_UNAVAILABLE', detail: 'durability' });
    expect((await db.transaction('a', readHead)).size).toBe(1);

    await set('on', watch);
    await log.append(plain('a'));
    await act();
    expect((await db.transaction('a', readHead)).size).toBe(3);
    expect(reports).toEqual(['process', 'durable']);
  });
});

test('a database that does not answer changes no verdict', async () => {
  let answer: Durability | Error = 'durable';
  const watch = watchDurability(
    'replicated',
    async () => {
      if (typeof answer === 'string') return answer;
      throw answer;
    },
    () => undefined,
  );
  answer = new Error('gone');
  await watch.check();
  expect(watch.weakened).toBe(false);
  answer = 'durable';
  await watch.check();
  expect(watch.weakened).toBe(true);
  answer = new Error('gone');
  await watch.check();
  expect(watch.weakened).toBe(true);
});

test('the lag is that of the record that waits longest; a tree below its own checkpoint is never published', async () => {
  const tree = { tenant: 'a', published: 1, vkey: '' };
  let waiting: (number | undefined)[] = [];
  const watch = watchPublication(async () => waiting.map((waitingMs) => ({ ...tree, waitingMs })));
  for (const [given, lag] of [
    [[], 0],
    [[5, 900, 7], 900],
    [[5, undefined], Number.POSITIVE_INFINITY],
    [[], 0],
  ] as const) {
    waiting = [...given];
    await watch.check();
    expect(watch.lagMs).toBe(lag);
  }
});
