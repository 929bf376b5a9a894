/**
 * A model of the world around the freshness gate, and a search through every order in which its events can happen.
 *
 * The gate class under test is the shipped one (or a mutant of its very text). The model has one customer's KMS, whose key
 * the customer switches off and on; one usage log, shared by the replicas, that judges each append as `log_append` does; our own
 * state with a version; and clocks that move only when a timer fires or a machine is suspended. Every port of the
 * gate takes two steps (the moment where the world decides, and the moment where the answer arrives), so that any
 * other event can fall between.
 *
 * A node is one state of the world; two schedules that lead to the same state are followed once. States are told apart by
 * everything outside the gate that could matter: requests, open calls and what they carry, timers, the log, clocks.
 */

import type { ErrorCode } from '../../src/errors.ts';
import type {
  CommitVerdict,
  FlightTarget,
  GateLimits,
  GatePorts,
  GateResult,
  KmsOutcome,
  Plan,
  Use,
} from '../../src/keyring/gate-ports.ts';

interface Request {
  readonly id: number;
  readonly replica: number;
  readonly scope: number;
}
interface Target extends FlightTarget {
  /** The version of our own state that the round read. */
  readonly version: number;
}
interface Intent {
  readonly index: number;
}
interface Answer extends KmsOutcome {
  readonly key: { zeroed: boolean };
  readonly call: number;
}
interface Opened {
  readonly request: number;
  readonly call: number;
  dropped: boolean;
}
type Ports = GatePorts<Request, Target, Intent, Answer, Opened>;

export interface GateLike {
  use(tenant: string, request: Request, weight: number, done: (result: GateResult<Opened>) => void): void;
  readonly busy: number;
}
export type GateClass = new (ports: Ports, limits: GateLimits) => GateLike;

/** What may happen in one exploration, and how often. */
export interface Scenario {
  readonly name: string;
  /** Replica and scope of each request; requests of one replica arrive in this order. */
  readonly requests: readonly {
    readonly replica: number;
    readonly scope?: number;
    readonly poisoned?: boolean;
  }[];
  readonly flightsPerTenant: number;
  readonly revokes?: number;
  readonly enables?: number;
  /** Changes of our own state by an administrator. */
  readonly changes?: number;
  /** KMS calls that end in an unknown answer. */
  readonly unknowns?: number;
  /** Driver calls that throw at once. */
  readonly throws?: number;
  /** Commits that report a failure, applied or not. */
  readonly lostCommits?: number;
  /** Timers that fire while something else could still happen. */
  readonly timers?: number;
  /** Stalls: the clocks move on and no timer fires yet. */
  readonly stalls?: number;
  /** Jumps of the wall clock: on, when the machine was suspended, or back. The monotonic clock does not jump. */
  readonly suspends?: number;
}

export interface Exploration {
  readonly nodes: number;
  readonly schedules: number;
  readonly violation: string | undefined;
  readonly schedule: string;
  /** Whether the whole space was visited. */
  readonly complete: boolean;
}

const LIMITS = {
  flights: 8,
  pendingPerTenant: 8,
  roundRequests: 8,
  roundBytes: 1000,
  attemptMs: 1500,
  maxAgeMs: 2000,
  deadlineMs: 4000,
  backoffMs: 200,
};

interface Op {
  readonly label: string;
  /** What this operation carries and how far it is, for telling states apart. */
  state: string;
  /** The next steps, any of which may happen. */
  steps: { readonly name: string; readonly budget?: keyof Budgets; readonly run: () => void }[];
}
interface Timer {
  readonly due: number;
  readonly label: string;
  readonly fn: () => void;
}
interface Budgets {
  revokes: number;
  enables: number;
  changes: number;
  unknowns: number;
  throws: number;
  lostCommits: number;
  timers: number;
  suspends: number;
  stalls: number;
}
interface Call {
  readonly id: number;
  readonly scope: string;
  readonly replica: number;
  readonly startedStep: number;
  readonly startedMono: number;
  readonly startedWall: number;
  readonly intent: number;
  decided: number;
}

class World {
  mono = 0;
  skew = 0;
  step = 0;
  enabled = true;
  version = 0;
  violation: string | undefined;
  readonly budgets: Budgets;
  readonly ops: Op[] = [];
  readonly timers: Timer[] = [];
  readonly scenario: Scenario;
  readonly requests: (Request & {
    arrived: number;
    arrivedMono: number;
    result: string;
  })[];
  readonly gates: GateLike[];
  /** The usage log, in order, as `kind:…` words; and what its append function remembers. */
  readonly log: string[] = [];
  readonly openFlights = new Map<number, 'open' | 'ok' | 'closed'>();
  readonly logFence = new Map<string, number>();
  readonly okLeaf = new Map<number, number>();
  readonly notReleased = new Set<number>();
  readonly released = new Set<number>();
  /** Highest refused intent that each replica has heard of, by entry. */
  readonly heard: Map<string, number>[];
  readonly calls: Call[] = [];
  readonly liveKeys = new Set<Answer['key']>();
  readonly callsInFlight: number[];

