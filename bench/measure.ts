/** CPU time of processes that were started here, from `/proc`. On a system without it there are no figures. */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

interface Stat {
  readonly parent: number;
  /** Ticks of the process itself, all threads. */
  readonly own: number;
  /** Ticks of children that ended and were waited for. */
  readonly reaped: number;
}

/** The fields of `/proc/<pid>/stat` after the command name, which may itself hold spaces and brackets. See proc(5). */
function parseStat(text: string): Stat | undefined {
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const at = (field: number): number => Number(fields[field - 3]);
  const stat = { parent: at(4), own: at(14) + at(15), reaped: at(16) + at(17) };
  return Object.values(stat).every(Number.isFinite) ? stat : undefined;
}

function statOf(pid: number): Stat | undefined {
  try {
    return parseStat(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    return undefined;
  }
}

function ticksPerSecond(): number {
  try {
    return Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' })) || 100;
  } catch {
    return 100;
  }
}

function treeTicks(root: number): number {
  const stats = new Map<number, Stat>();
  for (const entry of readdirSync('/proc')) {
    const stat = /^\d+$/.test(entry) ? statOf(Number(entry)) : undefined;
    if (stat !== undefined) stats.set(Number(entry), stat);
  }
  const isBelow = (pid: number): boolean => {
    for (let at = pid; at > 1; at = stats.get(at)?.parent ?? 0) if (at === root) return true;
    return false;
  };
  let ticks = 0;
  for (const [pid, stat] of stats) if (isBelow(pid)) ticks += stat.own + stat.reaped;
  return ticks;
}

/** One process, or one with all its descendants (PostgreSQL works in a process for each connection). */
export interface Measured {
  readonly name: string;
  readonly pid: number;
  readonly tree: boolean;
}

/** CPU seconds since each process started, by name. Granularity is one clock tick, mostly 10 ms. */
export type CpuSample = Readonly<Record<string, number>>;

/** Reads CPU times together. Descendants that end between two samples still count, by way of the parent that waited for them. */
export function cpuSampler(processes: readonly Measured[]): () => CpuSample {
  const perSecond = ticksPerSecond();
  return () => {
    const sample: Record<string, number> = {};
    for (const { name, pid, tree } of processes) {
      const stat = statOf(pid);
      if (stat !== undefined) sample[name] = (tree ? treeTicks(pid) : stat.own) / perSecond;
    }
    return sample;
  };
}

/** CPU milliseconds for 1,000 requests, by name; empty for no request. */
export function cpuPerThousand(before: CpuSample, after: CpuSample, requests: number): CpuSample {
  if (requests === 0) return {};
  const each = Object.entries(after).map(([name, seconds]): [string, number] => [
    name,
    ((seconds - (before[name] ?? 0)) * 1e6) / requests,
  ]);
  return Object.fromEntries(each);
}
