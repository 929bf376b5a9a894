import { connect } from 'node:net';
import { expect, test } from '@jest/globals';
import { OWN } from './fake-services.ts';
import { type Listening, listen } from './listen.ts';

function gate() {
  let open: () => void = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { open, opened };
}

/** A connection that stays open; `next()` resolves with the head and body of the next answer. */
function keptAlive(port: number) {
  const socket = connect(port, '127.0.0.1');
  let text = '';
  let wake = () => {};
  const closed = new Promise<void>((resolve) => socket.on('close', () => resolve()));
  socket.on('error', () => {});
  socket.on('data', (part) => {
    text += part.toString('latin1');
    wake();
  });
  async function next(): Promise<string> {
    for (;;) {
      const end = text.indexOf('\r\n\r\n') + 4;
      const length = Number(/Content-Length: (\d+)/.exec(text)?.[1] ?? 0);
      if (end > 3 && text.length >= end + length) {
        const answer = text.slice(0, end + length);
        text = text.slice(end + length);
        return answer;
      }
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  }
  return { socket, closed, next };
}

const HEALTH = 'GET /health HTTP/1.1\r\nHost: x\r\n\r\n';

function slowDecrypt(http: Listening): string {
  const token = http.services.addPrincipal('service', OWN);
  const body = JSON.stringify({ envelope: 'jktUTQ==', purpose: 'notes' });
  return (
    `POST /v1/tenants/${OWN}/decrypt HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\n` +
    `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`
  );
}

test('a stop finishes what is in flight, refuses what is new, and closes every connection', async () => {
  const http = await listen();
  const [started, released] = [gate(), gate()];
  http.services.before = (name) => {
    if (name !== 'decrypt') return;
    started.open();
    return released.opened;
  };
  const busy = keptAlive(http.port);
  const halfway = keptAlive(http.port);
  halfway.socket.write(HEALTH);
  expect(await halfway.next()).toMatch(/^HTTP\/1\.1 200 /);
  halfway.socket.write(HEALTH.slice(0, -2));
  busy.socket.write(slowDecrypt(http));
  await started.opened;

  const stopped = http.server.stop(10_000);
  halfway.socket.write(HEALTH.slice(-2));
  const refused = await halfway.next();
  expect(refused).toMatch(/^HTTP\/1\.1 503 /);
  expect(refused).toContain('"SHUTTING_DOWN"');
  expect(refused).toMatch(/\r\nRetry-After: 1\r\n/);
  expect(refused).toMatch(/\r\nConnection: close\r\n/);
  await halfway.closed;
  await expect(fetch(`http://127.0.0.1:${http.port}/health`)).rejects.toThrow();

  released.open();
  const answer = await busy.next();
  expect(answer).toMatch(/^HTTP\/1\.1 200 /);
  expect(answer).toMatch(/\r\nConnection: close\r\n/);
  await busy.closed;
  await stopped;
  await http.server.stop(0);
});

test('a stop cuts off what does not end within its bound', async () => {
  const http = await listen();
  const started = gate();
  http.services.before = (name) => {
    if (name !== 'decrypt') return;
    started.open();
    return new Promise(() => {});
  };
  const busy = keptAlive(http.port);
  busy.socket.write(slowDecrypt(http));
  await started.opened;
  await http.server.stop(20);
  await busy.closed;
});

test('a client that goes away before its answer harms nobody', async () => {
  const http = await listen();
  const [started, released] = [gate(), gate()];
  http.services.before = (name) => {
    if (name !== 'decrypt') return;
    started.open();
    return released.opened;
  };
  const gone = keptAlive(http.port);
  gone.socket.write(slowDecrypt(http));
  await started.opened;
  gone.socket.destroy();
  await gone.closed;
  released.open();
  expect((await http.send('GET', '/health')).status).toBe(200);
  expect(http.services.failures).toEqual([]);
  await http.server.stop(1_000);
});
