/**
 * Who is calling, read from the database after the request arrived. A row is never kept: a revoked key is refused from the first
 * request that arrives after the revocation was committed. Requests are served by *rounds*: one query at a time for the whole
 * process, which serves only requests that were waiting before it started (the rule of the freshness gate: join the next one,
 * never the one in flight).
 */
import { timingSafeEqual } from 'node:crypto';
import { codeOf, ServiceError } from '../errors.ts';
import type { Principal } from './authorize.ts';
import type { ParsedToken } from './token.ts';

/** One principal as it is stored, with the tenant's state read in the same query. */
export interface PrincipalRow extends Principal {
  readonly state: 'active' | 'revoked';
  /** Milliseconds since 1970; the key is refused from then on. */
  readonly expiresAt: number | undefined;
  /** 32 bytes. */
  readonly secretSha256: Uint8Array;
}

export interface AuthenticatorOptions<Row extends PrincipalRow> {
  /** All rows with one of these ids, in any order; unknown ids are left out. One statement, started when it is called. */
  readPrincipals(ids: readonly string[]): Promise<readonly Row[]>;
  /** Throws KEY_RECORD_TAMPERED for a row that is not authentic, RECORD_KEY_UNAVAILABLE when that cannot be told. */
  verifyPrincipal(row: Row): void;
  /** Wall clock, milliseconds since 1970. */
  now(): number;
  /** Ids of one query. */
  readonly roundSize?: number;
  /** Requests that wait, those of the query in flight included; more are refused with OVERLOADED. */
  readonly maxPending?: number;
  readonly deadlineMs?: number;
}

export interface Authenticator {
  /**
   * The principal of a token. Throws UNAUTHENTICATED for an unknown, wrong, expired or revoked one alike, OVERLOADED,
   * DEADLINE_EXCEEDED, STORE_UNAVAILABLE, and what `verifyPrincipal` throws.
   */
  authenticate(token: ParsedToken): Promise<Principal>;
}

interface Waiter {
  readonly token: ParsedToken;
  readonly resolve: (principal: Principal) => void;
  readonly reject: (error: unknown) => void;
  /** Monotonic milliseconds. */
  readonly deadline: number;
  settled: boolean;
}

/** A row of a round that is authentic, or what is wrong with it. */
type Checked<Row> = { readonly row: Row } | { readonly problem: unknown };

export function createAuthenticator<Row extends PrincipalRow>(
  options: AuthenticatorOptions<Row>,
): Authenticator {
  const { readPrincipals, verifyPrincipal, now } = options;
  const roundSize = options.roundSize ?? 256;
  const maxPending = options.maxPending ?? 10_000;
  const deadlineMs = options.deadlineMs ?? 4_000;
  /** In order of arrival, so the first one has the nearest deadline. */
  let waiting: Waiter[] = [];
  let pending = 0;
  /** The round whose query is in flight. A round past its deadline is given up: its answer is dropped when it comes. */
  let inFlight: readonly Waiter[] | undefined;
  let scheduled = false;
  let timer: NodeJS.Timeout | undefined;

  function authenticate(token: ParsedToken): Promise<Principal> {
    if (pending >= maxPending) return Promise.reject(new ServiceError('OVERLOADED'));
    pending++;
    return new Promise((resolve, reject) => {
      waiting.push({ token, resolve, reject, deadline: performance.now() + deadlineMs, settled: false });
      schedule();
      timer ??= setTimeout(expire, deadlineMs);
      timer.unref();
    });
  }

  /** Requests of one turn of the event loop share a round. */
  function schedule(): void {
    if (scheduled || inFlight !== undefined || waiting.length === 0) return;
    scheduled = true;
    setImmediate(() => {
      scheduled = false;
      if (inFlight === undefined && waiting.length > 0) void startRound();
    });
  }

  async function startRound(): Promise<void> {
    const [round, ids] = takeRound();
    inFlight = round;
    try {
      const rows = new Map((await readPrincipals(ids)).map((row) => [row.id, check(row)]));
      for (const waiter of round) judge(waiter, rows.get(waiter.token.principalId));
    } catch (error) {
      const failure =
        codeOf(error) === 'INTERNAL' ? new ServiceError('STORE_UNAVAILABLE', { cause: error }) : error;
      for (const waiter of round) settle(waiter, () => waiter.reject(failure));
    }
    if (inFlight !== round) return;
    inFlight = undefined;
    schedule();
  }

  /** Removes from the queue as many waiters as share `roundSize` ids. */
  function takeRound(): [readonly Waiter[], readonly string[]] {
    const ids = new Set<string>();
    const round: Waiter[] = [];
    const rest: Waiter[] = [];
    for (const waiter of waiting) {
      const id = waiter.token.principalId;
      if (!ids.has(id) && ids.size === roundSize) {
        rest.push(waiter);
        continue;
      }
      ids.add(id);
      round.push(waiter);
    }
    waiting = rest;
    return [round, [...ids]];
  }

  /** A row is shown to be authentic before anything of it is believed: once, however many requests it serves. */
  function check(row: Row): Checked<Row> {
    try {
      verifyPrincipal(row);
      return { row };
    } catch (problem) {
      return { problem };
    }
  }

  function judge(waiter: Waiter, checked: Checked<Row> | undefined): void {
    settle(waiter, () => {
      try {
        waiter.resolve(admit(waiter.token, checked));
      } catch (error) {
        waiter.reject(error);
      }
    });
  }

  function admit(token: ParsedToken, checked: Checked<Row> | undefined): Principal {
    if (checked === undefined) throw new ServiceError('UNAUTHENTICATED', { detail: 'unknown' });
    if ('problem' in checked) throw checked.problem;
    const { row } = checked;
    const same = row.secretSha256.byteLength === 32 && timingSafeEqual(row.secretSha256, token.secretSha256);
    if (!same) throw new ServiceError('UNAUTHENTICATED', { detail: 'secret' });
    if ((token.kind === 'operator') !== (row.role === 'operator') || token.kind === 'invitation') {
      throw new ServiceError('UNAUTHENTICATED', { detail: 'kind' });
    }
    if (row.state !== 'active') throw new ServiceError('UNAUTHENTICATED', { detail: 'revoked' });
    if (row.expiresAt !== undefined && row.expiresAt <= now()) {
      throw new ServiceError('UNAUTHENTICATED', { detail: 'expired' });
    }
    const { id, tenant, role, scopes, purposes, stateVersion, tenantState } = row;
    return { id, tenant, role, scopes, purposes, stateVersion, tenantState };
  }

  function settle(waiter: Waiter, finish: () => void): void {
    if (waiter.settled) return;
    waiter.settled = true;
    pending--;
    finish();
  }

  /** Refuses all whose time is up, and gives up a query that kept them waiting, so that the next one can start. */
  function expire(): void {
    timer = undefined;
    const at = performance.now();
    const late = (waiter: Waiter) => waiter.deadline <= at;
    const lost = (inFlight ?? []).filter(late);
    for (const waiter of [...lost, ...waiting.filter(late)]) {
      settle(waiter, () => waiter.reject(new ServiceError('DEADLINE_EXCEEDED')));
    }
    waiting = waiting.filter((waiter) => !waiter.settled);
    if (lost.length > 0 && lost.length === inFlight?.length) inFlight = undefined;
    schedule();
    const next = [...(inFlight ?? []), ...waiting].filter((waiter) => !waiter.settled);
    if (next.length === 0) return;
    const nearest = Math.min(...next.map((waiter) => waiter.deadline));
    timer = setTimeout(expire, Math.max(1, Math.ceil(nearest - at)));
    timer.unref();
  }

  return { authenticate };
}
