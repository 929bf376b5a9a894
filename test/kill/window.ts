/** Which kills fell while a request was between the answer of the KMS and its reveal, from what KMS, clients and log say. */
import type { LoggedFlight } from './ledger.ts';

/** Times are milliseconds of the machine's monotonic clock. */
export interface Kill {
  readonly at: number;
  /** Since when the service and PostgreSQL had both been up. */
  readonly upSince: number;
}

export interface KmsAnswer {
  readonly cid: string;
  readonly at: number;
}

/** One request as its client saw it: from the first byte sent to the whole answer, or to the broken connection. */
export interface Asked {
  readonly tenant: string;
  readonly from: number;
  readonly to: number;
}

/** An answer that is older than this is not counted, whatever still waited for it. */
export const RECENT_MS = 100;

/**
 * Counts the kills for which there was a flight that the KMS had just answered, and either its end never came into the log or
 * not all the answers that it allowed had reached their clients, while a request of its tenant, sent before the KMS answered, was
 * still without one.
 */
export function killsInWindow(
  kills: readonly Kill[],
  answers: readonly KmsAnswer[],
  asked: readonly Asked[],
  flights: ReadonlyMap<string, LoggedFlight>,
): number {
  return kills.filter(({ at: killed, upSince }) => {
    const waiting = asked.filter(({ from, to }) => from < killed && to > killed);
    return answers.some(({ cid, at }) => {
      if (at > killed || at < Math.max(upSince, killed - RECENT_MS)) return false;
      const flight = flights.get(cid);
      if (flight === undefined) return false;
      const arrived = flight.released.filter((time) => time <= killed).length;
      return (
        (!flight.ended || arrived < flight.allowed) &&
        waiting.some(({ tenant, from }) => tenant === flight.tenant && from < at)
      );
    });
  }).length;
}
