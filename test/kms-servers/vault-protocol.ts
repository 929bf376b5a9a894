/**
 * A server that speaks Vault's HTTP API (developer.hashicorp.com/vault/api-docs: transit, auth/approle, auth/jwt, auth/kubernetes,
 * auth/token, sys/health) as far as a KMS driver can reach it, with namespaces and faults. Written from those pages and from
 * the answers of Vault 1.13.1, against which `test/contract/vault.backend.ts` runs the same suite.
 *
 *     node test/kms-servers/vault-protocol.ts    prints one JSON line, runs until it is killed
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { createLogins } from './vault-logins.ts';
import { createTransit, Refusal } from './vault-transit.ts';

type Capability = 'create' | 'read' | 'update';

export interface LogLine {
  readonly method: string;
  readonly path: string;
  readonly namespace: string;
  readonly token: string;
  readonly correlationId: string;
  readonly body: Record<string, unknown>;
  readonly status: number;
  /** Empty in the answer to a failed call, as Vault has it. */
  readonly requestId: string;
}

export interface VaultFaults {
  /** Before each answer. */
  latencyMs: number;
  wire: 'black-hole' | 'reset' | 'html' | undefined;
  /** Answered in place of everything. */
  answer: { status: number; errors?: string[]; headers?: Record<string, string> } | undefined;
  sealed: boolean;
  /** Answers 307 with this `Location`, where `{path}` stands for the request's. */
  redirect: string | undefined;
  /** Changes the JSON of a successful answer. */
  rewrite: ((path: string, body: Record<string, unknown>) => unknown) | undefined;
}

export type VaultServer = Awaited<ReturnType<typeof startVaultServer>>;

/** One namespace with all that it holds; the root namespace is ''. */
function createNamespace(now: () => number) {
  return {
    transit: createTransit(),
    logins: createLogins(now),
    /** Policy name → path → capabilities. */
    policies: new Map<string, Map<string, readonly Capability[]>>(),
    tokens: new Map<string, { policies: string[]; endsAt: number; renewable: boolean; ttlSeconds: number }>(),
    locked: false,
  };
}
type Namespace = ReturnType<typeof createNamespace>;

