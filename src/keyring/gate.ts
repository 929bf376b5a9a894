/**
 * The freshness gate: no request is released on an answer of the customer's KMS whose call started before the request
 * arrived, and none before its record is durable. It holds no key between flights and caches nothing.
 *
 *     arrive ─▶ pending ─▶ round: read our own state ─▶ flight: intent durable ─▶ KMS call
 *                             ─▶ use each request, zero the key ─▶ commit result and outcomes ─▶ re-check, reveal
 *
 * A round takes the requests that are waiting, once, before anything of it starts; who arrives later joins the next
 * round, never a running one. That alone gives freshness, without a clock. Invariants, each proved by
 * `test/keyring/gate.test.ts` over every interleaving of a bounded world:
 *
 *  G1  Freshness: the call that serves a request starts after the request arrived.
 *  G2  Age: nothing is revealed more than `maxAgeMs` after its call started, by the monotonic or the wall clock.
 *  G3  No plaintext key outlives the tick in which its flight's requests are used.
 *  G4  Each request settles exactly once, and G5 within its deadline.
 *  G6  The outcome of a use is durable before it is revealed; an outcome that is not revealed is followed by a
 *      record that says so.
 *  G7  A flight serves one wrap entry of one tenant.
 *  G8  A tenant holds at most `flightsPerTenant` slots however many scopes it has; tenants take turns.
 *  G9  Unknown is neither ok nor refused: it is asked again, with a new intent and a new call, until the deadline.
 *  G10 Our own state is read after arrival, and an outcome is appended only while that state still holds.
 *  G11 A refusal known here ends every older answer for the same wrap entry.
 *  G12 Guests cannot hurt: a port that throws, answers twice, answers late or never affects only its own requests.
 *
 * The class has no imports but types and no clock of its own, so that the tests can run this very text, and mutants of
 * it, against a model of the world.
 */
import type { ErrorCode } from '../errors.ts';
import type {
  CommitVerdict,
  FlightTarget,
  GateLimits,
  GatePorts,
  GateResult,
  KmsOutcome,
  Plan,
  Use,
} from './gate-ports.ts';

export const DEFAULT_LIMITS: GateLimits = {
  flightsPerTenant: 2,
  flights: 512,
  pendingPerTenant: 5_000,
  roundRequests: 500,
  roundBytes: 8 * 1024 * 1024,
  attemptMs: 1_500,
  maxAgeMs: 2_000,
  deadlineMs: 4_000,
  backoffMs: 200,
};

interface Waiter<Q, O> {
  readonly request: Q;
  readonly weight: number;
  readonly arrivedAt: number;
  readonly arrivedSeq: number;
  readonly done: (result: GateResult<O>) => void;
  settled: boolean;
  cancelDeadline: () => void;
  /** The last unknown answer, for a request that runs out of time. */
  lastCode: ErrorCode;
}

interface Flight<Q, F, O> {
  readonly target: F;
  readonly waiters: readonly Waiter<Q, O>[];
}

interface Tenant<Q, F, O> {
  readonly name: string;
  pending: Waiter<Q, O>[];
  /** Flights of finished rounds that wait for a slot. */
  backlog: Flight<Q, F, O>[];
  active: number;
  queued: boolean;
  pausing: boolean;
  pauseMs: number;
  /** The refusal with the highest intent index that is known here, by wrap entry. */
  readonly fences: Map<string, { readonly index: number; readonly code: ErrorCode }>;
}

export class Gate<Q, F extends FlightTarget, I extends { readonly index: number }, A extends KmsOutcome, O> {
  readonly #ports: GatePorts<Q, F, I, A, O>;
  readonly #limits: GateLimits;
  readonly #tenants = new Map<string, Tenant<Q, F, O>>();
  readonly #ready: Tenant<Q, F, O>[] = [];
  #pumping = false;
  #active = 0;
  #seq = 0;

  constructor(ports: GatePorts<Q, F, I, A, O>, limits: GateLimits) {
    this.#ports = ports;
    this.#limits = limits;
  }

