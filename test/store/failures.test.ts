import { inspect } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { ServiceError } from '../../src/errors.ts';
import type { Database } from '../../src/store/db.ts';
import { connectionUsable, storeFailure } from '../../src/store/faults.ts';
import { appendUnits } from '../../src/store/log.ts';
import { migrate } from '../../src/store/migrate.ts';
import { type OpenOptions, openDatabase } from '../../src/store/open.ts';
import { createTenant, readTenant } from '../../src/store/tenants.ts';
import { asSuperuser, openTestPostgres, type TestPostgres } from '../support/database.ts';
import { plain, readLog, WRITER } from '../support/log-units.ts';
import { freePort, startPostgres } from '../support/postgres.ts';
import { startStallingProxy } from '../support/stalling-proxy.ts';

const QUICK: OpenOptions = {
  connections: 2,
  deadlines: { connectMs: 400, statementMs: 400, lockMs: 200, idleInTransactionMs: 300 },
};
const UNAVAILABLE = { code: 'STORE_UNAVAILABLE' };

let opened: TestPostgres;
let database: Database;
const closing: (() => Promise<void>)[] = [];

beforeAll(async () => {
  opened = await openTestPostgres(QUICK);
  database = opened.database;
  await database.transaction('t', (tx) => createTenant(tx, 'a name that no error may quote'));
});
afterAll(() => opened?.drop());
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

/** The same database through a proxy of the test's own. */
async function throughProxy() {
  const url = new URL(opened.url);
  const proxy = await startStallingProxy(Number(url.port));
  closing.push(proxy.close);
  url.port = String(proxy.port);
  return { proxy, url: url.href };
}

async function works(target: Database): Promise<void> {
  expect(await target.query('SELECT 1 AS one')).toEqual([{ one: 1 }]);
}

/** A connection that died idle may cost one failed statement each before the pool has replaced them all. */
async function recovers(target: Database): Promise<void> {
  for (let dead = 0; dead < 2; dead += 1) {
    const failure = await target.query('SELECT 1').then(
      () => undefined,
      (error) => error,
    );
    if (failure !== undefined) expect(failure).toMatchObject(UNAVAILABLE);
  }
  await works(target);
}

describe('a server that does not answer', () => {
  test('nothing listens', async () => {
    await expect(
      openDatabase({ url: `postgres://x@127.0.0.1:${await freePort()}/x` }, QUICK),
    ).rejects.toMatchObject({
      ...UNAVAILABLE,
      cause: { code: 'ECONNREFUSED' },
    });
  });

  test('the port takes connections and stays silent', async () => {
    const { proxy, url } = await throughProxy();
    proxy.stall();
    await expect(openDatabase({ url }, QUICK)).rejects.toMatchObject(UNAVAILABLE);
  });

  test('the network goes dark under open connections: statements and transactions end, and close does too', async () => {
    const { proxy, url } = await throughProxy();
    const remote = await openDatabase({ url }, QUICK);
    await works(remote);
    proxy.stall();
    const attempts = [
      remote.query('SELECT 1'),
      remote.transaction('t', readTenant),
      appendUnits(remote, WRITER, [plain('t')]),
    ];
    for (const attempt of await Promise.allSettled(attempts)) {
      expect(attempt).toMatchObject({ status: 'rejected', reason: UNAVAILABLE });
    }
    await remote.close();
  });

  test('connections are reset: each fails at most one statement before it is replaced', async () => {
    const { proxy, url } = await throughProxy();
    const remote = await openDatabase({ url }, QUICK);
    closing.push(() => remote.close());
    const sleeping = remote.query('SELECT pg_sleep(0.3)');
    sleeping.catch(() => undefined);
    await remote.query('SELECT 1');
    proxy.reset();
    await expect(sleeping).rejects.toMatchObject(UNAVAILABLE);
    await recovers(remote);
  });

  test('the answer to an append is lost: the same call again finds what was committed, once', async () => {
    const { proxy, url } = await throughProxy();
    const remote = await openDatabase({ url }, QUICK);
    await works(remote);
    const { size } = (await readLog(database, 't')).head;
    const unit = plain('t');
    proxy.swallowAnswers();
    await expect(appendUnits(remote, WRITER, [unit])).rejects.toMatchObject(UNAVAILABLE);
    expect((await readLog(database, 't')).head.size).toBe(size + 1);
    expect(await appendUnits(database, WRITER, [unit])).toMatchObject([
      { verdict: 'appended', rows: [{ index: size }] },
    ]);
    expect((await readLog(database, 't')).head.size).toBe(size + 1);
    await remote.close();
  });

  test('the server process is killed in the middle of a statement, and does not come back', async () => {
    const server = await startPostgres();
    closing.push(() => server.stop());
    await migrate(`${server.url}/postgres`);
    const lost = await openDatabase({ url: `${server.url}/postgres` }, QUICK);
    closing.push(() => lost.close());
    const sleeping = lost.query('SELECT pg_sleep(30)');
    sleeping.catch(() => undefined);
    await works(lost);
    process.kill(server.pid, 'SIGQUIT');
    await expect(sleeping).rejects.toMatchObject(UNAVAILABLE);
    await expect(lost.query('SELECT 1')).rejects.toMatchObject(UNAVAILABLE);
    await expect(lost.transaction('t', readTenant)).rejects.toMatchObject(UNAVAILABLE);
  });
});

