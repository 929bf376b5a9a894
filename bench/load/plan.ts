/** What a load run does: read from the parent by `main.ts`, checked, and turned into bytes before the first request. */

export interface PlannedRequest {
  readonly method: 'GET' | 'POST' | 'PUT';
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Sent as UTF-8 with its Content-Length. */
  readonly body: string;
  /** A right answer is a 2xx whose body contains this text; empty: any 2xx is right. */
  readonly expect: string;
}

export interface LoadPlan {
  /** A loopback address. Any other is refused. */
  readonly host: string;
  readonly port: number;
  readonly connections: number;
  /** Connection `i` sends the requests of set `i mod sets`, in turn: a set is one tenant with its own token. */
  readonly requestSets: readonly (readonly PlannedRequest[])[];
  /** Time before the measured window, thrown away. */
  readonly warmupMs: number;
  /** Length of the measured window. */
  readonly durationMs: number;
  /** How long requests in flight may still be answered after the window. */
  readonly drainMs: number;
  /** The run ends early after so many requests, warm-up included. */
  readonly maxRequests: number;
  /** A connection waits so long after an answer that was not right, as a client that backs off would. */
  readonly pauseAfterErrorMs: number;
}

/** One request as it goes on the wire. */
export interface PreparedRequest {
  readonly bytes: Uint8Array;
  readonly expect: Uint8Array | undefined;
}

const LOOPBACK = new Set(['127.0.0.1', '::1']);

const LIMITS = {
  connections: 8192,
  warmupMs: 60_000,
  durationMs: 120_000,
  drainMs: 20_000,
  maxRequests: 100_000_000,
  pauseAfterErrorMs: 10_000,
} as const;

function assertWithin(plan: LoadPlan, name: keyof typeof LIMITS, least: number): void {
  const value = plan[name];
  if (!Number.isInteger(value) || value < least || value > LIMITS[name]) {
    throw new RangeError(`${name} must be an integer from ${least} to ${LIMITS[name]}`);
  }
}

/**
 * Refuses a plan that would leave this machine or has no bound.
 * @throws RangeError that names the field.
 */
export function assertPlan(plan: LoadPlan): void {
  if (!LOOPBACK.has(plan.host)) throw new RangeError('host must be 127.0.0.1 or ::1');
  if (!Number.isInteger(plan.port) || plan.port < 1 || plan.port > 65_535)
    throw new RangeError('port must be 1 to 65535');
  assertWithin(plan, 'connections', 1);
  assertWithin(plan, 'warmupMs', 0);
  assertWithin(plan, 'durationMs', 1);
  assertWithin(plan, 'drainMs', 0);
  assertWithin(plan, 'maxRequests', 1);
  assertWithin(plan, 'pauseAfterErrorMs', 0);
  if (plan.requestSets.length === 0 || plan.requestSets.some((set) => set.length === 0)) {
    throw new RangeError('requestSets must hold at least one set, and each set one request');
  }
}

/** The bytes of one HTTP/1.1 request on a connection that is kept. */
export function prepare(request: PlannedRequest, authority: string): PreparedRequest {
  const body = Buffer.from(request.body, 'utf8');
  const lines = [`${request.method} ${request.path} HTTP/1.1`, `Host: ${authority}`];
  for (const [name, value] of Object.entries(request.headers)) lines.push(`${name}: ${value}`);
  lines.push(`Content-Length: ${body.length}`, '', '');
  const bytes = Buffer.concat([Buffer.from(lines.join('\r\n'), 'latin1'), body]);
  return { bytes, expect: request.expect === '' ? undefined : Buffer.from(request.expect, 'utf8') };
}
