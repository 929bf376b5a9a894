/**
 * The writer of the usage log: group commit without a timer. One append is in flight; what is queued meanwhile goes with the
 * next. A caller gets his records when they are durable, or LOG_UNAVAILABLE, and then nothing may be released.
 *
 * An append whose answer is lost is made again with the same event ids, which changes nothing if it took effect.
 */
import { codeOf, ServiceError } from '../errors.ts';
import type { LogUnit, UnitResult, Verdict } from '../store/log.ts';
import { type DurableRecord, durableRecord } from './sealed.ts';

export interface Appended {
  readonly verdict: Verdict;
  /** In the order of the unit's rows; undefined where the row was dropped. */
  readonly records: readonly (DurableRecord | undefined)[];
}

export interface UsageLog {
  /** Resolves when the unit is durable. Throws LOG_UNAVAILABLE; whether it is in the log is then not known. */
  append(unit: LogUnit): Promise<Appended>;
  /** Refuses further units and resolves when all that were accepted are settled. */
  close(): Promise<void>;
}

export interface UsageLogOptions {
  /** One durable append of many units, idempotent by event id. */
  append(units: readonly LogUnit[]): Promise<UnitResult[]>;
  readonly now?: () => number;
  /** Rows that one tenant may have waiting; one more is LOG_UNAVAILABLE. */
  readonly rowsPerTenant?: number;
  /** Rows of one append. */
  readonly rowsPerAppend?: number;
  /** Milliseconds that a unit may wait, answers that were lost included. */
  readonly deadlineMs?: number;
  /** Milliseconds before an append is made again. */
  readonly retryMs?: number;
}

interface Waiting {
  readonly unit: LogUnit;
  readonly since: number;
  readonly resolve: (appended: Appended) => void;
  readonly reject: (error: unknown) => void;
}

export function createUsageLog(options: UsageLogOptions): UsageLog {
  const {
    append,
    now = () => performance.now(),
    rowsPerTenant = 20_000,
    rowsPerAppend = 2_000,
    deadlineMs = 2_500,
    retryMs = 50,
  } = options;
  let queue: Waiting[] = [];
  let flushing: Promise<void> | undefined;
  let closed = false;
  const rowsOf = new Map<string, number>();

  function enqueue(unit: LogUnit): Promise<Appended> {
    const rows = (rowsOf.get(unit.tenant) ?? 0) + unit.rows.length;
    if (closed || rows > rowsPerTenant) {
      return Promise.reject(new ServiceError('LOG_UNAVAILABLE', { detail: closed ? 'closed' : 'queue' }));
    }
    rowsOf.set(unit.tenant, rows);
    return new Promise((resolve, reject) => {
      queue.push({ unit, since: now(), resolve, reject });
      flushing ??= flush();
    });
  }

  async function flush(): Promise<void> {
    // Everything that is queued in this turn of the event loop goes together.
    await new Promise((resume) => setImmediate(resume));
    while (queue.length > 0) await write(take());
    flushing = undefined;
  }

  function take(): Waiting[] {
    let rows = 0;
    let count = 0;
    for (const { unit } of queue) {
      if (count > 0 && rows + unit.rows.length > rowsPerAppend) break;
      rows += unit.rows.length;
      count += 1;
    }
    const batch = queue.slice(0, count);
    queue = queue.slice(count);
    return batch;
  }

  async function write(batch: Waiting[]): Promise<void> {
    let waiting = batch;
    for (;;) {
      try {
        const results = await append(waiting.map(({ unit }) => unit));
        waiting.forEach((each, i) => {
          settle(each, results[i]);
        });
        return;
      } catch (error) {
        if (codeOf(error) !== 'STORE_UNAVAILABLE') return alone(waiting, error);
        waiting = expire(waiting, error);
        if (waiting.length === 0) return;
        await new Promise((resume) => setTimeout(resume, retryMs));
      }
    }
  }

  /** The database refuses the append itself, so one unit is at fault: each goes on its own. */
  async function alone(batch: Waiting[], error: unknown): Promise<void> {
    if (batch.length === 1 && batch[0] !== undefined) return fail(batch[0], error);
    for (const each of batch) await write([each]);
  }

  function expire(batch: Waiting[], error: unknown): Waiting[] {
    const late = now() - deadlineMs;
    const stays: Waiting[] = [];
    for (const each of batch) {
      if (each.since > late) stays.push(each);
      else fail(each, error);
    }
    for (const each of queue.filter(({ since }) => since <= late)) fail(each, error);
    queue = queue.filter(({ since }) => since > late);
    return stays;
  }

  function release(unit: LogUnit): void {
    const rows = (rowsOf.get(unit.tenant) ?? 0) - unit.rows.length;
    if (rows > 0) rowsOf.set(unit.tenant, rows);
    else rowsOf.delete(unit.tenant);
  }

  function fail(each: Waiting, cause: unknown): void {
    release(each.unit);
    each.reject(new ServiceError('LOG_UNAVAILABLE', { cause }));
  }

  function settle(each: Waiting, result: UnitResult | undefined): void {
    if (result === undefined) {
      fail(each, new Error('no result for a unit'));
      return;
    }
    release(each.unit);
    each.resolve({
      verdict: result.verdict,
      records: each.unit.rows.map((row, i) => {
        const appended = result.rows[i];
        if (appended === undefined || appended.index === null) return undefined;
        return durableRecord(row.eid, appended.index, appended.leafHash);
      }),
    });
  }

  return {
    append: enqueue,
    async close() {
      closed = true;
      await flushing;
    },
  };
}
