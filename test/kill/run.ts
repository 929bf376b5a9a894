/** One run: traffic, kills and restarts, then the ledger against the log. */
import { Random } from '../fuzz/random.ts';
import type { Told } from './client.ts';
import { machineMs } from './clock.ts';
import { checkTenant, type Findings, type Released, sumOf } from './ledger.ts';
import { type Asked, type Kill, type KmsAnswer, killsInWindow, RECENT_MS } from './window.ts';
import { startWorld, type World } from './world.ts';

export type Victim = 'service' | 'postgres' | 'both';

export interface RunOptions {
  readonly kills: number;
  readonly seed: number;
  readonly victims: readonly Victim[];
  readonly tree?: string;
  readonly sabotage?: string;
  /** Whether released envelopes are opened again at the end. */
  readonly verify: boolean;
  /** Traffic for so long instead of kills. */
  readonly trafficMs?: number;
  say?(line: string): void;
}

export interface RunReport {
  readonly kills: Readonly<Record<Victim, number>>;
  readonly inWindow: number;
  readonly findings: Findings;
  /** Requests by status and code. */
  readonly answers: ReadonlyMap<string, number>;
  /** Answers that no kill explains: every status but 200, 503 and none. */
  readonly unexplained: number;
  /** Requests that took longer than their deadline. */
  readonly hung: number;
  readonly longestMs: number;
  /** Released decrypts that were not what was encrypted. */
  readonly different: number;
  readonly opened: number;
  readonly unopened: number;
  /** Processes that ended by themselves. */
  readonly ended: readonly string[];
  readonly seconds: number;
  /** Mean milliseconds from one kill to the next. */
  readonly cycleMs: number;
}

/** Of ten kills, these many wait for an answer of the KMS; the others come at any moment. */
const AIMED_OF_TEN = 8;
/** A kill that is aimed comes 0 to 5 ms after the answer. */
const AIM_MS = 6;
const ANY_MOMENT_MS = 200;
/** Of so many kills of PostgreSQL, one keeps it down for longer than the log and the requests wait. */
const LONG_OUTAGE_OF = 25;
const LONG_OUTAGE_MS = 4_500;
/** Answers that must be released after a restart before the next kill. */
const SETTLED = 12;
const COME_BACK_MS = 20_000;
/** The deadline of a request, and what a busy machine may add. */
const HUNG_MS = 4_000 + 1_000;

