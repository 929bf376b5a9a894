/** Writes answers: headers made once, one write for each answer, and connections that end so that the answer arrives. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { HEADER } from '../brand.ts';
import { ERRORS, type ErrorCode } from '../errors.ts';
import type { Receipt } from '../receipt.ts';
import { answerable, problem, retryAfter } from './problem.ts';

/** On every answer of the API, as name, value, name, value. */
const SECURITY_HEADERS: readonly string[] = [
  'Cache-Control',
  'no-store',
  'X-Content-Type-Options',
  'nosniff',
  'Referrer-Policy',
  'no-referrer',
  'Content-Security-Policy',
  "default-src 'none'; frame-ancestors 'none'",
];
const JSON_HEADERS: readonly string[] = ['Content-Type', 'application/json', ...SECURITY_HEADERS];
const IMMUTABLE_HEADERS: readonly string[] = SECURITY_HEADERS.map((each) =>
  each === 'no-store' ? 'private, max-age=31536000, immutable' : each,
);
const PROBLEM_HEADERS: readonly string[] = ['Content-Type', 'application/problem+json', ...SECURITY_HEADERS];
/** How long an answered client may go on sending a body that nobody wants, before its connection is cut. */
const LINGER_MS = 1_000;

export interface Answerer {
  json(
    req: IncomingMessage,
    res: ServerResponse,
    requestId: string,
    status: number,
    body: unknown,
    receipt: Receipt | undefined,
  ): void;
  empty(req: IncomingMessage, res: ServerResponse, requestId: string, status: number): void;
  raw(
    req: IncomingMessage,
    res: ServerResponse,
    requestId: string,
    status: number,
    content: Uint8Array | string,
    as: { readonly media: string; readonly immutable: boolean; readonly headers: readonly string[] },
  ): void;
  problem(
    req: IncomingMessage,
    res: ServerResponse,
    requestId: string,
    code: ErrorCode,
    error: unknown,
    headers?: readonly string[],
  ): void;
  drain(): void;
  draining(): boolean;
}

/** One line: `origin="…", index=7, leaf="…", durability="…"`. */
export function receiptLine(receipt: Receipt): string {
  const { origin, index, leafHash, durability } = receipt;
  return `origin="${origin}", index=${index}, leaf="${leafHash}", durability="${durability}"`;
}

export function createAnswerer(options: { maxBodyBytes: number }): Answerer {
  let draining = false;

  function write(
    req: IncomingMessage,
    res: ServerResponse,
    status: number,
    head: string[],
    text: string | Uint8Array,
  ): void {
    if (res.headersSent || res.destroyed) return;
    if (status !== 204) head.push('Content-Length', String(Buffer.byteLength(text)));
    if (mustLinger(req, options.maxBodyBytes)) {
      linger(req, res, status, head, text);
      return;
    }
    if (draining) head.push('Connection', 'close');
    res.writeHead(status, head);
    res.end(text);
  }

  return {
    json(req, res, requestId, status, body, receipt) {
      const head = [...JSON_HEADERS, HEADER.requestId, requestId];
      if (receipt !== undefined) head.push(HEADER.receipt, receiptLine(receipt));
      write(req, res, status, head, JSON.stringify(body));
    },
    empty(req, res, requestId, status) {
      write(req, res, status, [...SECURITY_HEADERS, HEADER.requestId, requestId], '');
    },
    raw(req, res, requestId, status, content, { media, immutable, headers }) {
      const common = immutable ? IMMUTABLE_HEADERS : SECURITY_HEADERS;
      const head = ['Content-Type', media, ...common, HEADER.requestId, requestId, ...headers];
      write(req, res, status, head, content);
    },
    problem(req, res, requestId, code, error, headers = []) {
      const { errors, retryAfterSeconds, receipt } = answerable(error);
      const head = [...PROBLEM_HEADERS, HEADER.requestId, requestId, ...headers];
      if (receipt !== undefined) head.push(HEADER.receipt, receiptLine(receipt));
      const wait = retryAfter(code, retryAfterSeconds);
      if (wait !== undefined) head.push('Retry-After', wait);
      if (code === 'UNAUTHENTICATED') head.push('WWW-Authenticate', 'Bearer');
      write(req, res, ERRORS[code].status, head, JSON.stringify(problem(code, requestId, errors)));
    },
    drain() {
      draining = true;
    },
    draining: () => draining,
  };
}

/** Whether more of the body may come than Node should read away in silence after the answer. */
function mustLinger(req: IncomingMessage, maxBodyBytes: number): boolean {
  if (req.complete) return false;
  const declared = req.headers['content-length'];
  if (declared === undefined) return req.headers['transfer-encoding'] !== undefined;
  return Number(declared) > maxBodyBytes;
}

/**
 * Sends the whole answer, then drops what still comes for a while before it closes. A socket closed with unread bytes is reset,
 * and a reset can take the answer with it.
 */
function linger(
  req: IncomingMessage,
  res: ServerResponse,
  status: number,
  head: string[],
  text: string | Uint8Array,
): void {
  res.writeHead(status, [...head, 'Connection', 'close']);
  res.write(text);
  const close = () => {
    clearTimeout(timer);
    req.removeListener('end', close);
    req.removeListener('close', close);
    res.end();
  };
  const timer = setTimeout(close, LINGER_MS);
  req.once('end', close);
  req.once('close', close);
  req.resume();
}
