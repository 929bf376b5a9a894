import { describe, expect, test } from '@jest/globals';
import { newEventId } from '../../src/audit/leaf.ts';
import { createUsageLog } from '../../src/audit/usage-log.ts';
import { ServiceError } from '../../src/errors.ts';
import type { LogUnit, UnitResult } from '../../src/store/log.ts';

function unit(tenant: string, rows = 1): LogUnit {
  return {
    kind: 'plain',
    tenant,
    rows: Array.from({ length: rows }, () => ({
      eid: newEventId(),
      leaf: new Uint8Array(8),
      guarded: false,
    })),
  };
}

/** A database's log that does what the test says on each append. */
function fakeLog(script: ((units: readonly LogUnit[]) => 'ok' | 'lost' | 'down' | 'broken')[] = []) {
  const stored: string[] = [];
  const appends: number[] = [];
  const append = async (units: readonly LogUnit[]): Promise<UnitResult[]> => {
    appends.push(units.length);
    const what = script.shift()?.(units) ?? 'ok';
    if (what === 'down') throw new ServiceError('STORE_UNAVAILABLE');
    if (what === 'broken') throw new ServiceError('INTERNAL');
    const results = units.map(
      (each): UnitResult => ({
        verdict: 'appended',
        committedMs: 0,
        rows: each.rows.map(({ eid }) => {
          const id = Buffer.from(eid).toString('hex');
          if (!stored.includes(id)) stored.push(id);
          return { index: stored.indexOf(id), leafHash: new Uint8Array(32) };
        }),
      }),
    );
    if (what === 'lost') throw new ServiceError('STORE_UNAVAILABLE', { detail: 'commit' });
    return results;
  };
  return { append, stored, appends };
}

describe('the writer of the usage log', () => {
  test('appends together what is queued while an append is in flight', async () => {
    const fake = fakeLog();
    const log = createUsageLog(fake);
    const results = await Promise.all(Array.from({ length: 50 }, () => log.append(unit('a'))));
    expect(new Set(results.map(({ records }) => records[0]?.index)).size).toBe(50);
    expect(fake.appends).toEqual([50]);
  });

  test('bounds the rows of one append', async () => {
    const fake = fakeLog();
    const log = createUsageLog({ ...fake, rowsPerAppend: 10 });
    await Promise.all(Array.from({ length: 5 }, () => log.append(unit('a', 4))));
    expect(fake.appends).toEqual([2, 2, 1]);
  });

  test('makes an append again when its answer is lost, and nothing is there twice', async () => {
    const fake = fakeLog([() => 'lost', () => 'down']);
    const log = createUsageLog({ ...fake, retryMs: 1 });
    const { records } = await log.append(unit('a', 3));
    expect(records.map((record) => record?.index)).toEqual([0, 1, 2]);
    expect(fake.stored).toHaveLength(3);
    expect(fake.appends).toHaveLength(3);
  });

  test('gives up at the deadline, also for what is queued behind', async () => {
    let clock = 0;
    const fake = fakeLog(
      Array.from({ length: 100 }, () => () => {
        clock += 400;
        return 'down' as const;
      }),
    );
    const log = createUsageLog({
      ...fake,
      retryMs: 1,
      deadlineMs: 1_000,
      rowsPerAppend: 1,
      now: () => clock,
    });
    const ends = await Promise.allSettled([
      log.append(unit('a')),
      log.append(unit('b')),
      log.append(unit('c')),
    ]);
    expect(ends.map((end) => end.status === 'rejected' && end.reason.code)).toEqual(
      Array(3).fill('LOG_UNAVAILABLE'),
    );
    expect(fake.appends).toHaveLength(3);
  });

  test('lets one unit that the database refuses fail alone', async () => {
    const bad = (units: readonly LogUnit[]) =>
      units.some(({ tenant }) => tenant === 'bad') ? 'broken' : 'ok';
    const fake = fakeLog(Array.from({ length: 10 }, () => bad));
    const log = createUsageLog(fake);
    const ends = await Promise.allSettled([
      log.append(unit('a')),
      log.append(unit('bad')),
      log.append(unit('b')),
    ]);
    expect(ends.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
  });

  test('bounds what one tenant may have waiting and leaves the others room', async () => {
    const log = createUsageLog({ ...fakeLog(), rowsPerTenant: 5 });
    const first = log.append(unit('a', 5));
    await expect(log.append(unit('a'))).rejects.toMatchObject({ code: 'LOG_UNAVAILABLE', detail: 'queue' });
    await expect(log.append(unit('b'))).resolves.toMatchObject({ verdict: 'appended' });
    await first;
    await expect(log.append(unit('a', 5))).resolves.toMatchObject({ verdict: 'appended' });
  });

  test('writes what it accepted before it closes, and accepts nothing more', async () => {
    const fake = fakeLog();
    const log = createUsageLog(fake);
    const accepted = log.append(unit('a', 2));
    await log.close();
    expect(fake.stored).toHaveLength(2);
    await accepted;
    await expect(log.append(unit('a'))).rejects.toMatchObject({ code: 'LOG_UNAVAILABLE' });
  });
});
