/** The SDK's request handler over our own HTTP, which takes the key out of an answer before the SDK sees it. */
import { createHttp } from '../http.ts';
import { takeSecret } from '../secret-json.ts';

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
  /** The body holds key bytes. */
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
  const http = createHttp();
  return {
    metadata: { handlerProtocol: 'http/1.1' },
    async handle(request, options = {}) {
      const { abortSignal: signal, userAgent, onPlaintext, secretBody = false } = options;
      const { protocol, hostname, port, path, method } = request;
      const headers =
        userAgent === undefined ? request.headers : { ...request.headers, 'user-agent': userAgent };
      const body = bytesOf(request.body);
      const answer = await http.send({
        protocol,
        hostname,
        port,
        path,
        method,
        headers,
        body,
        secretBody,
        signal,
      });
      const key = onPlaintext && answer.status === 200 ? takeSecret(answer.body, ['Plaintext']) : undefined;
      if (key) onPlaintext?.(key);
      return { response: { statusCode: answer.status, headers: answer.headers, body: answer.body } };
    },
    updateHttpClientConfig: () => {},
    httpHandlerConfigs: () => ({}),
    destroy: () => http.destroy(),
  };
}

function bytesOf(body: unknown): Uint8Array | string | undefined {
  if (body === undefined || typeof body === 'string') return body;
  const { buffer, byteOffset, byteLength } = body as Uint8Array;
  return Buffer.from(buffer, byteOffset, byteLength);
}
