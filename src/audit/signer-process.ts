/**
 * The signer as a process of its own, spoken to over a unix socket: HTTP with JSON bodies, open to whoever may open the socket's
 * file. The service then holds neither the key nor the memory.
 */
import { chmodSync, lstatSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, request, type Server } from 'node:http';
import { z } from 'zod';
import { fromBase64 } from './note.ts';
import type { SignAnswer, Signer, SignRequest } from './signer.ts';

const MAX_BODY_BYTES = 8 * 1024 * 1024;
const ANSWER_MS = 5_000;

const size = z.int().nonnegative();
const hash = z.string().transform((text, context) => {
  const bytes = fromBase64(text);
  if (bytes?.length === 32) return bytes;
  context.addIssue('not a hash');
  return z.NEVER;
});
const signBody = z.strictObject({
  requests: z
    .array(
      z.strictObject({
        origin: z.string().max(300),
        size,
        root: hash,
        from: size,
        proof: z.array(hash).max(128),
      }),
    )
    .max(1_000),
});
const signAnswer = z.object({
  answers: z.array(
    z.union([
      z.strictObject({ verdict: z.literal('signed'), note: z.string() }),
      z.strictObject({ verdict: z.literal('from'), size }),
      z.strictObject({
        verdict: z.literal('refused'),
        why: z.enum(['smaller', 'other-root', 'no-proof']),
        size,
      }),
    ]),
  ),
});
const keysAnswer = z.object({ keys: z.array(hash).min(1) });

export interface SignerServer {
  /** Stops to listen, and closes the signer when what is in flight has been answered. */
  close(): Promise<void>;
}

/**
 * Serves an open signer at `path`, for the file's owner and group. The signer holds its memory's lock, so a socket file that is
 * there is a dead process's, and is replaced. The folder of `path` must keep strangers out.
 */
export async function serveSigner(signer: Signer, path: string): Promise<SignerServer> {
  const server = createServer((req, res) => {
    answer(signer, req).then(
      (body) => res.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify(body)),
      (error) => res.writeHead(error instanceof z.ZodError || error instanceof RangeError ? 400 : 500).end(),
    );
  });
  server.requestTimeout = ANSWER_MS;
  if (lstatSync(path, { throwIfNoEntry: false })?.isSocket() === true) rmSync(path);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
  });
  chmodSync(path, 0o660);
  return {
    async close() {
      await closeServer(server);
      await signer.close();
    },
  };
}

function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeIdleConnections();
  });
}

async function answer(signer: Signer, req: IncomingMessage): Promise<object> {
  if (req.method === 'GET' && req.url === '/keys') {
    return { keys: (await signer.keys()).map(base64) };
  }
  if (req.method !== 'POST' || req.url !== '/sign') throw new RangeError('no such call');
  const { requests } = signBody.parse(JSON.parse(await readText(req)));
  return { answers: await signer.sign(requests) };
}

/** The signer behind a socket. Connects for each call, so it may start, stop and come back at any time. */
export function remoteSigner(path: string): Signer {
  return {
    async keys() {
      return keysAnswer.parse(await call(path, 'GET', '/keys')).keys;
    },
    async sign(requests: readonly SignRequest[]): Promise<readonly SignAnswer[]> {
      const body = requests.map((each) => ({
        origin: each.origin,
        size: each.size,
        root: base64(each.root),
        from: each.from,
        proof: each.proof.map(base64),
      }));
      const { answers } = signAnswer.parse(await call(path, 'POST', '/sign', { requests: body }));
      if (answers.length !== requests.length) throw new Error('the signer left answers out');
      return answers;
    },
    close: async () => undefined,
  };
}

function call(socketPath: string, method: string, path: string, body?: object): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const req = request({ socketPath, method, path, agent: false, signal: AbortSignal.timeout(ANSWER_MS) });
    req.on('error', reject);
    req.on('response', (res) => {
      readText(res)
        .then((text) => {
          if (res.statusCode !== 200) throw new Error(`the signer answered ${res.statusCode}`);
          resolve(JSON.parse(text));
        })
        .catch(reject);
    });
    req.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

async function readText(stream: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  let length = 0;
  for await (const part of stream as AsyncIterable<Buffer>) {
    length += part.length;
    if (length > MAX_BODY_BYTES) throw new RangeError('too long');
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}
