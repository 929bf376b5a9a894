/**
 * The SDK's request handler: HTTP/1.1 with keep-alive over `node:http(s)`, bounded sockets, time limits that really end the call,
 * and answers read into a buffer of ours. No redirects, no proxies, no environment.
 */
import {
  type ClientRequest,
  Agent as HttpAgent,
  request as httpRequest,
  type IncomingMessage,
} from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { Socket } from 'node:net';
import { secretBytes } from '../../../src/secret-bytes.ts';
import { takePlaintext } from './plaintext.ts';

const CONNECT_MS = 1000;
const REQUEST_MS = 1500;
const MAX_SOCKETS = 64;
const IDLE_MS = 30_000;
const MAX_ANSWER = 65_536;

/** The parts of the SDK's request that are used here. */
interface SdkRequest {
  readonly protocol: string;
  readonly hostname: string;
  readonly port?: number;
  readonly path: string;
  readonly method: string;
  readonly headers: Record<string, string>;
  readonly body?: unknown;
}

/** What our calls hand to the handler through the options of `client.send`. */
export interface TransportOptions {
  readonly abortSignal?: AbortSignal;
  /** Sent as the user agent, which SigV4 leaves unsigned. */
  readonly userAgent?: string;
  /** Receives the value of `Plaintext`, which the SDK then sees as zeros. The receiver owns the buffer. */
  readonly onPlaintext?: (key: Uint8Array) => void;
  /** The body holds key bytes: it goes out in one write of its own, so that no native buffer gathers it. */
  readonly secretBody?: boolean;
}

export interface Transport {
  readonly metadata: { readonly handlerProtocol: 'http/1.1' };
  handle(request: SdkRequest, options?: TransportOptions): Promise<{ response: SdkResponse }>;
  updateHttpClientConfig(): void;
  httpHandlerConfigs(): Record<string, never>;
  destroy(): void;
}

interface SdkResponse {
  readonly statusCode: number;
  readonly headers: Record<string, string>;
  readonly body: Uint8Array;
}

export function createTransport(): Transport {
  const settings = {
    keepAlive: true,
    maxSockets: MAX_SOCKETS,
    timeout: IDLE_MS,
    onread: readIntoOwnBuffer(),
  };
  const http = new HttpAgent(settings);
  const https = new HttpsAgent(settings);
  return {
    metadata: { handlerProtocol: 'http/1.1' },
    handle: (request, options = {}) =>
      new Promise((resolve, reject) => {
        const { abortSignal, userAgent, onPlaintext, secretBody = false } = options;
        if (abortSignal?.aborted) return reject(named('AbortError', 'aborted'));
        const secure = request.protocol === 'https:';
        const headers =
          userAgent === undefined ? request.headers : { ...request.headers, 'user-agent': userAgent };
        const { hostname: host, port, path, method } = request;
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
          abortSignal?.removeEventListener('abort', onAbort);
        };
        abortSignal?.addEventListener('abort', onAbort, { once: true });
        sent.on('error', give);
        sent.once('response', (incoming) => {
          readAnswer(incoming)
            .then((response) => {
              if (settled) return void response.body.fill(0);
              const key =
                onPlaintext && response.statusCode === 200 ? takePlaintext(response.body) : undefined;
              if (key) onPlaintext?.(key);
              settle();
              resolve({ response });
            })
            .catch(give);
        });
        whenConnected(sent, secure, () => {
          clearTimeout(connecting);
          if (secretBody) sent.end(bytesOf(request.body));
        });
        if (secretBody) sent.flushHeaders();
        else sent.end(bytesOf(request.body));
      }),
    updateHttpClientConfig: () => {},
    httpHandlerConfigs: () => ({}),
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
async function readAnswer(incoming: IncomingMessage): Promise<SdkResponse> {
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
  return { statusCode: incoming.statusCode ?? 0, headers, body: body.subarray(0, length) };
}

function bytesOf(body: unknown): Uint8Array | string | undefined {
  if (body === undefined || typeof body === 'string') return body;
  const { buffer, byteOffset, byteLength } = body as Uint8Array;
  return Buffer.from(buffer, byteOffset, byteLength);
}

function named(name: string, message: string): Error {
  return Object.assign(new Error(message), { name });
}
