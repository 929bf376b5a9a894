/**
 * One route and the one way to run it, over plain `node:http` objects. The order is the policy; malformed input costs
 * neither a query nor a KMS call:
 *
 * 1 draining? · 2 token syntax (401) and ids (404) · 3 query, body, schema (400, 413, 415) · 4 the route's own check ·
 * 5 authenticate (one database round) · 6 authorize, a denial logged before it is answered · 7 the service · 8 answer
 */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { z } from 'zod';
import { codeOf, ERRORS, type ErrorCode, ServiceError } from '../errors.ts';
import type { Receipt } from '../receipt.ts';
import { type Action, authorize, type Decision, type Principal } from '../service/authorize.ts';
import { type ParsedToken, parseToken } from '../service/token.ts';
import { type Answerer, createAnswerer } from './answer.ts';
import { type BodyReader, ClientGone, createBodyReader, hasBody } from './body.ts';
import { type PathParts, wellFormed } from './path.ts';
import { fieldErrors } from './problem.ts';
import type { Call, Services } from './services.ts';

/** What a handler gets. */
export interface Context<Body = unknown, Query = unknown> {
  readonly services: Services;
  /** Its `principal` is absent on routes that are open to anyone, and its `tenant` where the path has none. */
  readonly call: Call;
  /** The part of the path that varies besides the tenant, of a shape that is known; empty where it has none. */
  readonly id: string;
  readonly body: Body;
  readonly query: Query;
}

export interface Result {
  /** The answer's body; absent for 204. */
  readonly body?: unknown;
  /** The answer of a route with a `media` type, in place of `body`. */
  readonly raw?: Uint8Array | string;
  /** Instead of the route's own status. */
  readonly status?: number;
  readonly receipt?: Receipt;
  /** More headers: name, value, name, value. */
  readonly headers?: readonly string[];
}

/** A scope and purpose that a request wants to use. */
export interface Target {
  readonly scope: string;
  readonly purpose: string;
}

export interface Route<Body = unknown, Query = unknown> {
  readonly method: 'GET' | 'POST' | 'DELETE';
  /** With `{tenant}` and at most one other variable part, as `path.ts` knows them; none is ever decoded. */
  readonly path: string;
  readonly summary: string;
  /** What authorize() is asked; `anyone` needs no token. */
  readonly action: Action | 'anyone';
  /** Strict schema of the body; an absent body counts as `{}`. Without it a body is refused. */
  readonly request?: z.ZodType<Body>;
  /** Strict schema of the query's strings. Without it a query is refused. */
  readonly query?: z.ZodType<Query>;
  /** Absent for 204. Answers pass through it, so what it does not name cannot leave. */
  readonly response?: z.ZodType;
  /** The handler names every field of its answer itself, which spares the pass through `response`. */
  readonly exact?: boolean;
  /** Answers in this media type, with what the handler gives as `raw`, and not in JSON. */
  readonly media?: string;
  /** The answer never changes: the caller's own cache may keep it. */
  readonly immutable?: boolean;
  readonly status: number;
  /** Codes beyond those that follow from the action and schemas; for the API description. */
  readonly codes: readonly ErrorCode[];
  /** Runs before authentication; throws what is wrong with the body beyond its schema. No I/O. */
  check?(body: Body, services: Services): void;
  /** Every use that the body asks for; all must be allowed, or the request is refused as a whole. */
  targets?(body: Body): readonly Target[];
  handle(context: Context<Body, Query>): Promise<Result>;
}

/** Gives a route its types; the table holds them all as `Route`. */
export function route<Body, Query>(definition: Route<Body, Query>): Route {
  return definition as Route;
}

export interface RunnerOptions {
  readonly services: Services;
  /** Milliseconds, monotonic. */
  readonly now?: () => number;
  /** Largest body in bytes; 1 MiB unless told. */
  readonly maxBodyBytes?: number;
  /** Bytes that all bodies may hold while they are read; 256 MiB unless told. */
  readonly maxHeldBytes?: number;
}

export interface Runner {
  /** Answers one request. Never rejects and never throws. */
  run(route: Route, parts: PathParts, req: IncomingMessage, res: ServerResponse): Promise<void>;
  /** Answers with a problem, without any route. */
  refuse(code: ErrorCode, req: IncomingMessage, res: ServerResponse, headers?: readonly string[]): void;
  /** From now on every new request gets SHUTTING_DOWN and every answer closes its connection. */
  drain(): void;
}

const MAX_BODY_BYTES = 1024 * 1024;
const MAX_HELD_BYTES = 256 * 1024 * 1024;
const NO_VALUES: unknown = Object.freeze({});

