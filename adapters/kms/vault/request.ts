/**
 * The request function that node-vault calls in place of its own, which would follow a redirect to any host with the token and the
 * body, open a TLS connection for each call, wait without end and drop the headers of an answer.
 */
import { randomBytes } from 'node:crypto';
import { KmsFailure } from '../../../src/kms/driver.ts';
import type { Http, HttpAnswer } from '../http.ts';
import { replacePlaceholder, takeSecret } from '../secret-json.ts';
import { isOrigin } from './address.ts';
import { VaultAnswer } from './classify.ts';

/** What our calls add to node-vault's options. */
export interface VaultOptions {
  readonly signal?: AbortSignal;
  readonly headers?: Record<string, string>;
  /** Goes into the member `plaintext` of the body as base64; the caller keeps and zeroes it. */
  readonly plaintext?: Uint8Array;
  /** Receives the bytes of `data.plaintext`, which node-vault then sees as filler. The receiver owns the buffer. */
  readonly onPlaintext?: (key: Uint8Array) => void;
}

/** As node-vault hands it over. */
interface NodeVaultRequest extends VaultOptions {
  readonly uri: string;
  readonly method: string;
  readonly json?: unknown;
}

const PLAINTEXT = ['data', 'plaintext'];
const MAX_WAIT_MS = 3_600_000;

/**
 * `redirects` are the origins, besides the first, that a 307 may lead to. Rejects with a VaultAnswer for any answer but 200 and
 * 204, with a KmsFailure, or as {@link Http}.
 */
export function createRequest(http: Http, redirects: readonly string[]) {
  const send = (url: URL, request: NodeVaultRequest, body: Uint8Array | undefined): Promise<HttpAnswer> => {
    const { method, headers = {}, signal, plaintext } = request;
    return http.send({
      protocol: url.protocol,
      hostname: url.hostname.replace(/^\[|\]$/g, ''),
      port: url.port === '' ? undefined : Number(url.port),
      path: url.pathname,
      method,
      // The marker that keeps a Vault agent from serving requests that a browser or a fetcher was talked into.
      headers: { 'x-vault-request': 'true', ...headers, ...lengthOf(body) },
      body,
      secretBody: plaintext !== undefined,
      signal,
    });
  };

  return async (request: NodeVaultRequest) => {
    const url = new URL(request.uri);
    const body = bodyOf(request);
    try {
      let answer = await send(url, request, body);
      if (answer.status === 307) answer = await send(redirected(url, answer, redirects), request, body);
      return read(answer, url.pathname, request.onPlaintext);
    } finally {
      body?.fill(0);
    }
  };
}

/** Serialized with a placeholder, so that no text of the key comes to be. */
function bodyOf({ json, plaintext }: NodeVaultRequest): Uint8Array | undefined {
  if (json === undefined || typeof json !== 'object') return undefined;
  if (!plaintext) return new TextEncoder().encode(JSON.stringify(json));
  const placeholder = randomBytes(plaintext.length);
  const text = JSON.stringify({ ...json, plaintext: placeholder.toString('base64') });
  return replacePlaceholder(new TextEncoder().encode(text), placeholder, plaintext);
}

function lengthOf(body: Uint8Array | undefined): Record<string, string> {
  return body ? { 'content-type': 'application/json', 'content-length': String(body.length) } : {};
}

/** The same path on another member of the cluster that `access` lists; a standby sends there where it does not forward. */
function redirected(from: URL, answer: HttpAnswer, redirects: readonly string[]): URL {
  const location = answer.headers.location ?? '';
  const to = redirects.find((origin) => location === `${origin}${from.pathname}`);
  if (to === undefined || !isOrigin(to)) {
    throw new KmsFailure('misconfigured', 'KMS_MISCONFIGURED', { detail: 'redirect-not-allowed' });
  }
  return new URL(`${to}${from.pathname}`);
}

function read(answer: HttpAnswer, path: string, onPlaintext: VaultOptions['onPlaintext']) {
  const { status, headers, body } = answer;
  const ok = status === 200 || status === 204;
  const key = ok && onPlaintext ? takeSecret(body, PLAINTEXT) : undefined;
  const json = parse(body);
  if (ok && (json !== undefined || status === 204)) {
    if (key) onPlaintext?.(key);
    return { statusCode: status, body: json, request: { path } };
  }
  key?.fill(0);
  const errors = (json as { errors?: unknown } | undefined)?.errors;
  throw new VaultAnswer(status, texts(errors), waitOf(headers['retry-after']));
}

/** Undefined for what is no JSON; the parser's own error would quote the answer. */
function parse(body: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(body));
  } catch {
    return undefined;
  }
}

function texts(errors: unknown): readonly string[] | undefined {
  if (!Array.isArray(errors)) return undefined;
  return errors.filter((each) => typeof each === 'string').map((each) => each.slice(0, 512));
}

/** Seconds or a date, RFC 9110 section 10.2.3. */
function waitOf(value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  const ms = /^\d{1,9}$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isFinite(ms) ? Math.min(Math.max(ms, 0), MAX_WAIT_MS) : undefined;
}
