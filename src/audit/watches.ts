/** What a replica looks at from time to time, so that a promise of the log that no longer holds shows itself. */
import { ServiceError } from '../errors.ts';
import type { Durability } from '../store/db.ts';
import type { UnpublishedTree } from '../store/publication.ts';

const STRENGTH: Readonly<Record<Durability, number>> = { process: 0, durable: 1, replicated: 2 };

export interface DurabilityWatch {
  /** Throws LOG_UNAVAILABLE while commits survive less than they did when the service started. */
  assert(): void;
  readonly weakened: boolean;
  /** Asks the database. Never rejects: a database that does not answer appends nothing either. */
  check(): Promise<void>;
}

/**
 * Receipts and the `writer.start` record state what a commit survives. When the server's settings give less, nothing is appended,
 * and so nothing released, until they are back or the service is started anew, which records the weaker promise.
 */
export function watchDurability(
  started: Durability,
  read: () => Promise<Durability>,
  report: (now: Durability) => void,
): DurabilityWatch {
  let weakened = false;
  return {
    assert() {
      if (weakened) throw new ServiceError('LOG_UNAVAILABLE', { detail: 'durability' });
    },
    get weakened() {
      return weakened;
    },
    async check() {
      const now = await read().catch(() => undefined);
      if (now === undefined) return;
      const weaker = STRENGTH[now] < STRENGTH[started];
      if (weaker !== weakened) report(now);
      weakened = weaker;
    },
  };
}

export interface PublicationWatch {
  /** Milliseconds since the oldest record that no signed checkpoint covers was appended; 0 where there is none. */
  readonly lagMs: number;
  /** Looks anew. Never rejects. */
  check(): Promise<void>;
}

/** `read`: the trees that are not published. A tree that is smaller than its own checkpoint counts as never published. */
export function watchPublication(read: () => Promise<readonly UnpublishedTree[]>): PublicationWatch {
  let lagMs = 0;
  return {
    get lagMs() {
      return lagMs;
    },
    async check() {
      const trees = await read().catch(() => undefined);
      if (trees === undefined) return;
      lagMs = Math.max(0, ...trees.map(({ waitingMs }) => waitingMs ?? Number.POSITIVE_INFINITY));
    },
  };
}