export function createRunner(options: RunnerOptions): Runner {
  const { services } = options;
  const now = options.now ?? (() => performance.now());
  const maxBodyBytes = options.maxBodyBytes ?? MAX_BODY_BYTES;
  const read = createBodyReader({
    maxBytes: maxBodyBytes,
    maxHeldBytes: options.maxHeldBytes ?? MAX_HELD_BYTES,
  });
  const answer = createAnswerer({ maxBodyBytes });

  async function run(
    route: Route,
    parts: PathParts,
    req: IncomingMessage,
    res: ServerResponse,
  ): Promise<void> {
    const arrivedAt = now();
    const requestId = randomUUID();
    try {
      if (answer.draining()) throw new ServiceError('SHUTTING_DOWN');
      const token = route.action === 'anyone' ? undefined : bearer(req);
      if (!wellFormed(parts)) throw new ServiceError('NOT_FOUND');
      const query = parseQuery(route, req);
      const body = await parseBody(route, req, read);
      route.check?.(body, services);
      const { tenant, id } = parts;
      const principal = token === undefined ? undefined : await services.authenticate(token);
      if (principal !== undefined) await permit(route, principal, tenant, body, requestId);
      const call = { principal, tenant, requestId, arrivedAt } as Call;
      const result = await route.handle({ services, call, id, body, query });
      send(answer, route, req, res, requestId, result);
    } catch (error) {
      if (error instanceof ClientGone) return;
      const code = codeOf(error);
      report(route, requestId, code, error);
      answer.problem(req, res, requestId, code, error);
    }
  }

  async function permit(
    route: Route,
    principal: Principal,
    tenant: string | undefined,
    body: unknown,
    requestId: string,
  ): Promise<void> {
    const action = route.action as Action;
    const code = decide(route, action, principal, tenant, body);
    if (code === 'allowed') return;
    const receipt = await services.refused({ principal, action, tenant, code, requestId });
    throw new ServiceError(code, { receipt });
  }

  function report(route: Route, requestId: string, code: ErrorCode, error: unknown): void {
    try {
      if (code === 'UNAUTHENTICATED') services.countUnauthenticated();
      if (ERRORS[code].status < 500) return;
      services.failed({ requestId, route: `${route.method} ${route.path}`, code, error });
    } catch {
      // Counting is not worth an answer: the caller gets the one that he would have got.
    }
  }

  function refuse(
    code: ErrorCode,
    req: IncomingMessage,
    res: ServerResponse,
    headers?: readonly string[],
  ): void {
    answer.problem(req, res, randomUUID(), answer.draining() ? 'SHUTTING_DOWN' : code, undefined, headers);
  }

  return { run, refuse, drain: answer.drain };
}

function decide(
  route: Route,
  action: Action,
  principal: Principal,
  tenant: string | undefined,
  body: unknown,
): Decision {
  if (route.targets === undefined) return authorize(principal, action, tenant);
  for (const { scope, purpose } of route.targets(body)) {
    const decision = authorize(principal, action, tenant, scope, purpose);
    if (decision !== 'allowed') return decision;
  }
  return 'allowed';
}

/** The API key of the Authorization header. Throws UNAUTHENTICATED for anything but exactly one well-formed key. */
function bearer(req: IncomingMessage): ParsedToken {
  const header = req.headers.authorization;
  if (header?.slice(0, 7).toLowerCase() === 'bearer ' && once(req.rawHeaders, 'authorization')) {
    const token = parseToken(header.slice(7));
    if (token !== undefined && token.kind !== 'invitation') return token;
  }
  throw new ServiceError('UNAUTHENTICATED');
}

/** Node keeps the first of two Authorization headers; a proxy before us may have looked at the other. */
function once(rawHeaders: readonly string[], name: string): boolean {
  let found = 0;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const header = rawHeaders[i];
    if (header?.length === name.length && header.toLowerCase() === name) found++;
  }
  return found === 1;
}

function parseQuery(route: Route, req: IncomingMessage): unknown {
  const url = req.url ?? '';
  const start = url.indexOf('?');
  if (start === -1 && route.query === undefined) return NO_VALUES;
  const values = new Map<string, string>();
  for (const [name, value] of new URLSearchParams(start === -1 ? '' : url.slice(start + 1))) {
    if (values.has(name) || name === '__proto__' || route.query === undefined) {
      throw new ServiceError('REQUEST_INVALID', {
        errors: [
          { path: 'query', rule: route.query === undefined ? 'no query is accepted' : 'each name once' },
        ],
      });
    }
    values.set(name, value);
  }
  return route.query === undefined ? NO_VALUES : conform(route.query, Object.fromEntries(values));
}

async function parseBody(route: Route, req: IncomingMessage, read: BodyReader): Promise<unknown> {
  if (!hasBody(req)) return route.request === undefined ? NO_VALUES : conform(route.request, NO_VALUES);
  if (route.request === undefined) {
    throw new ServiceError('REQUEST_INVALID', { errors: [{ path: '', rule: 'no body is accepted' }] });
  }
  return conform(route.request, await read(req));
}

function conform(schema: z.ZodType, value: unknown): unknown {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new ServiceError('REQUEST_INVALID', { errors: fieldErrors(parsed.error.issues) });
}

function send(
  answer: Answerer,
  route: Route,
  req: IncomingMessage,
  res: ServerResponse,
  requestId: string,
  result: Result,
): void {
  const status = result.status ?? route.status;
  if (route.media !== undefined) {
    const { media, immutable = false } = route;
    answer.raw(req, res, requestId, status, result.raw ?? '', {
      media,
      immutable,
      headers: result.headers ?? [],
    });
    return;
  }
  if (route.response === undefined) {
    answer.empty(req, res, requestId, status);
    return;
  }
  const body = route.exact === true ? result.body : route.response.parse(result.body);
  answer.json(req, res, requestId, status, body, result.receipt);
}
