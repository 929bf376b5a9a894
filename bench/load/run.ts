/** One load run: warm-up, measured window, drain. */
import { Connection, type Course } from './connection.ts';
import { Histogram } from './histogram.ts';
import { assertPlan, type LoadPlan, prepare } from './plan.ts';

export interface LoadResult {
  readonly connections: number;
  /** Length of the measured window; shorter than planned when `maxRequests` ended it. */
  readonly seconds: number;
  /** Right answers that came within the window. */
  readonly answered: number;
  readonly perSecond: number;
  /** Latency of right answers to requests sent within the window, those that came after it included; milliseconds. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  /** Answers within the window that were not right, by status and problem code or by what befell the socket. */
  readonly errors: Readonly<Record<string, number>>;
  readonly errorCount: number;
  readonly reconnects: number;
  /** Requests that had no answer when the drain ended. */
  readonly unanswered: number;
  /** CPU that the generator itself used within the window. */
  readonly cpuSeconds: number;
}

/** What happens in a run, told at the moment when it happens, so that others can sample at the same time. */
export interface Moments {
  measuring(): void;
  measured(): void;
}

const DRAIN_STEP_MS = 10;
/** Fewer than the usual backlog of a listening socket. */
const CONNECTS_AT_ONCE = 64;
const READ_BUFFER_BYTES = 64 * 1024;

class Run implements Course {
  readonly #sendLimit: number;
  readonly #latencies = new Histogram();
  readonly #errors = new Map<string, number>();
  #sent = 0;
  #answered = 0;
  #reconnects = 0;
  #windowStart = Number.POSITIVE_INFINITY;
  #windowEnd = Number.POSITIVE_INFINITY;
  #stopped = false;
  #endEarly: () => void = () => undefined;

  constructor(maxRequests: number) {
    this.#sendLimit = maxRequests;
  }

  /** Settles when the limit on requests is reached. */
  readonly exhausted = new Promise<void>((resolve) => {
    this.#endEarly = resolve;
  });

  openWindow(): void {
    this.#windowStart = performance.now();
  }

  closeWindow(): void {
    this.#windowEnd = performance.now();
    this.#stopped = true;
  }

  get over(): boolean {
    return this.#stopped;
  }

  take(): boolean {
    if (this.#stopped) return false;
    if (this.#sent >= this.#sendLimit) {
      this.#endEarly();
      return false;
    }
    this.#sent += 1;
    return true;
  }

  right(sentAt: number, now: number): void {
    if (now >= this.#windowStart && now < this.#windowEnd) this.#answered += 1;
    if (sentAt >= this.#windowStart) this.#latencies.record((now - sentAt) * 1000);
  }

  wrong(what: string, _sentAt: number, now: number): void {
    if (now < this.#windowStart || now >= this.#windowEnd) return;
    this.#errors.set(what, (this.#errors.get(what) ?? 0) + 1);
  }

  reconnected(): void {
    this.#reconnects += 1;
  }

  result(connections: number, unanswered: number, cpuSeconds: number): LoadResult {
    const seconds = (this.#windowEnd - this.#windowStart) / 1000;
    const errors = Object.fromEntries([...this.#errors].sort(([, a], [, b]) => b - a));
    return {
      connections,
      seconds,
      answered: this.#answered,
      perSecond: this.#answered / seconds,
      p50Ms: this.#latencies.quantile(0.5) / 1000,
      p99Ms: this.#latencies.quantile(0.99) / 1000,
      maxMs: this.#latencies.max / 1000,
      errors,
      errorCount: [...this.#errors.values()].reduce((sum, count) => sum + count, 0),
      reconnects: this.#reconnects,
      unanswered,
      cpuSeconds,
    };
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function connectionsOf(plan: LoadPlan, run: Run): Connection[] {
  const authority = `${plan.host.includes(':') ? `[${plan.host}]` : plan.host}:${plan.port}`;
  const sets = plan.requestSets.map((set) => set.map((request) => prepare(request, authority)));
  const readBuffer = Buffer.allocUnsafeSlow(READ_BUFFER_BYTES);
  const { host, port, pauseAfterErrorMs } = plan;
  return Array.from({ length: plan.connections }, (_, i) => {
    const requests = sets[i % sets.length] ?? [];
    // Connections of one set begin at different requests of it.
    const first = Math.floor(i / sets.length);
    return new Connection({ host, port, requests, first, pauseAfterErrorMs, readBuffer }, run);
  });
}

async function openAll(connections: readonly Connection[]): Promise<void> {
  for (let i = 0; i < connections.length; i += CONNECTS_AT_ONCE) {
    await Promise.all(connections.slice(i, i + CONNECTS_AT_ONCE).map((connection) => connection.open()));
  }
}

/** Waits for the requests in flight, then closes. @returns how many had no answer. */
async function drain(connections: readonly Connection[], drainMs: number): Promise<number> {
  const until = performance.now() + drainMs;
  let waiting = connections.filter((connection) => connection.inFlight).length;
  while (waiting > 0 && performance.now() < until) {
    await pause(DRAIN_STEP_MS);
    waiting = connections.filter((connection) => connection.inFlight).length;
  }
  for (const connection of connections) connection.close();
  return waiting;
}

/**
 * Runs the plan in this process.
 * @throws RangeError for a plan out of bounds, the socket's error when a first connect fails.
 */
export async function run(plan: LoadPlan, moments: Moments): Promise<LoadResult> {
  assertPlan(plan);
  const course = new Run(plan.maxRequests);
  const connections = connectionsOf(plan, course);
  await openAll(connections);
  for (const connection of connections) connection.send();
  await Promise.race([pause(plan.warmupMs), course.exhausted]);
  course.openWindow();
  moments.measuring();
  const before = process.cpuUsage();
  await Promise.race([pause(plan.durationMs), course.exhausted]);
  const used = process.cpuUsage(before);
  course.closeWindow();
  moments.measured();
  const unanswered = await drain(connections, plan.drainMs);
  return course.result(plan.connections, unanswered, (used.user + used.system) / 1e6);
}
