/**
 * Calls to a KMS: HTTP/1.1 with keep-alive over `node:http(s)`, bounded sockets, time limits that really end the call, and
 * answers of bounded length read into a buffer of ours. No redirects, no proxies, no environment.
 */
import {
  type ClientRequest,
  Agent as HttpAgent,
  request as httpRequest,
  type IncomingMessage,
} from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { Socket } from 'node:net';
import { secretBytes } from '../../src/secret-bytes.ts';

const CONNECT_MS = 1000;
const REQUEST_MS = 1500;
const MAX_SOCKETS = 64;
const IDLE_MS = 30_000;
const MAX_ANSWER = 65_536;

export interface HttpRequest {
  /** `https:` or `http:`. */
  readonly protocol: string;
  /** Without brackets. */
  readonly hostname: string;
  readonly port?: number | undefined;
  readonly path: string;
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Stays the caller's, who zeroes it where it holds a secret. */
  readonly body?: Uint8Array | string | undefined;
  /** The body holds key bytes: it goes out in one write of its own, so that no native buffer gathers it. */
  readonly secretBody?: boolean;
  readonly signal?: AbortSignal | undefined;
}

export interface HttpAnswer {
  readonly status: number;
  readonly headers: Record<string, string>;
  /** At most 64 KiB, in a buffer of its own that belongs to the caller. */
  readonly body: Uint8Array;
}

export interface Http {
  /**
   * One request, one answer. Rejects with an Error whose `name` is `AbortError`, `TimeoutError` (no connection in 1 s, no whole
   * answer in 1.5 s) or `SyntaxError` (answer too long), or with the socket's own error and its `code`.
   */
  send(request: HttpRequest): Promise<HttpAnswer>;
  /** Ends all sockets. */
  destroy(): void;
}

/** `ca` is PEM text, and then the only authorities that are trusted. */
export function createHttp(options: { readonly ca?: string | undefined } = {}): Http {
  const settings = {
    keepAlive: true,
    maxSockets: MAX_SOCKETS,
    timeout: IDLE_MS,
    onread: readIntoOwnBuffer(),
  };
  const http = new HttpAgent(settings);
  const { ca } = options;
  // Said here so that no variable of the environment can switch it off.
  const https = new HttpsAgent({
    ...settings,
    rejectUnauthorized: true,
    ...(ca === undefined ? {} : { ca }),
  });
  return {
    send: (request) =>
      new Promise((resolve, reject) => {
        const { protocol, hostname: host, port, path, method, headers, signal, secretBody = false } = request;
        if (signal?.aborted) return reject(named('AbortError', 'aborted'));
        const secure = protocol === 'https:';
        const sent = (secure ? httpsRequest : httpRequest)({
          agent: secure ? https : http,
          host,
          port,
          path,
          method,
          headers,
        });
        let settled = false;
        const give = (reason: Error): void => {
          settle();
          reject(reason);
          sent.destroy();
        };
        const onAbort = (): void => give(named('AbortError', 'aborted'));
        const timer = setTimeout(() => give(named('TimeoutError', 'no answer in time')), REQUEST_MS);
        const connecting = setTimeout(() => give(named('TimeoutError', 'no connection in time')), CONNECT_MS);
        const settle = (): void => {
          settled = true;
          clearTimeout(timer);
          clearTimeout(connecting);
          signal?.removeEventListener('abort', onAbort);
        };
        signal?.addEventListener('abort', onAbort, { once: true });
        sent.on('error', give);
        sent.once('response', (incoming) => {
          readAnswer(incoming)
            .then((answer) => {
              if (settled) return void answer.body.fill(0);
              settle();
              resolve(answer);
            })
            .catch(give);
        });
        const { body } = request;
        whenConnected(sent, secure, () => {
          clearTimeout(connecting);
          if (secretBody) sent.end(body);
        });
        if (secretBody) sent.flushHeaders();
        else sent.end(body);
      }),
    destroy() {
      http.destroy();
      https.destroy();
    },
  };
}

/**
 * Lets all sockets of an agent read into one buffer, which is zeroed as soon as the HTTP parser has copied the body out. Otherwise
 * Node reads each piece into 64 KiB of native memory and frees that uncleared.
 */
function readIntoOwnBuffer() {
  const buffer = Buffer.from(new ArrayBuffer(65_536));
  return {
    buffer,
    callback(this: Socket, length: number): boolean {
      this.emit('data', buffer.subarray(0, length));
      buffer.fill(0, 0, length);
      return true;
    },
  };
}

function whenConnected(sent: ClientRequest, secure: boolean, then: () => void): void {
  sent.once('socket', (socket) => {
    const waiting = secure ? (socket as { secureConnecting?: boolean }).secureConnecting : socket.connecting;
    if (waiting) socket.once(secure ? 'secureConnect' : 'connect', then);
    else then();
  });
}

/** Reads the whole answer into a buffer of its own and zeroes the pieces. */
async function readAnswer(incoming: IncomingMessage): Promise<HttpAnswer> {
  let body = secretBytes(Math.min(Number(incoming.headers['content-length'] ?? 4096) || 0, MAX_ANSWER));
  let length = 0;
  try {
    for await (const chunk of incoming as AsyncIterable<Uint8Array>) {
      if (length + chunk.length > MAX_ANSWER) throw named('SyntaxError', 'the answer is too long');
      if (length + chunk.length > body.length) {
        const larger = secretBytes(Math.min(2 * (length + chunk.length), MAX_ANSWER));
        larger.set(body);
        body.fill(0);
        body = larger;
      }
      body.set(chunk, length);
      chunk.fill(0);
      length += chunk.length;
    }
  } catch (error) {
    body.fill(0);
    throw error;
  }
  const headers = incoming.headers as Record<string, string>;
  return { status: incoming.statusCode ?? 0, headers, body: body.subarray(0, length) };
}

function named(name: string, message: string): Error {
  return Object.assign(new Error(message), { name });
}