  constructor(gateClass: GateClass, scenario: Scenario) {
    this.scenario = scenario;
    this.budgets = {
      revokes: scenario.revokes ?? 0,
      enables: scenario.enables ?? 0,
      changes: scenario.changes ?? 0,
      unknowns: scenario.unknowns ?? 0,
      throws: scenario.throws ?? 0,
      lostCommits: scenario.lostCommits ?? 0,
      timers: scenario.timers ?? 0,
      suspends: scenario.suspends ?? 0,
      stalls: scenario.stalls ?? 0,
    };
    this.requests = scenario.requests.map((request, id) => ({
      id,
      replica: request.replica,
      scope: request.scope ?? 0,
      arrived: -1,
      arrivedMono: 0,
      result: '',
    }));
    const replicas = 1 + Math.max(...scenario.requests.map((request) => request.replica));
    this.heard = Array.from({ length: replicas }, () => new Map());
    this.callsInFlight = Array.from({ length: replicas }, () => 0);
    this.gates = this.heard.map(
      (_, replica) =>
        new gateClass(this.#ports(replica), { ...LIMITS, flightsPerTenant: scenario.flightsPerTenant }),
    );
  }

  fail(what: string): void {
    this.violation ??= what;
  }

  #op(label: string, state: string, steps: Op['steps']): Op {
    const op: Op = { label, state, steps };
    this.ops.push(op);
    return op;
  }