export async function run(options: RunOptions): Promise<RunReport> {
  const started = machineMs();
  const random = new Random(options.seed);
  const kills: Kill[] = [];
  const count: Record<Victim, number> = { service: 0, postgres: 0, both: 0 };
  const released = new Map<string, Released[]>();
  const answers = new Map<string, number>();
  const asked: Asked[] = [];
  const aimed: KmsAnswer[] = [];
  const ended: string[] = [];
  let recent: KmsAnswer[] = [];
  let onAnswer: (() => void) | undefined;
  let [sinceRestart, upSince, hung, longestMs, different, unexplained] = [0, machineMs(), 0, 0, 0, 0];

  function told(line: Told): void {
    const { tenant, from, to, status } = line;
    const name = `${status || 'no answer'} ${line.code ?? ''}`.trim();
    answers.set(name, (answers.get(name) ?? 0) + 1);
    longestMs = Math.max(longestMs, to - from);
    if (to - from > HUNG_MS) hung += 1;
    if (![0, 200, 503].includes(status)) unexplained += 1;
    if (kills.some(({ at }) => from < at && to > at)) asked.push({ tenant, from, to });
    if (status !== 200 || line.receipt === undefined) return;
    if (line.same === false) different += 1;
    if (from > upSince) sinceRestart += 1;
    const { origin, index, leafHash } = line.receipt;
    const { operation, requestId = '', envelope = '' } = line;
    const answer = { tenant, requestId, operation, origin, index, leafHash, envelope, arrivedAt: to };
    const list = released.get(tenant);
    if (list === undefined) released.set(tenant, [answer]);
    else list.push(answer);
  }

  function answered(cid: string, at: number): void {
    if (recent.length > 2_000) recent = recent.filter((each) => each.at > at - RECENT_MS);
    recent.push({ cid, at });
    onAnswer?.();
  }

  /** Resolves when the moment of the next kill has come. */
  async function moment(): Promise<void> {
    if (random.int(10) >= AIMED_OF_TEN) return pause(random.int(ANY_MOMENT_MS));
    await pause(random.int(ANY_MOMENT_MS));
    await within(
      COME_BACK_MS,
      'no answer of the KMS to aim at',
      new Promise<void>((resolve) => {
        onAnswer = resolve;
      }),
    );
    onAnswer = undefined;
    const delay = random.int(AIM_MS);
    if (delay > 0) await pause(delay);
  }

  function kill(world: World, victim: Victim): void {
    const at = machineMs();
    if (victim !== 'postgres') world.killService();
    if (victim !== 'service') world.killPostgres();
    kills.push({ at, upSince });
    count[victim] += 1;
    aimed.push(...recent.filter((each) => each.at > at - RECENT_MS));
    recent = [];
  }

  async function restart(world: World, victim: Victim): Promise<void> {
    if (victim !== 'service') {
      if (random.int(LONG_OUTAGE_OF) === 0) await pause(LONG_OUTAGE_MS);
      await world.restartPostgres();
    }
    if (victim !== 'postgres') await world.restartService();
    [sinceRestart, upSince] = [0, machineMs()];
  }

  /** Waits until answers are released to requests that came after the restart. */
  async function settled(): Promise<void> {
    const end = machineMs() + COME_BACK_MS;
    while (sinceRestart < SETTLED) {
      if (ended.length > 0) throw new Error(ended[0]);
      if (machineMs() > end) throw new Error(`nothing is released ${COME_BACK_MS} ms after a restart`);
      await pause(5);
    }
  }

  const world = await startWorld({
    tenants: 6,
    clients: 2,
    lanes: 2,
    ...(options.tree === undefined ? {} : { tree: options.tree }),
    ...(options.sabotage === undefined ? {} : { sabotage: options.sabotage }),
    told,
    answered,
    ended: (who, why) => ended.push(`${who} ended by itself: ${why}`),
  });
  try {
    const first = machineMs();
    upSince = first;
    for (let i = 0; i < options.kills; i += 1) {
      await settled();
      await moment();
      // The last one takes everything down, so that what is read at the end has been recovered from the disk.
      const victim = i === options.kills - 1 ? 'both' : random.pick(options.victims);
      kill(world, victim);
      await restart(world, victim);
      if ((i + 1) % 25 === 0) options.say?.(`${i + 1} kills, ${size(released)} answers released`);
    }
    const cycleMs = options.kills === 0 ? 0 : (machineMs() - first) / options.kills;
    if (options.trafficMs === undefined) await settled();
    else await pause(options.trafficMs);
    await world.stopTraffic();
    const findings: Findings[] = [];
    for (const tenant of world.tenants) {
      findings.push(checkTenant(released.get(tenant) ?? [], await world.readLog(tenant)));
    }
    const total = sumOf(findings);
    const { opened, unopened } = options.verify ? await world.verify() : { opened: 0, unopened: 0 };
    return {
      kills: count,
      inWindow: killsInWindow(kills, aimed, asked, total.flights),
      findings: total,
      answers,
      unexplained,
      hung,
      longestMs,
      different,
      opened,
      unopened,
      ended,
      seconds: (machineMs() - started) / 1_000,
      cycleMs,
    };
  } finally {
    await world.close();
  }
}

const size = (released: ReadonlyMap<string, readonly Released[]>) =>
  [...released.values()].reduce((total, list) => total + list.length, 0);

function pause(ms: number): Promise<void> {
  return new Promise((resume) => setTimeout(resume, ms));
}

async function within(ms: number, otherwise: string, work: Promise<void>): Promise<void> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error(otherwise)), ms);
  try {
    await Promise.race([work, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
