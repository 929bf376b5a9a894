/** Two policies that other services use in place of fresh calls, planted in the text of the shipped gate. */
import type { Edit } from '../keyring/mutate.ts';

export const POLICIES: Readonly<Record<'shipped' | 'single-flight' | 'ttl', readonly Edit[]>> = {
  shipped: [],
  /** Who arrives while a call for the same key is under way shares its answer. */
  'single-flight': [
    {
      find: `    this.#guard<I | ErrorCode>(`,
      replace: `    const running = (tenant.running ??= new Map()).get(flight.target.key);
    if (running !== undefined) {
      for (const waiter of live) {
        waiter.arrivedSeq = -1;
        waiter.target = flight.target;
        running.push(waiter);
      }
      this.#free(tenant);
      return;
    }
    this.#guard<I | ErrorCode>(`,
    },
    {
      find: `    const startedSeq = ++this.#seq;`,
      replace: `    tenant.running.set(target.key, flight.waiters);
    const startedSeq = ++this.#seq;`,
    },
    {
      find: `        if (answer === undefined || answer.outcome === 'unknown') {`,
      replace: `        tenant.running.delete(target.key);
        if (answer === undefined || answer.outcome === 'unknown') {`,
    },
    {
      find: `this.#ports.use(flight.target, answer, request)`,
      replace: `this.#ports.use(waiter.target ?? flight.target, answer, request)`,
    },
  ],
  /** A key that the KMS gave is used again for 300 ms. */
  ttl: [
    {
      find: `      (done) => this.#ports.call(tenant.name, target, intent, done),`,
      replace: `      (done) => {
        const kept = (this.kept ??= new Map()).get(target.key);
        if (kept !== undefined && this.#ports.now() < kept.until) {
          done({ ...kept.answer, intent: intent.text, rootKey: kept.key.slice(), dataKeys: new Map(), created: new Map() });
          return;
        }
        this.#ports.call(tenant.name, target, intent, (answer) => {
          if (answer.outcome === 'ok') {
            this.kept.set(target.key, { answer, key: answer.rootKey.slice(), until: this.#ports.now() + 300 });
          }
          done(answer);
        });
      },`,
    },
  ],
};
