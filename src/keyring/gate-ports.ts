/** The world around the freshness gate, as `gate.ts` sees it: types only. */
import type { ErrorCode } from '../errors.ts';

/** One wrap entry to ask the customer's KMS about. Requests with the same `key` share a flight. */
export interface FlightTarget {
  /** The whole wrap context: scope, root, wrap entry and binding version. */
  readonly key: string;
  /** The wrap entry alone, which a refusal fences. */
  readonly entry: string;
}

/** The answer of the customer's KMS to one call. Everything but `ok` and `unknown` is final for its requests. */
export interface KmsOutcome {
  readonly outcome: 'ok' | 'refused' | 'unknown' | 'integrity' | 'misconfigured';
  /** Why; not read when the outcome is ok. */
  readonly code: ErrorCode;
  readonly retryAfterMs?: number;
}

/** What became of one request inside a flight. */
export type Use<Q, O> =
  | { readonly request: Q; readonly ok: true; readonly opened: O }
  | { readonly request: Q; readonly ok: false; readonly code: ErrorCode; readonly cause?: unknown };

export type GateResult<O> =
  | { readonly ok: true; readonly opened: O }
  | {
      readonly ok: false;
      readonly code: ErrorCode /** Whether a record of this outcome is durable. */;
      readonly logged: boolean;
      readonly retryAfterMs?: number;
      readonly cause?: unknown;
    };

/** What our own state says about one request: what to ask the KMS, or an answer that needs no KMS. */
export type Plan<F> = { readonly flight: F } | { readonly code: ErrorCode; readonly cause?: unknown };

/** `requeue`: the log refused the outcomes because something moved; ask again. `failed`: it is not known to be durable. */
export type CommitVerdict = 'durable' | 'requeue' | 'failed';

/** The world around the gate. Each `done` is called at most once; calls after the first are ignored. */
export interface GatePorts<
  Q,
  F extends FlightTarget,
  I extends { readonly index: number },
  A extends KmsOutcome,
  O,
> {
  /** Monotonic milliseconds. */
  now(): number;
  /** Wall-clock milliseconds; runs on while a machine is suspended, which the monotonic clock may not. */
  wall(): number;
  /** Runs `fn` once after `ms`; the result cancels it. */
  timer(ms: number, fn: () => void): () => void;
  /**
   * Reads our own state for these requests, in one query that starts now, and says for each what to do. Refusals
   * that need no KMS are already durable when `done` is called. An error code in place of plans fails them all.
   */
  prepare(
    tenant: string,
    requests: readonly Q[],
    done: (plans: readonly Plan<F>[] | ErrorCode) => void,
  ): void;
  /** Makes the intent of one call durable. */
  begin(tenant: string, flight: F, requests: readonly Q[], done: (intent: I | ErrorCode) => void): void;
  /** Makes the one call. An answer may carry key bytes; the gate hands every answer to `dispose`. */
  call(tenant: string, flight: F, intent: I, done: (answer: A) => void): void;
  /** Seals or opens for one request, synchronously. May throw; the error's code becomes the outcome. */
  use(flight: F, answer: A, request: Q): O;
  /** Zeroes the key bytes of an answer and everything that was derived from it. */
  dispose(flight: F, answer: A): void;
  /** Records that a call brought no usable answer; nothing waits for it. `answer` is absent when none came in time. */
  unanswered(tenant: string, flight: F, intent: I, answer: A | undefined): void;
  /** Appends the flight's result and the outcome of each use, in one commit. */
  commit(
    tenant: string,
    flight: F,
    intent: I,
    answer: A,
    uses: readonly Use<Q, O>[],
    done: (verdict: CommitVerdict) => void,
  ): void;
  /** Zeroes an opened value that will not be revealed. */
  drop(opened: O): void;
  /** Records that an outcome that was logged as authorised was not released after all. */
  notReleased(tenant: string, flight: F, intent: I, opened: O, code: ErrorCode): void;
  /** The code of what `use` threw. */
  codeOf(error: unknown): ErrorCode;
}

export interface GateLimits {
  /** Concurrent rounds and flights of one tenant. */
  readonly flightsPerTenant: number;
  /** Concurrent rounds and flights of the process. */
  readonly flights: number;
  /** Requests of one tenant that may wait; one more is TENANT_BUSY. */
  readonly pendingPerTenant: number;
  /** Requests and plaintext bytes that one round takes: they are used in one tick. */
  readonly roundRequests: number;
  readonly roundBytes: number;
  /** One call to the KMS, in milliseconds. */
  readonly attemptMs: number;
  /** From the start of the call to the reveal. */
  readonly maxAgeMs: number;
  /** From arrival to the answer. Also bounds each wait for the store and the log. */
  readonly deadlineMs: number;
  /** Longest pause after an unknown answer. Pauses start at an eighth of it or less and grow. */
  readonly backoffMs: number;
}
