/**
 * The HTTP server: limits of the protocol, the direct way to the two hot routes, and an orderly stop. TLS ends before it.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createApp } from './app.ts';
import { createRunner, type Route, type Runner } from './route.ts';
import { decryptRoute, encryptRoute } from './routes/envelopes.ts';
import { ROUTES } from './routes/index.ts';
import type { Services } from './services.ts';

export interface Limits {
  /** Bytes of a request's body. */
  readonly bodyBytes: number;
  /** Bytes of all bodies that are being read. */
  readonly heldBytes: number;
  /** Bytes of a request's line and headers. */
  readonly headerBytes: number;
  /** Time for a whole request to arrive, its headers to arrive, an idle connection to stay; and how often that is looked at. */
  readonly requestMs: number;
  readonly headersMs: number;
  readonly keepAliveMs: number;
  readonly checkMs: number;
  readonly connections: number;
}

const LIMITS: Limits = {
  bodyBytes: 1024 * 1024,
  heldBytes: 256 * 1024 * 1024,
  headerBytes: 16 * 1024,
  requestMs: 15_000,
  headersMs: 5_000,
  keepAliveMs: 65_000,
  checkMs: 1_000,
  connections: 10_000,
};

export interface HttpOptions {
  readonly services: Services;
  /** Whether encrypt and decrypt go past Express's router, to the same code. */
  readonly direct?: boolean;
  readonly limits?: Partial<Limits>;
}

export interface HttpServer {
  /** Starts to accept connections. Port 0 takes a free one. */
  listen(port: number, host: string): Promise<AddressInfo>;
  /**
   * Stops: no new connection, SHUTTING_DOWN to new requests, `Connection: close` on every answer. Resolves when all requests have
   * been answered, or after `boundMs` with what is left cut off. May be called again.
   */
  stop(boundMs: number): Promise<void>;
}

export function createHttpServer(options: HttpOptions): HttpServer {
  const limits = { ...LIMITS, ...options.limits };
  const runner = createRunner({
    services: options.services,
    maxBodyBytes: limits.bodyBytes,
    maxHeldBytes: limits.heldBytes,
  });
  const app = createApp(ROUTES, runner);
  const listener = options.direct === false ? app : withDirect(runner, app);
  const server = createServer(
    {
      maxHeaderSize: limits.headerBytes,
      requestTimeout: limits.requestMs,
      headersTimeout: limits.headersMs,
      keepAliveTimeout: limits.keepAliveMs,
      connectionsCheckingInterval: limits.checkMs,
      insecureHTTPParser: false,
      requireHostHeader: true,
      noDelay: true,
    },
    listener,
  );
  server.maxConnections = limits.connections;
  server.maxRequestsPerSocket = 0;
  return { listen: (port, host) => listen(server, port, host), stop: createStop(server, runner) };
}

type Listener = (req: IncomingMessage, res: ServerResponse) => void;

const PREFIX = '/v1/tenants/';
const TENANT_LENGTH = 'ten_'.length + 26;
const HOT: ReadonlyMap<string, Route> = new Map([
  ['/decrypt', decryptRoute],
  ['/encrypt', encryptRoute],
]);

/** Runs a hot route when the URL is exactly its path; any other spelling goes the long way and ends the same. */
function withDirect(runner: Runner, app: Listener): Listener {
  const tail = PREFIX.length + TENANT_LENGTH;
  return (req, res) => {
    const url = req.url ?? '';
    if (req.method === 'POST' && url.length === tail + '/decrypt'.length && url.startsWith(PREFIX)) {
      const route = HOT.get(url.slice(tail));
      const tenant = url.slice(PREFIX.length, tail);
      if (route !== undefined && !tenant.includes('/')) {
        void runner.run(route, { tenant, id: '' }, req, res);
        return;
      }
    }
    app(req, res);
  };
}

function listen(server: Server, port: number, host: string): Promise<AddressInfo> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      server.removeListener('error', reject);
      resolve(server.address() as AddressInfo);
    });
  });
}

function createStop(server: Server, runner: Runner): (boundMs: number) => Promise<void> {
  let stopped: Promise<void> | undefined;
  return (boundMs) => {
    stopped ??= new Promise((resolve) => {
      runner.drain();
      const cut = setTimeout(() => server.closeAllConnections(), boundMs);
      server.close(() => {
        clearTimeout(cut);
        resolve();
      });
    });
    return stopped;
  };
}
