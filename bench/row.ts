/** One line of the table: a load run against running processes, with what each of them cost. */
import { type LoadPlan, type LoadResult, runLoad } from './load.ts';
import { cpuBetween, cpuSampler, type Measured } from './measure.ts';

export interface Row {
  readonly name: string;
  readonly load: LoadResult;
  /** Things done per answered request: 100 for a batch of 100 items. */
  readonly itemsPerRequest: number;
  /** CPU milliseconds for 1,000 answered requests, by process; `load` is the generator. Empty where the system does not tell. */
  readonly cpu: Readonly<Record<string, number>>;
  /** Processors that everybody else kept busy during the run, 0 when we were alone. */
  readonly othersCores: number;
  /** Calls to the customers' KMS in each second, where there is one. */
  readonly kmsCallsPerSecond: number | undefined;
}

export interface RowOptions {
  readonly name: string;
  readonly plan: LoadPlan;
  readonly processes: readonly Measured[];
  readonly itemsPerRequest?: number;
  /** Calls that the KMS has had so far. Read at both ends of the measured window. */
  readonly kmsCalls?: () => Promise<number>;
}

/** Name of the load generator among the costs. */
export const LOAD = 'load';

/** @throws what {@link runLoad} throws. */
export async function measureRow(options: RowOptions): Promise<Row> {
  const { name, plan, processes, itemsPerRequest = 1, kmsCalls } = options;
  const cpu = cpuSampler(processes);
  const sample = async () => ({ cpu: cpu(), calls: await kmsCalls?.() });
  const { result, before, after } = await runLoad(plan, sample);
  const spent = cpuBetween(before.cpu, after.cpu);
  const perThousand: Record<string, number> = {};
  if (result.answered > 0) {
    for (const [process, seconds] of Object.entries({ ...spent.processes, [LOAD]: result.cpuSeconds })) {
      perThousand[process] = (seconds * 1e6) / result.answered;
    }
  }
  return {
    name,
    load: result,
    itemsPerRequest,
    cpu: perThousand,
    othersCores: Math.max(0, spent.others - result.cpuSeconds) / result.seconds,
    kmsCallsPerSecond:
      after.calls === undefined || before.calls === undefined
        ? undefined
        : (after.calls - before.calls) / result.seconds,
  };
}

/** The row with the most answers per second. @throws RangeError for no rows. */
export function fastest(rows: readonly Row[]): Row {
  return rows.reduce((best, row) => (row.load.perSecond > best.load.perSecond ? row : best));
}
