/** CPU time of processes that were started here, from `/proc`. On a system without it there are no figures. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';

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

/** Ticks that every processor of the machine spent working or had taken from it, see proc(5), `/proc/stat`. */
function machineTicks(): number {
  const [cpu = ''] = readFileSync('/proc/stat', 'latin1').split('\n');
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] = cpu
    .trim()
    .split(/\s+/)
    .slice(1)
    .map(Number);
  return user + nice + system + irq + softirq + steal;
}

/** One process, or one with all its descendants (PostgreSQL works in a process for each connection). */
export interface Measured {
  readonly name: string;
  readonly pid: number;
  readonly tree: boolean;
}

/** CPU seconds at one moment. Granularity is one clock tick, mostly 10 ms. */
export interface CpuSample {
  readonly processes: Readonly<Record<string, number>>;
  /** The whole machine, since it started. */
  readonly machine: number;
}

const NO_SAMPLE: CpuSample = { processes: {}, machine: 0 };

/**
 * Reads CPU times together. Descendants that end between two samples still count, by way of the parent that waited
 * for them. Without `/proc` every sample is empty.
 */
export function cpuSampler(processes: readonly Measured[]): () => CpuSample {
  if (!existsSync('/proc/stat')) return () => NO_SAMPLE;
  const perSecond = ticksPerSecond();
  return () => {
    const seconds: Record<string, number> = {};
    for (const { name, pid, tree } of processes) {
      const stat = statOf(pid);
      if (stat !== undefined) seconds[name] = (tree ? treeTicks(pid) : stat.own) / perSecond;
    }
    return { processes: seconds, machine: machineTicks() / perSecond };
  };
}

/** CPU seconds between two samples. `others` is what the machine spent beyond the named processes. */
export function cpuBetween(
  before: CpuSample,
  after: CpuSample,
): { readonly processes: Readonly<Record<string, number>>; readonly others: number } {
  const spent = Object.entries(after.processes).map(([name, seconds]): [string, number] => [
    name,
    seconds - (before.processes[name] ?? 0),
  ]);
  const ours = spent.reduce((sum, [, seconds]) => sum + seconds, 0);
  return {
    processes: Object.fromEntries(spent),
    others: Math.max(0, after.machine - before.machine - ours),
  };
}
