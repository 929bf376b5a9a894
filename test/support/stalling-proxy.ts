import { connect, createServer, type Socket } from 'node:net';

export interface StallingProxy {
  readonly port: number;
  /** From now on nothing passes in either direction, and no connection is closed: a black hole. */
  stall(): void;
  /** From now on answers are swallowed while requests still arrive. */
  swallowAnswers(): void;
  /** Ends every connection with a reset. */
  reset(): void;
  close(): Promise<void>;
}

/** A TCP proxy to `port` on the loopback interface. */
export async function startStallingProxy(port: number): Promise<StallingProxy> {
  const sockets = new Set<Socket>();
  let stalled = false;
  let silent = false;
  const keep = (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => sockets.delete(socket));
  };
  const server = createServer((near) => {
    keep(near);
    if (stalled) return;
    const far = connect(port, '127.0.0.1');
    keep(far);
    near.on('data', (chunk) => stalled || far.write(chunk));
    far.on('data', (chunk) => stalled || silent || near.write(chunk));
    near.on('close', () => far.destroy());
    far.on('close', () => stalled || near.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return {
    port: address.port,
    stall: () => {
      stalled = true;
    },
    swallowAnswers: () => {
      silent = true;
    },
    reset: () => {
      for (const socket of sockets) socket.resetAndDestroy();
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}
