import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { appendUnits } from '../../src/store/log.ts';
import { openTestPostgres, type TestPostgres } from '../support/database.ts';
import { intent, keyedTenant, outcome, plain, WRITER } from '../support/log-units.ts';

let opened: TestPostgres;

beforeAll(async () => {
  opened = await openTestPostgres({ connections: 2 });
});
afterAll(() => opened?.drop());

/** Rows that the transaction has read by reading a table or an index from end to end, and by key. */
const READS = `SELECT relname AS name, seq_tup_read::int AS whole, coalesce(idx_tup_fetch, 0)::int AS by_key
  FROM pg_stat_xact_user_tables WHERE relname IN ('log_leaf', 'flight', 'key_record', 'log_head', 'tenant')`;

test('an append reads no rows but those that it names, also with a plan from when the log was empty', async () => {
  const { tenant, dataKey } = await keyedTenant(opened.database, 'ten_plans');
  for (let i = 0; i < 40; i++) await keyedTenant(opened.database, `ten_other_${i}`);
  await opened.database.transaction(tenant, async (tx) => {
    const flight = async () => {
      const opens = intent(tenant);
      const counts = [{ keyId: dataKey, count: 1, limit: 1_000_000 }];
      const closes = outcome(opens, 'ok', { counts });
      expect(await appendUnits(tx, WRITER, [opens])).toMatchObject([{ verdict: 'appended' }]);
      expect(await appendUnits(tx, WRITER, [closes])).toMatchObject([{ verdict: 'appended' }]);
    };
    for (let i = 0; i < 20; i++) await flight();
    await appendUnits(tx, WRITER, [plain(tenant, 1_000)]);
    const before = await tx.query<{ name: string; whole: number; by_key: number }>(READS);
    await flight();
    const after = await tx.query<{ name: string; whole: number; by_key: number }>(READS);
    expect(before).toHaveLength(5);
    for (const { name, whole, by_key } of before) {
      const now = after.find((one) => one.name === name);
      expect([name, (now?.whole ?? 0) - whole]).toEqual([name, 0]);
      expect([name, (now?.by_key ?? 0) - by_key < 12]).toEqual([name, true]);
    }
  });
});