  /**
   * Lets one request through when the customer's KMS says yes to a call that starts after now.
   * `done` is called exactly once, at the latest at the deadline. An `opened` value belongs to the caller, who zeroes it.
   * `weight` is the number of bytes that `use` will handle. The deadline counts from `arrivedAt`, by the ports' clock, when the
   * request came before it was handed over here; freshness counts from this call.
   */
  use(
    tenantName: string,
    request: Q,
    weight: number,
    done: (result: GateResult<O>) => void,
    arrivedAt: number = this.#ports.now(),
  ): void {
    const tenant = this.#tenant(tenantName);
    if (tenant.pending.length >= this.#limits.pendingPerTenant) {
      done({ ok: false, code: 'TENANT_BUSY', logged: false, retryAfterMs: 1_000 });
      return;
    }
    const waiter: Waiter<Q, O> = {
      request,
      weight,
      arrivedAt,
      arrivedSeq: ++this.#seq,
      done,
      settled: false,
      cancelDeadline: () => {},
      lastCode: 'DEADLINE_EXCEEDED',
    };
    waiter.cancelDeadline = this.#ports.timer(arrivedAt + this.#limits.deadlineMs - this.#ports.now(), () =>
      this.#fail(waiter, waiter.lastCode),
    );
    tenant.pending.push(waiter);
    this.#arm(tenant);
  }

  /** Requests, rounds and flights that have not ended. */
  get busy(): number {
    let waiting = 0;
    for (const tenant of this.#tenants.values()) waiting += tenant.pending.length;
    return waiting + this.#active;
  }

  #tenant(name: string): Tenant<Q, F, O> {
    let tenant = this.#tenants.get(name);
    if (tenant === undefined) {
      tenant = {
        name,
        pending: [],
        backlog: [],
        active: 0,
        queued: false,
        pausing: false,
        pauseMs: 0,
        fences: new Map(),
      };
      this.#tenants.set(name, tenant);
    }
    return tenant;
  }

  /** Puts a tenant that has work and a free slot at the end of the line. */
  #arm(tenant: Tenant<Q, F, O>): void {
    const work = tenant.backlog.length > 0 || (tenant.pending.length > 0 && !tenant.pausing);
    if (work && !tenant.queued && tenant.active < this.#limits.flightsPerTenant) {
      tenant.queued = true;
      this.#ready.push(tenant);
    }
    this.#pump();
    // Nothing waits, nothing flies, so no older answer exists that a fence could still end.
    if (tenant.active === 0 && !tenant.queued && !tenant.pausing && tenant.pending.length === 0)
      this.#tenants.delete(tenant.name);
  }

  /** Starts work, one piece per tenant in turn, while the process has a free slot. */
  #pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    while (this.#active < this.#limits.flights) {
      const tenant = this.#ready.shift();
      if (tenant === undefined) break;
      tenant.queued = false;
      tenant.active += 1;
      this.#active += 1;
      const flight = tenant.backlog.shift();
      if (flight === undefined) this.#round(tenant);
      else this.#fly(tenant, flight);
      this.#arm(tenant);
    }
    this.#pumping = false;
  }

  #free(tenant: Tenant<Q, F, O>): void {
    tenant.active -= 1;
    this.#active -= 1;
    this.#arm(tenant);
  }

  /** Takes the waiting requests, up to the limits of a round. From here on nobody joins them. */
  #take(tenant: Tenant<Q, F, O>): Waiter<Q, O>[] {
    const batch: Waiter<Q, O>[] = [];
    let bytes = 0;
    let taken = 0;
    for (const waiter of tenant.pending) {
      const full =
        batch.length >= this.#limits.roundRequests || bytes + waiter.weight > this.#limits.roundBytes;
      if (!waiter.settled && batch.length > 0 && full) break;
      taken += 1;
      if (waiter.settled) continue;
      bytes += waiter.weight;
      batch.push(waiter);
    }
    tenant.pending = tenant.pending.slice(taken);
    return batch;
  }

  #round(tenant: Tenant<Q, F, O>): void {
    const batch = this.#take(tenant);
    if (batch.length === 0) {
      this.#free(tenant);
      return;
    }
    this.#guard<readonly Plan<F>[] | ErrorCode>(
      this.#limits.deadlineMs,
      (done) =>
        this.#ports.prepare(
          tenant.name,
          batch.map((waiter) => waiter.request),
          done,
        ),
      (plans) => {
        if (plans === undefined || typeof plans === 'string') {
          for (const waiter of batch) this.#fail(waiter, plans ?? 'STORE_UNAVAILABLE');
        } else {
          tenant.backlog.push(...this.#group(batch, plans));
        }
        this.#free(tenant);
      },
    );
  }

  /** Sorts the requests of a round into flights; requests that need no KMS are answered. */
  #group(batch: readonly Waiter<Q, O>[], plans: readonly Plan<F>[]): Flight<Q, F, O>[] {
    const flights = new Map<string, { target: F; waiters: Waiter<Q, O>[] }>();
    batch.forEach((waiter, i) => {
      const plan = plans[i];
      if (plan === undefined) {
        this.#fail(waiter, 'INTERNAL');
      } else if ('code' in plan) {
        this.#fail(waiter, plan.code, { logged: true, cause: plan.cause });
      } else {
        const flight = flights.get(plan.flight.key);
        if (flight === undefined) flights.set(plan.flight.key, { target: plan.flight, waiters: [waiter] });
        else flight.waiters.push(waiter);
      }
    });
    return [...flights.values()];
  }

  /** One attempt: intent, call, use, commit, reveal. */
  #fly(tenant: Tenant<Q, F, O>, flight: Flight<Q, F, O>): void {
    const live = flight.waiters.filter((waiter) => !waiter.settled);
    if (live.length === 0) {
      this.#free(tenant);
      return;
    }
    this.#guard<I | ErrorCode>(
      this.#limits.deadlineMs,
      (done) =>
        this.#ports.begin(
          tenant.name,
          flight.target,
          live.map((waiter) => waiter.request),
          done,
        ),
      (intent) => {
        if (intent === undefined || typeof intent === 'string') {
          for (const waiter of live) this.#fail(waiter, intent ?? 'LOG_UNAVAILABLE');
          this.#free(tenant);
        } else {
          this.#call(tenant, { target: flight.target, waiters: live }, intent);
        }
      },
    );
  }

  #call(tenant: Tenant<Q, F, O>, flight: Flight<Q, F, O>, intent: I): void {
    const { target } = flight;
    const startedSeq = ++this.#seq;
    const startedAt = this.#ports.now();
    const startedWall = this.#ports.wall();
    this.#guard<A>(
      this.#limits.attemptMs,
      (done) => this.#ports.call(tenant.name, target, intent, done),
      (answer) => {
        if (answer === undefined || answer.outcome === 'unknown') {
          this.#again(tenant, flight, answer);
          this.#ports.unanswered(tenant.name, target, intent, answer);
          this.#free(tenant);
          return;
        }
        tenant.pauseMs = 0;
        if (answer.outcome === 'refused') this.#fence(tenant, target.entry, intent.index, answer.code);
        const uses = this.#useAll(flight, answer, startedSeq);
        const tooOld = () =>
          this.#ports.now() - startedAt > this.#limits.maxAgeMs ||
          this.#ports.wall() - startedWall > this.#limits.maxAgeMs;
        this.#commit(tenant, flight, intent, answer, uses, tooOld);
      },
      (late) => {
        this.#ports.dispose(target, late);
        if (late.outcome === 'refused') this.#fence(tenant, target.entry, intent.index, late.code);
      },
    );
  }

  /** Opens or seals for every request at once; whatever happens, the key is zeroed before this returns. */
  #useAll(flight: Flight<Q, F, O>, answer: A, startedSeq: number): readonly Use<Q, O>[] {
    try {
      return flight.waiters.map((waiter): Use<Q, O> => {
        const { request } = waiter;
        if (answer.outcome !== 'ok') return { request, ok: false, code: answer.code };
        if (waiter.settled) return { request, ok: false, code: waiter.lastCode };
        try {
          if (waiter.arrivedSeq >= startedSeq) throw new Error('the call started before the request arrived');
          return { request, ok: true, opened: this.#ports.use(flight.target, answer, request) };
        } catch (error) {
          return { request, ok: false, code: this.#ports.codeOf(error), cause: error };
        }
      });
    } finally {
      this.#ports.dispose(flight.target, answer);
    }
  }

  #commit(
    tenant: Tenant<Q, F, O>,
    flight: Flight<Q, F, O>,
    intent: I,
    answer: A,
    uses: readonly Use<Q, O>[],
    tooOld: () => boolean,
  ): void {
    const { target, waiters } = flight;
    const hold = (opened: O, code: ErrorCode) => {
      this.#ports.drop(opened);
      this.#ports.notReleased(tenant.name, target, intent, opened, code);
    };
    this.#guard<CommitVerdict>(
      this.#limits.deadlineMs,
      (done) => this.#ports.commit(tenant.name, target, intent, answer, uses, done),
      (verdict) => {
        const again: Waiter<Q, O>[] = [];
        waiters.forEach((waiter, i) => {
          const use = uses[i];
          if (use === undefined) return;
          if (!use.ok) {
            // A failed outcome is appended whatever moved, so it stands unless the log itself failed.
            const logged = verdict === 'durable' || verdict === 'requeue';
            if (logged)
              this.#fail(waiter, use.code, { logged, retryAfterMs: answer.retryAfterMs, cause: use.cause });
            else this.#fail(waiter, 'LOG_UNAVAILABLE');
            return;
          }
          if (verdict === 'requeue') {
            this.#ports.drop(use.opened);
            again.push(waiter);
            return;
          }
          // What may have become durable although its commit failed is held back, and the log is told so.
          const obstacle =
            verdict === 'durable'
              ? this.#obstacle(tenant, waiter, target.entry, intent.index, tooOld)
              : 'LOG_UNAVAILABLE';
          if (obstacle === undefined) {
            this.#settle(waiter, { ok: true, opened: use.opened });
            return;
          }
          hold(use.opened, obstacle);
          this.#fail(waiter, obstacle, { logged: verdict === 'durable' });
        });
        this.#requeue(tenant, again);
        this.#free(tenant);
      },
    );
  }

  /** Why an outcome that is durable must not be revealed now; checked in the tick that reveals. */
  #obstacle(
    tenant: Tenant<Q, F, O>,
    waiter: Waiter<Q, O>,
    entry: string,
    intentIndex: number,
    tooOld: () => boolean,
  ): ErrorCode | undefined {
    if (waiter.settled || this.#ports.now() - waiter.arrivedAt > this.#limits.deadlineMs)
      return 'DEADLINE_EXCEEDED';
    const fence = tenant.fences.get(entry);
    if (fence !== undefined && fence.index > intentIndex) return fence.code;
    if (tooOld()) return 'RELEASE_EXPIRED';
    return undefined;
  }

  #fence(tenant: Tenant<Q, F, O>, entry: string, index: number, code: ErrorCode): void {
    const before = tenant.fences.get(entry);
    if (before === undefined || index > before.index) tenant.fences.set(entry, { index, code });
  }

  /** After an unknown answer: wait, then ask again with a new intent and a new call. */
  #again(tenant: Tenant<Q, F, O>, flight: Flight<Q, F, O>, answer: A | undefined): void {
    for (const waiter of flight.waiters) waiter.lastCode = answer?.code ?? 'KMS_TIMEOUT';
    tenant.pauseMs = Math.min(
      this.#limits.backoffMs,
      Math.max(tenant.pauseMs * 2, this.#limits.backoffMs / 16),
    );
    if (!tenant.pausing) {
      tenant.pausing = true;
      this.#ports.timer(
        Math.max(tenant.pauseMs, Math.min(answer?.retryAfterMs ?? 0, this.#limits.backoffMs)),
        () => {
          tenant.pausing = false;
          this.#arm(tenant);
        },
      );
    }
    this.#requeue(tenant, flight.waiters);
  }

  #requeue(tenant: Tenant<Q, F, O>, waiters: readonly Waiter<Q, O>[]): void {
    const live = waiters.filter((waiter) => !waiter.settled);
    if (live.length > 0) tenant.pending = [...live, ...tenant.pending];
  }

  #fail(
    waiter: Waiter<Q, O>,
    code: ErrorCode,
    more: { logged?: boolean; retryAfterMs?: number | undefined; cause?: unknown } = {},
  ): void {
    this.#settle(waiter, {
      ok: false,
      code,
      logged: more.logged ?? false,
      ...(more.retryAfterMs === undefined ? {} : { retryAfterMs: more.retryAfterMs }),
      ...(more.cause === undefined ? {} : { cause: more.cause }),
    });
  }

  #settle(waiter: Waiter<Q, O>, result: GateResult<O>): void {
    if (waiter.settled) return;
    waiter.settled = true;
    waiter.cancelDeadline();
    waiter.done(result);
  }

  /**
   * Runs one port: takes its first answer, or `undefined` when it throws or stays silent for `ms`. Answers after
   * that go to `late`.
   */
  #guard<T>(
    ms: number,
    start: (done: (value: T) => void) => void,
    next: (value: T | undefined) => void,
    late?: (value: T) => void,
  ): void {
    let open = true;
    let answered = false;
    const finish = (value: T | undefined) => {
      open = false;
      cancel();
      next(value);
    };
    const cancel = this.#ports.timer(ms, () => {
      if (open) finish(undefined);
    });
    try {
      start((value) => {
        if (answered) return;
        answered = true;
        if (open) finish(value);
        else late?.(value);
      });
    } catch {
      if (open) finish(undefined);
    }
  }
}
