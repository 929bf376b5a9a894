/**
 * Planted faults in the shipped gate: each replaces one piece of its text. The search must find every one of them,
 * or it proves nothing. `find` stands exactly once in the source; a change of the gate that breaks this fails the test.
 */
export interface Mutant {
  readonly name: string;
  readonly find: string;
  readonly replace: string;
  /** A second edit, where one does not make a running program. */
  readonly also?: { readonly find: string; readonly replace: string };
}

export const MUTANTS: readonly Mutant[] = [
  {
    name: 'single-flight: who arrives joins the flight that is running',
    find: `    tenant.pending.push(waiter);
    this.#arm(tenant);`,
    replace: `    const running = tenant.last;
    if (tenant.active > 0 && running !== undefined) { waiter.arrivedSeq = -1; running.push(waiter); return; }
    tenant.pending.push(waiter);
    this.#arm(tenant);`,
    also: {
      find: `    if (live.length === 0) {`,
      replace: `    tenant.last = live;
    if (live.length === 0) {`,
    },
  },
  {
    name: 'batch taken on return: a flight serves everybody who waits when the answer comes',
    find: `        tenant.pauseMs = 0;
        if (answer.outcome`,
    replace: `        flight = { target, waiters: [...flight.waiters, ...this.#take(tenant)] };
        for (const waiter of flight.waiters) waiter.arrivedSeq = -1;
        tenant.pauseMs = 0;
        if (answer.outcome`,
  },
  {
    name: 'cache: the answer of the last flight serves the next',
    find: `      (done) => this.#ports.call(tenant.name, target, intent, done),`,
    replace: `      (done) => this.cached !== undefined ? done({ ...this.cached, key: { zeroed: false } }) : this.#ports.call(tenant.name, target, intent, (answer) => { if (answer.outcome === 'ok') this.cached = answer; done(answer); }),`,
  },
  {
    name: 'a key stays behind when the requests are used',
    find: `    } finally {
      this.#ports.dispose(flight.target, answer);
    }`,
    replace: `    } finally {
    }`,
  },
  {
    name: 'a key that comes too late is not zeroed',
    find: `        this.#ports.dispose(target, late);
        if (late`,
    replace: `        if (late`,
  },
  {
    name: 'forget to arm: a freed slot wakes nobody',
    find: `    this.#active -= 1;
    this.#arm(tenant);`,
    replace: `    this.#active -= 1;`,
  },
  {
    name: 'forget to arm after a pause',
    find: `          tenant.pausing = false;
          this.#arm(tenant);`,
    replace: `          tenant.pausing = false;`,
  },
  {
    name: 'reveal without waiting for the log',
    find: `      (done) => this.#ports.commit(tenant.name, target, intent, answer, uses, done),`,
    replace: `      (done) => { this.#ports.commit(tenant.name, target, intent, answer, uses, () => {}); done('durable'); },`,
  },
  {
    name: 'reveal although the log says that something moved',
    find: `          if (verdict === 'requeue') {`,
    replace: `          if (verdict === 'requeue') verdict = 'durable';
          if (verdict === 'requeue') {`,
  },
  {
    name: 'reveal on an ambiguous commit',
    find: `            verdict === 'durable'
              ?`,
    replace: `            true
              ?`,
  },
  {
    name: 'an ambiguous commit leaves no record that nothing was released',
    find: `          hold(use.opened, obstacle);`,
    replace: `          if (verdict === 'durable') hold(use.opened, obstacle);`,
  },
  {
    name: 'no check before the reveal: age',
    find: `    if (tooOld()) return 'RELEASE_EXPIRED';`,
    replace: '',
  },
  {
    name: 'age by the monotonic clock alone',
    find: ` ||
          this.#ports.wall() - startedWall > this.#limits.maxAgeMs;`,
    replace: ';',
  },
  {
    name: 'age by the wall clock alone',
    find: `          this.#ports.now() - startedAt > this.#limits.maxAgeMs ||
          this.#ports.wall()`,
    replace: `          this.#ports.wall()`,
  },
  {
    name: 'age from the answer, not from the start of the call',
    find: `        const uses = this.#useAll(flight, answer, startedSeq);
        const tooOld = () =>
          this.#ports.now() - startedAt > this.#limits.maxAgeMs ||
          this.#ports.wall() - startedWall > this.#limits.maxAgeMs;`,
    replace: `        const uses = this.#useAll(flight, answer, startedSeq);
        const answeredAt = this.#ports.now(), answeredWall = this.#ports.wall();
        const tooOld = () =>
          this.#ports.now() - answeredAt > this.#limits.maxAgeMs ||
          this.#ports.wall() - answeredWall > this.#limits.maxAgeMs;`,
  },
  {
    name: 'no check before the reveal: deadline',
    find: `    if (waiter.settled || this.#ports.now() - waiter.arrivedAt > this.#limits.deadlineMs)
      return 'DEADLINE_EXCEEDED';`,
    replace: '',
  },
  {
    name: 'no check before the reveal: a refusal that this replica knows',
    find: `    if (fence !== undefined && fence.index > intentIndex) return fence.code;`,
    replace: '',
  },
  {
    name: 'a refusal fences nothing',
    find: `        if (answer.outcome === 'refused') this.#fence(tenant, target.entry, intent.index, answer.code);`,
    replace: '',
  },
  {
    name: 'a refusal that comes too late fences nothing',
    find: `        if (late.outcome === 'refused') this.#fence(tenant, target.entry, intent.index, late.code);`,
    replace: '',
  },
  {
    name: 'a value that is held back leaves no record',
    find: `          hold(use.opened, obstacle);`,
    replace: `          if (verdict !== 'durable') hold(use.opened, obstacle);`,
  },
  {
    name: 'a use that throws takes its flight down',
    find: `        } catch (error) {
          return { request, ok: false, code: this.#ports.codeOf(error), cause: error };
        }`,
    replace: `        } finally {
        }`,
  },
  {
    name: 'a use that fails is logged as ok',
    find: `          return { request, ok: false, code: this.#ports.codeOf(error), cause: error };`,
    replace: `          return { request, ok: true, opened: { request: request.id, call: 0, dropped: false } };`,
  },
  {
    name: 'a driver that throws at once is not caught',
    find: `    } catch {
      if (open) finish(undefined);
    }`,
    replace: `    } finally {
    }`,
  },
  {
    name: 'a driver that never answers is waited for',
    find: `      this.#limits.attemptMs,
      (done) => this.#ports.call`,
    replace: `      1e9,
      (done) => this.#ports.call`,
  },
  {
    name: 'a slot is lost when a call has no answer',
    find: `          this.#ports.unanswered(tenant.name, target, intent, answer);
          this.#free(tenant);`,
    replace: `          this.#ports.unanswered(tenant.name, target, intent, answer);`,
  },
  {
    name: 'unknown is taken for a refusal',
    find: `        if (answer === undefined || answer.outcome === 'unknown') {`,
    replace: `        if (answer?.outcome === 'unknown') answer = { ...answer, outcome: 'refused' };
        if (answer === undefined || answer.outcome === 'unknown') {`,
  },
  {
    name: 'unknown loses its requests',
    find: `    this.#requeue(tenant, flight.waiters);
  }`,
    replace: `  }`,
  },
  {
    name: 'a retry keeps its intent',
    find: `          this.#again(tenant, flight, answer);`,
    replace: `          if (answer !== undefined) { this.#call(tenant, flight, intent); return; }
          this.#again(tenant, flight, answer);`,
  },
  {
    name: 'a request settles again after its deadline',
    find: `    if (waiter.settled) return;
    waiter.settled = true;`,
    replace: `    waiter.settled = true;`,
  },
  {
    name: 'no deadline',
    find: `    waiter.cancelDeadline = this.#ports.timer(arrivedAt + this.#limits.deadlineMs - this.#ports.now(), () =>
      this.#fail(waiter, waiter.lastCode),
    );`,
    replace: '',
  },
  {
    name: 'slots without a bound',
    find: `tenant.active < this.#limits.flightsPerTenant) {`,
    replace: `true) {`,
  },
  {
    name: 'a flight mixes wrap entries',
    find: `        const flight = flights.get(plan.flight.key);`,
    replace: `        const flight = [...flights.values()][0];`,
  },
];