  #end(op: Op): void {
    this.ops.splice(this.ops.indexOf(op), 1);
  }

  #ports(replica: number): Ports {
    return {
      now: () => this.mono,
      wall: () => this.mono + this.skew,
      timer: (ms, fn) => {
        const timer: Timer = { due: this.mono + ms, label: `${replica}t${ms}`, fn };
        this.timers.push(timer);
        return () => {
          const at = this.timers.indexOf(timer);
          if (at >= 0) this.timers.splice(at, 1);
        };
      },
      prepare: (_tenant, requests, done) => this.#prepare(replica, requests, done),
      begin: (_tenant, flight, requests, done) => this.#begin(replica, flight, requests, done),
      call: (_tenant, flight, intent, done) => this.#call(replica, flight, intent, done),
      use: (_flight, answer, request) => {
        if (answer.key.zeroed) this.fail('a zeroed key is used');
        if (this.scenario.requests[request.id]?.poisoned)
          throw Object.assign(new Error('poisoned'), { code: 'DECRYPT_FAILED' });
        return { request: request.id, call: answer.call, dropped: false };
      },
      dispose: (_flight, answer) => {
        answer.key.zeroed = true;
        this.liveKeys.delete(answer.key);
      },
      unanswered: (_tenant, flight, intent) => {
        this.log.push(`unknown:${flight.entry}:${intent.index}`);
        this.openFlights.set(intent.index, 'closed');
      },
      commit: (_tenant, flight, intent, answer, uses, done) =>
        this.#commit(replica, flight, intent, answer, uses, done),
      drop: (opened) => {
        opened.dropped = true;
      },
      notReleased: (_tenant, _flight, _intent, opened) => {
        this.log.push(`held:${opened.request}`);
        this.notReleased.add(opened.request);
      },
      codeOf: (error) => ((error as { code?: ErrorCode }).code ?? 'INTERNAL') as ErrorCode,
    };
  }

  #prepare(replica: number, requests: readonly Request[], done: (plans: Plan<Target>[]) => void): void {
    const ids = requests.map((request) => request.id);
    const op = this.#op('read', `${replica}read${ids}`, [
      {
        name: `read(${ids})`,
        run: () => {
          const version = this.version;
          op.state = `${replica}read${ids}v${version}`;
          op.steps = [
            {
              name: `state(${ids})`,
              run: () => {
                this.#end(op);
                done(
                  requests.map((request) => ({
                    flight: { key: `s${request.scope}`, entry: `s${request.scope}`, version },
                  })),
                );
              },
            },
          ];
        },
      },
    ]);
  }

  #begin(
    replica: number,
    flight: Target,
    requests: readonly Request[],
    done: (intent: Intent) => void,
  ): void {
    const ids = requests.map((request) => request.id);
    const op = this.#op('intent', `${replica}intent${ids}v${flight.version}`, [
      {
        name: `intent(${ids})`,
        run: () => {
          const index = this.log.length;
          this.log.push(`intent:${flight.entry}`);
          this.openFlights.set(index, 'open');
          op.state = `${replica}intent${ids}i${index}v${flight.version}`;
          op.steps = [
            {
              name: `durable(${ids})`,
              run: () => {
                this.#end(op);
                done({ index });
              },
            },
          ];
        },
      },
    ]);
  }

  #call(replica: number, flight: Target, intent: Intent, done: (answer: Answer) => void): void {
    const call: Call = {
      id: this.calls.length,
      scope: flight.entry,
      replica,
      startedStep: this.step,
      startedMono: this.mono,
      startedWall: this.mono + this.skew,
      intent: intent.index,
      decided: -1,
    };
    if (this.calls.some((other) => other.intent === call.intent)) this.fail('two calls under one intent');
    this.calls.push(call);
    if (this.budgets.throws > 0) {
      this.budgets.throws -= 1;
      throw new Error('the driver throws at once');
    }
    const at = `${replica}call${intent.index}v${flight.version}@${call.startedMono},${call.startedWall}`;
    let asked = true;
    this.callsInFlight[replica] = (this.callsInFlight[replica] ?? 0) + 1;
    if ((this.callsInFlight[replica] ?? 0) > this.scenario.flightsPerTenant + this.scenarioTimeouts) {
      this.fail('more calls in flight than a tenant has slots');
    }
    const leave = () => {
      if (asked) this.callsInFlight[replica] = (this.callsInFlight[replica] ?? 0) - 1;
      asked = false;
    };
    const answer = (outcome: KmsOutcome['outcome'], code: ErrorCode): Answer => {
      const key = { zeroed: false };
      if (outcome === 'ok') this.liveKeys.add(key);
      return { outcome, code, key, call: call.id };
    };
    const op = this.#op('call', at, [
      {
        name: `decide(${call.id})`,
        run: () => {
          const ok = this.enabled;
          call.decided = this.step;
          op.state = `${at}${ok ? 'ok' : 'no'}d${this.requests.map((request) => (request.arrived >= 0 && request.arrived < call.decided ? 1 : 0)).join('')}`;
          op.steps = [
            {
              name: `answer(${call.id})`,
              run: () => {
                this.#end(op);
                leave();
                if (!ok) this.#hear(replica, flight.entry, intent.index);
                done(answer(ok ? 'ok' : 'refused', 'KMS_KEY_DISABLED'));
              },
            },
          ];
        },
      },
      {
        name: `silent(${call.id})`,
        budget: 'unknowns',
        run: () => {
          this.#end(op);
          leave();
        },
      },
      {
        name: `unknown(${call.id})`,
        budget: 'unknowns',
        run: () => {
          this.#end(op);
          leave();
          done(answer('unknown', 'KMS_UNREACHABLE'));
        },
      },
    ]);
  }

  /** Calls that the gate may have given up on: their slots are free although the world still holds them. */
  get scenarioTimeouts(): number {
    return this.scenario.timers ?? 0;
  }

  #hear(replica: number, entry: string, index: number): void {
    const known = this.heard[replica]?.get(entry) ?? -1;
    if (index > known) this.heard[replica]?.set(entry, index);
  }

  #commit(
    replica: number,
    flight: Target,
    intent: Intent,
    answer: Answer,
    uses: readonly Use<Request, Opened>[],
    done: (verdict: CommitVerdict) => void,
  ): void {
    for (const use of uses) {
      if (use.ok && this.scenario.requests[use.request.id]?.poisoned)
        this.fail('a failed use is logged as ok');
    }
    if ((this.calls[answer.call]?.decided ?? -1) < 0) this.fail('an outcome that the KMS never gave');
    if (this.calls[answer.call]?.intent !== intent.index)
      this.fail('an answer is logged under the intent of another call');
    if (this.log.some((entry) => entry === `unknown:${flight.entry}:${intent.index}`))
      this.fail('a closed intent is used again');
    const ids = uses.map((use) => `${use.request.id}${use.ok ? '+' : '-'}`);
    const base = `${replica}commit${intent.index}v${flight.version}:${ids}:${answer.outcome}`;
    const apply = (): CommitVerdict => {
      const fence = this.logFence.get(flight.entry) ?? -1;
      const current = flight.version === this.version;
      const open = this.openFlights.get(intent.index);
      this.log.push(`result:${answer.outcome}:${intent.index}`);
      if (answer.outcome === 'refused' && intent.index > fence) this.logFence.set(flight.entry, intent.index);
      this.openFlights.set(intent.index, answer.outcome === 'ok' ? 'ok' : 'closed');
      for (const use of uses) if (!use.ok) this.log.push(`failed:${use.request.id}`);
      const good = (open === 'open' || open === 'ok') && intent.index > fence && current;
      const some = uses.some((use) => use.ok);
      if (!some) return 'durable';
      if (!good) return 'requeue';
      for (const use of uses) {
        if (!use.ok) continue;
        this.log.push(`ok:${use.request.id}:${intent.index}`);
        this.okLeaf.set(use.request.id, intent.index);
      }
      return 'durable';
    };
    const op = this.#op('commit', base, [
      {
        name: `append(${intent.index})`,
        run: () => {
          const verdict = apply();
          op.state = `${base}=${verdict}`;
          op.steps = [
            {
              name: `ack(${intent.index})`,
              run: () => {
                this.#end(op);
                done(verdict);
              },
            },
            {
              name: `lost(${intent.index})`,
              budget: 'lostCommits',
              run: () => {
                this.#end(op);
                done('failed');
              },
            },
          ];
        },
      },
      {
        name: `fail(${intent.index})`,
        budget: 'lostCommits',
        run: () => {
          this.#end(op);
          done('failed');
        },
      },
    ]);
  }

  #arrive(id: number): void {
    const request = this.requests[id];
    if (request === undefined) return;
    request.arrived = this.step;
    request.arrivedMono = this.mono;
    this.gates[request.replica]?.use(
      't',
      { id, replica: request.replica, scope: request.scope },
      1,
      (result) => this.#settled(id, result),
    );
  }

  #settled(id: number, result: GateResult<Opened>): void {
    const request = this.requests[id];
    if (request === undefined) return;
    if (request.result !== '') this.fail('a request settles twice');
    request.result = result.ok ? 'released' : result.code;
    if (!result.ok) {
      if (result.code === 'INTERNAL') this.fail('a request ends in INTERNAL');
      if (result.logged && !this.log.includes(`failed:${id}`) && !this.notReleased.has(id)) {
        this.fail('an outcome is called logged and is not');
      }
      const late = this.mono - request.arrivedMono > LIMITS.deadlineMs;
      const early = (this.scenario.timers ?? 0) > 0;
      if (late && (this.scenario.stalls ?? 0) === 0) this.fail('a request settles after its deadline');
      if (this.mono - request.arrivedMono === LIMITS.deadlineMs && !early)
        this.fail('a request is not asked again and runs out of time');
      return;
    }
    this.released.add(id);
    const { opened } = result;
    const call = this.calls[opened.call];
    const intent = this.okLeaf.get(id);
    if (opened.request !== id) this.fail('a request gets what was opened for another');
    if (opened.dropped) this.fail('a dropped value is revealed');
    if (call === undefined || call.startedStep <= request.arrived)
      this.fail('stale: the call started before the request arrived');
    if (call !== undefined && call.scope !== `s${request.scope}`)
      this.fail('a flight serves another wrap entry');
    if (intent === undefined) this.fail('released without a durable record');
    if (call === undefined || intent === undefined) return;
    if (this.mono - call.startedMono > LIMITS.maxAgeMs) this.fail('released too old by the monotonic clock');
    if (this.mono + this.skew - call.startedWall > LIMITS.maxAgeMs)
      this.fail('released too old by the wall clock');
    if (this.mono - request.arrivedMono > LIMITS.deadlineMs) this.fail('released after the deadline');
    if ((this.heard[request.replica]?.get(call.scope) ?? -1) > call.intent) {
      this.fail('released although this replica knew a later refusal');
    }
  }

  /** What may happen next. Timers fire in order of their time: when nothing else can happen, or out of a budget. */
  events(): { readonly name: string; readonly run: () => void }[] {
    const events: { name: string; run: () => void }[] = [];
    const spend = (budget: keyof Budgets, name: string, run: () => void) => {
      if (this.budgets[budget] <= 0) return;
      events.push({
        name,
        run: () => {
          this.budgets[budget] -= 1;
          run();
        },
      });
    };
    const next = new Set<number>();
    for (const request of this.requests) {
      if (request.arrived >= 0 || next.has(request.replica)) continue;
      next.add(request.replica);
      events.push({ name: `arrive(${request.id})`, run: () => this.#arrive(request.id) });
    }
    for (const op of this.ops) {
      for (const step of op.steps) {
        if (step.budget === undefined) events.push(step);
        else spend(step.budget, step.name, step.run);
      }
    }
    if (this.enabled) spend('revokes', 'revoke', () => (this.enabled = false));
    else spend('enables', 'enable', () => (this.enabled = true));
    spend('changes', 'change', () => (this.version += 1));
    spend('suspends', 'suspend', () => (this.skew += 10_000));
    spend('suspends', 'set back', () => (this.skew -= 10_000));
    spend('stalls', 'stall', () => (this.mono += 2_500));
    const idle = events.length === 0;
    const seen = new Set<string>();
    const due = Math.min(...this.timers.map((timer) => timer.due));
    for (const timer of this.timers) {
      const key = `${timer.label}@${timer.due}`;
      if (timer.due > due || timer.due > this.mono + 60_000 || seen.has(key)) continue;
      seen.add(key);
      const run = () => {
        this.timers.splice(this.timers.indexOf(timer), 1);
        this.mono = Math.max(this.mono, timer.due);
        timer.fn();
      };
      if (idle) events.push({ name: `timer(${key})`, run });
      else spend('timers', `timer(${key})`, run);
    }
    return events;
  }

  happen(event: { readonly run: () => void }): void {
    this.step += 1;
    try {
      event.run();
    } catch (error) {
      this.fail(`an exception escapes: ${String(error)}`);
    }
    if (this.liveKeys.size > 0) this.fail('a plaintext key outlives its tick');
  }

  /** Checks that hold when nothing can happen any more. */
  finish(): void {
    for (const request of this.requests) {
      if (request.result === '') this.fail(`stuck: request ${request.id} never settles`);
      if (
        this.okLeaf.has(request.id) &&
        !this.released.has(request.id) &&
        !this.notReleased.has(request.id)
      ) {
        this.fail('logged as ok, not released, and no record says so');
      }
    }
    for (const gate of this.gates) if (gate.busy !== 0) this.fail('a slot is never freed');
  }

  signature(): string {
    const base = this.mono;
    return [
      this.requests
        .map((request) => `${request.arrived < 0 ? '' : base - request.arrivedMono}${request.result}`)
        .join(','),
      this.ops
        .map((op) => op.state)
        .sort()
        .join(','),
      this.timers.map((timer) => `${timer.label}+${timer.due - base}`).join(','),
      this.log.join(','),
      this.heard.map((entries) => [...entries].join(':')).join('|'),
      `${base}${this.enabled}${this.version}${this.skew}`,
      Object.values(this.budgets).join(''),
    ].join(';');
  }
}

/** A 52-bit hash of a text: collisions among a few million states are improbable enough for a search. */
function hash(text: string): number {
  let a = 0x811c9dc5;
  let b = 0x9747b28c;
  for (let i = 0; i < text.length; i += 1) {
    const c = text.charCodeAt(i);
    a = Math.imul(a ^ c, 0x01000193);
    b = Math.imul(b ^ c, 0x5bd1e995) ^ (b >>> 15);
  }
  return (a >>> 0) * 0x100000 + ((b >>> 0) & 0xfffff);
}

/** Visits every reachable state once, up to `maxNodes`, and stops at the first violation. */
export function explore(gateClass: GateClass, scenario: Scenario, maxNodes: number): Exploration {
  const seen = new Set<number>();
  const work: number[][] = [[]];
  let schedules = 0;
  while (work.length > 0) {
    const prefix = work.pop() ?? [];
    const world = new World(gateClass, scenario);
    const names: string[] = [];
    for (const choice of prefix) {
      const event = world.events()[choice];
      if (event === undefined) throw new Error('the world is not deterministic');
      names.push(event.name);
      world.happen(event);
    }
    let path = prefix;
    for (;;) {
      if (world.violation === undefined) {
        const signature = hash(world.signature());
        if (seen.has(signature)) break;
        seen.add(signature);
      }
      const events = world.violation === undefined ? world.events() : [];
      if (events.length === 0) {
        schedules += 1;
        if (world.violation === undefined) world.finish();
        if (world.violation !== undefined) {
          return {
            nodes: seen.size,
            schedules,
            violation: world.violation,
            schedule: names.join(' '),
            complete: false,
          };
        }
        break;
      }
      if (seen.size >= maxNodes)
        return { nodes: seen.size, schedules, violation: undefined, schedule: '', complete: false };
      for (let choice = 1; choice < events.length; choice += 1) work.push([...path, choice]);
      const first = events[0];
      if (first === undefined) break;
      names.push(first.name);
      world.happen(first);
      path = [...path, 0];
    }
  }
  return { nodes: seen.size, schedules, violation: undefined, schedule: '', complete: true };
}