describe('a server that answers with trouble', () => {
  test('sessions are terminated: each connection fails at most one statement before it is replaced', async () => {
    const sleeping = database.query('SELECT pg_sleep(0.35)');
    sleeping.catch(() => undefined);
    await works(database);
    await asSuperuser(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '${new URL(opened.url).pathname.slice(1)}' AND pid <> pg_backend_pid()`,
    );
    await expect(sleeping).rejects.toMatchObject({ ...UNAVAILABLE, retryAfterSeconds: 1 });
    await recovers(database);
  });

  test('a statement that takes too long is stopped and its connection used again', async () => {
    const [before] = await database.query('SELECT pg_backend_pid() AS pid');
    await expect(database.query('SELECT pg_sleep(20)')).rejects.toMatchObject({
      ...UNAVAILABLE,
      cause: { code: '57014' },
    });
    const [after] = await database.query('SELECT pg_backend_pid() AS pid');
    expect(after).toEqual(before);
  });

  test('a log order that is held too long', async () => {
    const release = Promise.withResolvers<void>();
    const held = Promise.withResolvers<void>();
    const holder = await openDatabase({ url: opened.url });
    closing.push(() => holder.close());
    const holding = holder.transaction('t', async () => {
      held.resolve();
      await release.promise;
    });
    await held.promise;
    await expect(appendUnits(database, WRITER, [plain('t')])).rejects.toMatchObject(UNAVAILABLE);
    await expect(database.transaction('t', readTenant)).rejects.toMatchObject({ cause: { code: '55P03' } });
    release.resolve();
    await holding;
    await appendUnits(database, WRITER, [plain('t')]);
  });

  test('a transaction that sits idle is ended by the server and the log goes on', async () => {
    const ended = database.transaction('t', async (tx) => {
      while (await holdsLogOrder()) await works(database);
      await tx.query('SELECT 1');
    });
    await expect(ended).rejects.toMatchObject(UNAVAILABLE);
    await appendUnits(database, WRITER, [plain('t')]);
  });

  test('every connection is taken', async () => {
    const sleeping = [1, 2].map(() => database.query('SELECT pg_sleep(0.3)').catch(() => undefined));
    const many = Array.from({ length: 6 }, () => database.query('SELECT pg_sleep(0.3)'));
    const results = await Promise.allSettled(many);
    expect(results).toContainEqual(expect.objectContaining({ reason: expect.objectContaining(UNAVAILABLE) }));
    await Promise.all(sleeping);
    await works(database);
  });

  test('the database turns read-only', async () => {
    const name = new URL(opened.url).pathname.slice(1);
    await asSuperuser(`ALTER DATABASE ${name} SET default_transaction_read_only = on`);
    const standby = await openDatabase({ url: opened.url }, QUICK);
    closing.push(() => standby.close());
    await asSuperuser(`ALTER DATABASE ${name} RESET default_transaction_read_only`);
    await works(standby);
    await expect(appendUnits(standby, WRITER, [plain('t')])).rejects.toMatchObject({
      ...UNAVAILABLE,
      cause: { code: '25006' },
    });
  });

  test('a closed database says so', async () => {
    const short = await openDatabase({ url: opened.url }, QUICK);
    await short.close();
    await short.close();
    await expect(short.query('SELECT 1')).rejects.toMatchObject({ ...UNAVAILABLE, detail: 'closed' });
  });
});

describe('what an error says', () => {
  test.each([
    ['53100', 'STORE_UNAVAILABLE'],
    ['53300', 'STORE_UNAVAILABLE'],
    ['57P01', 'STORE_UNAVAILABLE'],
    ['57P03', 'STORE_UNAVAILABLE'],
    ['40P01', 'STORE_UNAVAILABLE'],
    ['58030', 'STORE_UNAVAILABLE'],
    ['XX001', 'STORE_UNAVAILABLE'],
    ['ECONNRESET', 'STORE_UNAVAILABLE'],
    ['23505', 'CONFLICT'],
    ['23514', 'INTERNAL'],
    ['42601', 'INTERNAL'],
    ['42501', 'INTERNAL'],
  ])('%s is %s', (code, expected) => {
    expect(storeFailure(Object.assign(new Error('m'), { code }))).toMatchObject({
      code: expected,
      cause: { code },
    });
  });

  test('an error without a code is a lost connection', () => {
    expect(storeFailure(new Error('Connection terminated'))).toMatchObject(UNAVAILABLE);
    expect(connectionUsable(new Error('Query read timeout'))).toBe(false);
  });

  test('our own errors pass unchanged', () => {
    const own = new ServiceError('CONFLICT');
    expect(storeFailure(own)).toBe(own);
  });

  test('neither the statement nor a value of a row is in it', async () => {
    const taken = await database
      .transaction('t', (tx) => createTenant(tx, 'a name that no error may quote'))
      .catch((error) => error);
    expect(taken).toMatchObject({ code: 'CONFLICT', cause: { code: '23505', constraint: 'tenant_pkey' } });
    const wrong = await database
      .query("SELECT 'a name that no error may quote'::int")
      .catch((error) => error);
    expect(wrong).toMatchObject({ code: 'INTERNAL', cause: { code: '22P02' } });
    const shown = [taken, wrong].map((error) => inspect(error, { depth: 9, showHidden: true })).join('\n');
    expect(shown).not.toContain('no error may quote');
    expect(shown).not.toContain('SELECT');
  });
});

/** Whether some session still holds the row lock that is the order of the log of `t`. */
async function holdsLogOrder(): Promise<boolean> {
  const rows = await database.query(
    `SELECT 1 FROM pg_locks l JOIN pg_stat_activity a USING (pid)
     WHERE a.datname = current_database() AND l.relation = 'keytether.log_head'::regclass AND l.mode = 'RowShareLock'`,
  );
  return rows.length > 0;
}