export async function startVaultServer(
  options: { tls?: { cert: string; key: string }; logLimit?: number; now?: () => number } = {},
) {
  const { tls, logLimit = 10_000, now = Date.now } = options;
  const namespaces = new Map<string, Namespace>([['', createNamespace(now)]]);
  const log: LogLine[] = [];
  const faults: VaultFaults = {
    latencyMs: 0,
    wire: undefined,
    answer: undefined,
    sealed: false,
    redirect: undefined,
    rewrite: undefined,
  };

  const issue = (space: Namespace, policies: string[], ttlSeconds: number, renewable = true): string => {
    const token = `hvs.${randomBytes(18).toString('base64url')}`;
    const endsAt = ttlSeconds === 0 ? Number.POSITIVE_INFINITY : now() + ttlSeconds * 1000;
    space.tokens.set(token, { policies, endsAt, renewable, ttlSeconds });
    return token;
  };

  /** The capabilities on a path. Throws what Vault says to a token that it does not know. */
  const capabilities = (space: Namespace, token: string, path: string): readonly Capability[] => {
    const held = space.tokens.get(token);
    if (!held || held.endsAt <= now()) throw new Refusal(403, 'permission denied');
    return held.policies.flatMap((name) => space.policies.get(name)?.get(path) ?? []);
  };

  const serve = (
    space: Namespace,
    method: string,
    path: string,
    token: string,
    body: Record<string, unknown>,
  ) => {
    const write = method === 'POST' || method === 'PUT';
    const login = /^auth\/(approle|jwt|kubernetes)\/login$/.exec(path)?.[1];
    if (login && write) {
      const { policies, ttlSeconds } = space.logins.login(login, body);
      return {
        auth: {
          client_token: issue(space, policies, ttlSeconds),
          lease_duration: ttlSeconds,
          renewable: true,
        },
      };
    }
    const held = space.tokens.get(token);
    if (path === 'auth/token/renew-self' && write) {
      if (!held || held.endsAt <= now()) throw new Refusal(403, 'permission denied');
      if (!held.renewable) throw new Refusal(400, 'lease is not renewable');
      if (held.ttlSeconds > 0) held.endsAt = now() + held.ttlSeconds * 1000;
      return { auth: { client_token: token, lease_duration: held.ttlSeconds, renewable: true } };
    }
    const may = capabilities(space, token, path);
    const [, mount, operation, name = ''] = /^(.+)\/(encrypt|decrypt|keys)\/([\w.-]+)$/.exec(path) ?? [];
    if (operation === 'keys' ? !may.includes('read') : !may.includes('update')) {
      throw new Refusal(403, 'permission denied');
    }
    if (mount !== 'transit') {
      throw new Refusal(404, `no handler for route "${path}". route entry not found.`);
    }
    if (operation === 'keys') {
      const settings = space.transit.settings(name);
      if (!settings) throw new Refusal(404, '');
      return { data: settings };
    }
    if (operation === 'decrypt') return { data: space.transit.decrypt(name, body) };
    return { data: space.transit.encrypt(name, body, { create: may.includes('create') }) };
  };

  const answer = (
    request: IncomingMessage,
    body: Record<string, unknown>,
  ): [number, unknown, Record<string, string>] => {
    const path = (request.url ?? '').replace(/^\/v1\//, '');
    const refused = (status: number, ...errors: string[]): [number, unknown, Record<string, string>] => [
      status,
      { errors },
      {},
    ];
    if (faults.answer) {
      const { status, errors, headers = {} } = faults.answer;
      return [status, errors ? { errors } : {}, headers];
    }
    if (faults.redirect !== undefined) {
      return [307, {}, { location: faults.redirect.replace('{path}', request.url ?? '') }];
    }
    if (faults.sealed) return refused(503, 'Vault is sealed');
    const space = namespaces.get(String(request.headers['x-vault-namespace'] ?? '').replace(/^\/|\/$/g, ''));
    if (!space) return refused(404, `no handler for route "${path}". route entry not found.`);
    if (space.locked) return refused(503, 'API access to this namespace has been locked by an administrator');
    try {
      const token = String(request.headers['x-vault-token'] ?? '');
      const found = serve(space, request.method ?? '', path, token, body);
      const plain = {
        request_id: randomUUID(),
        lease_id: '',
        renewable: false,
        lease_duration: 0,
        ...found,
        wrap_info: null,
      };
      return [200, faults.rewrite ? faults.rewrite(path, plain) : plain, {}];
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      return error.message === '' ? refused(error.status) : refused(error.status, error.message);
    }
  };

  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    if (faults.wire === 'black-hole') return;
    if (faults.wire === 'reset') {
      response.writeHead(200, { 'content-length': '500' });
      response.write('{"data":{', () => request.socket.resetAndDestroy());
      return;
    }
    if (faults.wire === 'html') {
      response.writeHead(502, { 'content-type': 'text/html' });
      response.end('<html>permission denied: Vault is sealed</html>');
      return;
    }
    const text = Buffer.concat(chunks).toString('utf8');
    const body = text === '' ? {} : (JSON.parse(text) as Record<string, unknown>);
    const [status, json, headers] = answer(request, body);
    if (log.length < logLimit) log.push(lineOf(request, body, status, json));
    if (faults.latencyMs > 0) await new Promise((resolve) => setTimeout(resolve, faults.latencyMs).unref());
    response.writeHead(status, {
      'content-type': 'application/json',
      'cache-control': 'no-store',
      ...headers,
    });
    response.end(JSON.stringify(json));
  };

  const listener = (request: IncomingMessage, response: ServerResponse) => {
    handle(request, response).catch(() => response.destroy());
  };
  const server = tls ? createTlsServer(tls, listener) : createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const url = `${tls ? 'https' : 'http'}://127.0.0.1:${port}`;
  let connections = 0;
  server.on('connection', () => {
    connections += 1;
  });
  return {
    url,
    log,
    faults,
    /** How many connections have ever been made. */
    connections: () => connections,
    namespace(name = ''): Namespace {
      const found = namespaces.get(name) ?? createNamespace(now);
      namespaces.set(name, found);
      return found;
    },
    issue,
    keyRef: (name: string) => `${url}/v1/transit/keys/${name}`,
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Lets a policy use a key as `adapters/README.md` tells customers to. */
export function allowKey(space: Namespace, policy: string, name: string): void {
  const paths = space.policies.get(policy) ?? new Map<string, readonly Capability[]>();
  paths.set(`transit/encrypt/${name}`, ['update']);
  paths.set(`transit/decrypt/${name}`, ['update']);
  paths.set(`transit/keys/${name}`, ['read']);
  space.policies.set(policy, paths);
}

function lineOf(
  request: IncomingMessage,
  body: Record<string, unknown>,
  status: number,
  json: unknown,
): LogLine {
  const header = (name: string) => String(request.headers[name] ?? '');
  return {
    method: request.method ?? '',
    path: request.url ?? '',
    namespace: header('x-vault-namespace'),
    token: header('x-vault-token'),
    correlationId: header('x-correlation-id'),
    body,
    status,
    requestId: String((json as { request_id?: string }).request_id ?? ''),
  };
}

if (process.argv[1]?.endsWith('vault-protocol.ts')) {
  const server = await startVaultServer({ logLimit: 0 });
  const space = server.namespace();
  space.transit.create('k');
  allowKey(space, 'use', 'k');
  const token = server.issue(space, ['use'], 0);
  process.stdout.write(`${JSON.stringify({ url: server.url, token, key: server.keyRef('k') })}\n`);
}
