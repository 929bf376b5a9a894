/** What lets us in for a while (a session, a token): one fetch for all who wait, kept until it ends, renewed before. */
import { KmsFailure } from '../../src/kms/driver.ts';

/** Times are in milliseconds of the source's clock; infinity where there is no end. */
export interface Session<T> {
  readonly value: T;
  /** From here on it still serves and a new one is fetched beside. */
  readonly renewAt: number;
  /** From here on it no longer serves. */
  readonly endsAt: number;
}

export interface SessionSource<T> {
  /** Waits at most until `signal`; other waiters of the same answer are not disturbed. */
  get(signal: AbortSignal): Promise<T>;
  /** Forgets what the KMS has called expired or unknown, so that the next call asks again. */
  drop(): void;
  /**
   * What to do when the KMS has denied a call with `value`: true when `get` may give another, which is so when another has come
   * meanwhile or this one is older than five seconds. One that is fresh is denied for a reason that another fetch does not mend.
   */
  replace(value: T): boolean;
}

/** The least time between two renewals while the session still serves. */
const PAUSE_MS = 10_000;
const FRESH_MS = 5_000;

/** A renewal that fails is noticed by callers only when the session has really ended. */
export function createSessionSource<T>(
  fetch: () => Promise<Session<T>>,
  now: () => number = Date.now,
): SessionSource<T> {
  let held: Session<T> | undefined;
  let heldSince = 0;
  let fetching: Promise<Session<T>> | undefined;
  let lastStart = Number.NEGATIVE_INFINITY;

  const forget = (ended: Promise<Session<T>>): void => {
    if (fetching === ended) fetching = undefined;
  };

  const start = (): Promise<Session<T>> => {
    if (fetching) return fetching;
    lastStart = now();
    const current = fetch()
      .then((session) => {
        held = session;
        heldSince = now();
        return session;
      })
      .finally(() => forget(current));
    fetching = current;
    return current;
  };

  return {
    async get(signal) {
      if (held && now() < held.endsAt) {
        if (now() >= held.renewAt && now() - lastStart > PAUSE_MS) start().catch(() => {});
        return held.value;
      }
      const current = start();
      // Nobody joins a fetch that has already kept someone waiting too long.
      return (await untilAborted(current, signal, () => forget(current))).value;
    },
    drop() {
      held = undefined;
    },
    replace(value) {
      if (held?.value !== value) return true;
      if (now() - heldSince < FRESH_MS) return false;
      held = undefined;
      return true;
    },
  };
}

async function untilAborted<T>(promise: Promise<T>, signal: AbortSignal, then: () => void): Promise<T> {
  const aborted = Promise.withResolvers<never>();
  const onAbort = () => {
    then();
    aborted.reject(new KmsFailure('transient', 'KMS_TIMEOUT', { detail: 'credentials' }));
  };
  if (signal.aborted) onAbort();
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
