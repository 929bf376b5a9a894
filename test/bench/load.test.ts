import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, test } from '@jest/globals';
import { type LoadPlan, type PlannedRequest, runLoad } from '../../bench/load.ts';

function request(body: string, expected: string): PlannedRequest {
  return { method: 'POST', path: '/x', headers: { Authorization: body }, body, expect: expected };
}

function plan(port: number, over: Partial<LoadPlan>): LoadPlan {
  return {
    host: '127.0.0.1',
    port,
    connections: 2,
    requestSets: [[request('a', '')]],
    warmupMs: 0,
    durationMs: 20_000,
    drainMs: 5_000,
    maxRequests: 100,
    pauseAfterErrorMs: 0,
    ...over,
  };
}

/** Serves on a free port while `use` runs. */
async function serving<T>(listener: RequestListener, use: (port: number) => Promise<T>): Promise<T> {
  const server: Server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    return await use((server.address() as AddressInfo).port);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

const nothing = (): undefined => undefined;

/** Answers with what was sent. */
const echo: RequestListener = (incoming, response) => {
  let body = '';
  incoming.on('data', (chunk: Buffer) => {
    body += chunk.toString();
  });
  incoming.on('end', () => {
    response.writeHead(200, { 'Content-Length': Buffer.byteLength(body) }).end(body);
  });
};

describe('load generator', () => {
  test('it sends as many requests as the plan allows and no more', async () => {
    let served = 0;
    const counting: RequestListener = (incoming, response) => {
      served += 1;
      echo(incoming, response);
    };
    const { result } = await serving(counting, (port) =>
      runLoad(plan(port, { maxRequests: 1_000 }), nothing),
    );
    expect(served).toBe(1_000);
    expect(result.errorCount).toBe(0);
    expect(result.unanswered).toBe(0);
  });

  test('each connection sends the requests of its own set in turn', async () => {
    const bySocket = new Map<unknown, string[]>();
    const noting: RequestListener = (incoming, response) => {
      const seen = bySocket.get(incoming.socket) ?? [];
      seen.push(incoming.headers.authorization ?? '');
      bySocket.set(incoming.socket, seen);
      echo(incoming, response);
    };
    const requestSets = [
      [request('a1', 'a1'), request('a2', 'a2')],
      [request('b1', 'b1'), request('b2', 'b2')],
    ];
    await serving(noting, (port) => runLoad(plan(port, { connections: 4, requestSets }), nothing));
    const sequences = [...bySocket.values()].map((seen) => seen.slice(0, 3).join(' '));
    expect(sequences.toSorted()).toEqual(['a1 a2 a1', 'a2 a1 a2', 'b1 b2 b1', 'b2 b1 b2']);
  });

  test('an answer in many pieces is one answer', async () => {
    const dripping: RequestListener = (_incoming, response) => {
      response.writeHead(200, { 'Content-Length': 200_000 });
      response.write('x'.repeat(100_000), () => setImmediate(() => response.end(`${'x'.repeat(99_997)}end`)));
    };
    const requestSets = [[request('a', 'xend')]];
    const { result } = await serving(dripping, (port) =>
      runLoad(plan(port, { requestSets, maxRequests: 20 }), nothing),
    );
    expect(result.errors).toEqual({});
    expect(result.unanswered).toBe(0);
  });

  test('refusals are counted by status and problem code, not as answers', async () => {
    const refusing: RequestListener = (incoming, response) => {
      incoming.resume();
      const text = JSON.stringify({ code: 'KMS_THROTTLED' });
      response.writeHead(503, { 'Content-Length': text.length }).end(text);
    };
    const { result } = await serving(refusing, (port) =>
      runLoad(plan(port, { maxRequests: 5_000 }), nothing),
    );
    expect(result.answered).toBe(0);
    expect(Object.keys(result.errors)).toEqual(['503 KMS_THROTTLED']);
    expect(result.errorCount).toBeGreaterThan(4_000);
  });

  test('a body without the expected text is an error', async () => {
    const requestSets = [[request('a', 'something else')]];
    const { result } = await serving(echo, (port) =>
      runLoad(plan(port, { requestSets, maxRequests: 5_000 }), nothing),
    );
    expect(result.answered).toBe(0);
    expect(Object.keys(result.errors)).toEqual(['wrong body']);
  });

  test('a request that the server never answers is reported', async () => {
    const { result } = await serving(nothing, (port) =>
      runLoad(plan(port, { durationMs: 50, drainMs: 50 }), nothing),
    );
    expect(result.unanswered).toBe(2);
  });

  test('a server that closes is reconnected to, and the loss is counted', async () => {
    const { result } = await serving(
      (incoming) => incoming.socket.destroy(),
      (port) => runLoad(plan(port, { maxRequests: 50 }), nothing),
    );
    expect(result.answered).toBe(0);
    expect(result.reconnects).toBeGreaterThan(0);
    expect(result.errorCount).toBeGreaterThan(0);
  });

  test('the caller samples once when the window opens and once when it closes', async () => {
    let samples = 0;
    const { before, after } = await serving(echo, (port) => runLoad(plan(port, {}), () => ++samples));
    expect([before, after]).toEqual([1, 2]);
  });

  test.each([
    ['an address of another machine', { host: '192.0.2.1' }],
    ['a host name', { host: 'localhost' }],
    ['no end in time', { durationMs: 1e9 }],
    ['no end in requests', { maxRequests: 1e12 }],
    ['no connection', { connections: 0 }],
    ['a set without requests', { requestSets: [[]] }],
  ])('a plan with %s is refused', async (_what, over) => {
    await expect(runLoad(plan(1, over), nothing)).rejects.toThrow(/RangeError/);
  });
});
