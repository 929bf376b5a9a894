/** A real server on a free loopback port with fake services, and two ways to speak to it: fetch and raw bytes. */
import { connect } from 'node:net';
import { createHttpServer, type HttpServer, type Limits } from '../../src/http/server.ts';
import { createFakeServices, type FakeServices } from './fake-services.ts';

export interface Reply {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** Empty for an answer that is not JSON. */
  readonly json: Record<string, unknown>;
}

export interface Listening {
  readonly services: FakeServices;
  readonly server: HttpServer;
  readonly port: number;
  send(method: string, path: string, options?: SendOptions): Promise<Reply>;
  /** Sends bytes as they are and returns all that comes until the server closes. */
  raw(bytes: string | Uint8Array, more?: (write: (bytes: string) => void) => void): Promise<string>;
}

export interface SendOptions {
  readonly token?: string | undefined;
  readonly json?: unknown;
  readonly body?: string | Uint8Array;
  readonly headers?: Record<string, string>;
}

export async function listen(
  options: { direct?: boolean; limits?: Partial<Limits> } = {},
): Promise<Listening> {
  const services = createFakeServices();
  const server = createHttpServer({ services, ...options });
  const { port } = await server.listen(0, '127.0.0.1');

  async function send(method: string, path: string, request: SendOptions = {}): Promise<Reply> {
    const headers: Record<string, string> = { ...request.headers };
    if (request.token !== undefined) headers.authorization = `Bearer ${request.token}`;
    const body = request.json === undefined ? request.body : JSON.stringify(request.json);
    if (body !== undefined) headers['content-type'] ??= 'application/json';
    const init = { method, headers, ...(body === undefined ? {} : { body: body as string }) };
    const response = await fetch(`http://127.0.0.1:${port}${path}`, init);
    const text = await response.text();
    const isJson = text !== '' && /[/+]json\b/.test(response.headers.get('content-type') ?? '');
    const json = isJson ? JSON.parse(text) : {};
    return { status: response.status, headers: response.headers, text, json };
  }

  function raw(bytes: string | Uint8Array, more?: (write: (bytes: string) => void) => void): Promise<string> {
    return new Promise((resolve) => {
      const parts: Buffer[] = [];
      const socket = connect(port, '127.0.0.1', () => {
        socket.write(bytes);
        more?.((next) => {
          if (!socket.destroyed) socket.write(next);
        });
      });
      socket.on('data', (part) => parts.push(part));
      socket.on('error', () => {});
      socket.on('close', () => resolve(Buffer.concat(parts).toString('latin1')));
    });
  }

  return { services, server, port, send, raw };
}
