/** One POST on a connection of its own, and every byte that came back on it. */
import { connect } from 'node:net';

export interface RawAnswer {
  readonly status: number;
  readonly bytes: string;
  readonly body: { readonly code?: string; readonly retryable?: boolean; readonly plaintext?: string };
  /** Milliseconds from the first byte sent to the end of the connection. */
  readonly tookMs: number;
}

export function rawPost(url: string, token: string, body: unknown): Promise<RawAnswer> {
  const { hostname, port, pathname } = new URL(url);
  const text = JSON.stringify(body);
  const head = [
    `POST ${pathname} HTTP/1.1`,
    `Host: ${hostname}`,
    `Authorization: Bearer ${token}`,
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(text)}`,
    'Connection: close',
  ];
  const from = performance.now();
  return new Promise((resolve, reject) => {
    const parts: Buffer[] = [];
    const socket = connect(Number(port), hostname, () => socket.write(`${head.join('\r\n')}\r\n\r\n${text}`));
    socket.on('data', (part) => parts.push(part));
    socket.on('error', reject);
    socket.on('close', () => {
      const bytes = Buffer.concat(parts).toString('latin1');
      const [, status = ''] = /^HTTP\/1\.1 (\d{3}) /.exec(bytes) ?? [];
      const json = bytes.slice(bytes.indexOf('\r\n\r\n') + 4);
      const tookMs = performance.now() - from;
      resolve({
        status: Number(status),
        bytes,
        body: JSON.parse(json.slice(json.indexOf('{'), json.lastIndexOf('}') + 1)),
        tookMs,
      });
    });
  });
}
