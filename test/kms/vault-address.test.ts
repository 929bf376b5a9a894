/** Where the Vault driver connects: only to origins that the operator allows, in one spelling, and over TLS that is checked. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer, request, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { createVaultKms } from '../../adapters/kms/vault.ts';
import type { CallOptions } from '../../src/kms/driver.ts';
import { allowKey, startVaultServer, type VaultServer } from '../kms-servers/vault-protocol.ts';

const CONTEXT = { tenant: 'ten_a', scope: 'default', key: 'key_a' };
const run = promisify(execFile);
const tls = (name: string) => readFileSync(`test/vectors/tls/${name}`, 'utf8');

const call = (): CallOptions => ({ signal: new AbortController().signal, correlationId: 'cid' });

interface Setting {
  readonly keyRef: string;
  readonly allowed: readonly string[];
  readonly access?: Record<string, unknown>;
  readonly secrets?: Record<string, string>;
}

/** The code and detail in which a wrap through the driver ends, or `ok`. */
async function wrapThrough({ keyRef, allowed, access = {}, secrets = {} }: Setting): Promise<string> {
  const driver = createVaultKms();
  const host = {
    secret: async (id: string) => new TextEncoder().encode(secrets[id] ?? 'hvs.marker-token'),
    endpointAllowed: (url: string) => allowed.includes(url),
  };
  try {
    const parsed = driver.access.parse({ auth: { type: 'token', secretId: 'token' }, ...access });
    const handle = await driver.open(driver.parseKeyRef(keyRef), parsed, host);
    try {
      await handle.wrap(new Uint8Array(32), CONTEXT, call());
      return 'ok';
    } finally {
      await handle.close();
    }
  } catch (error) {
    const { code, detail } = error as { code?: string; detail?: string };
    return `${code} ${detail}`;
  }
}

describe('spellings of an address', () => {
  let listener: Server;
  let port: number;
  let connections = 0;

  beforeAll(async () => {
    listener = createServer((_request, response) => response.end('{}'));
    listener.on('connection', () => {
      connections += 1;
    });
    await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
    port = (listener.address() as AddressInfo).port;
  });

  afterAll(async () => {
    listener.closeAllConnections();
    await new Promise((resolve) => listener.close(resolve));
  });

  const HOSTS = [
    '127.0.0.1',
    '127.1',
    '127.0.1',
    '2130706433',
    '0x7f000001',
    '0X7F000001',
    '0x7f.1',
    '0x7f.0x0.0x0.0x1',
    '0177.1',
    '0177.0.0.1',
    '0177.0.0.01',
    '017700000001',
    '127.0.0.1.',
    '127.0.0.01',
    '127.0.0.0x1',
    '127.00.0.1',
    '127.0x0.1',
    '\uff11\uff12\uff17.0.0.1',
    '127\u30020\u30020\u30021',
    '127\uff0e0\uff0e0\uff0e1',
    '127\uff610.0.1',
    '\u2460\u2461\u2466.0.0.1',
    '127.0.0.\u2460',
    '%31%32%37.0.0.1',
    '127.0.0.%31',
    '%30x7f.1',
    'localhost',
    'LOCALHOST',
    'loc%61lhost',
    '\uff4cocalhost',
    'local\u00adhost',
    '0',
    '0.0.0.0',
    '0x0',
    'x@127.0.0.1',
    'x:y@127.0.0.1',
    'vault.example%2f@127.0.0.1',
    'vault.example%23@127.0.0.1',
  ];
  const PATH = '/v1/transit/keys/k';
  const spellings = () => [
    ...HOSTS.map((host) => `http://${host}:${port}${PATH}`),
    ...HOSTS.map((host) => `HTTP:\\\\${host}:${port}${PATH}`),
    `http:127.0.0.1:${port}${PATH}`,
    `http:/127.0.0.1:${port}${PATH}`,
    `http:////127.0.0.1:${port}${PATH}`,
    `http://127.0.0.1:0${port}${PATH}`,
    ` http://127.0.0.1:${port}${PATH}`,
    `http://127.0.0.1:${port}${PATH}\n`,
    `ht\ttp://127.0.0.1:${port}${PATH}`,
    `http://127.0.\r\n0.1:${port}${PATH}`,
    `http://127.0.0.1:${port}${PATH}?x`,
    `http://127.0.0.1:${port}${PATH}#x`,
    `http://127.0.0.1:${port}/v1/transit/x/../keys/k`,
    `http://127.0.0.1:${port}/v1/transit/%2e%2e/transit/keys/k`,
    `http://127.0.0.1:${port}\\v1\\transit\\keys\\k`,
  ];

  const unguarded = (url: string) =>
    new Promise<string>((resolve) => {
      const sent = request(url, { agent: false }, (answer) => {
        answer.resume().once('close', () => resolve('reached'));
      });
      sent.once('error', (error) => resolve(String(error)));
      sent.end();
    });

  test('each of more than 60 reaches the listener through an unguarded client, and none through the driver', async () => {
    const texts = spellings();
    expect(new Set(texts).size).toBeGreaterThanOrEqual(60);
    for (const keyRef of texts) {
      expect([keyRef, await unguarded(keyRef)]).toEqual([keyRef, 'reached']);
      const before = connections;
      const outcome = await wrapThrough({ keyRef, allowed: ['https://vault.example:8200'] });
      expect([keyRef, outcome]).toEqual([
        keyRef,
        expect.stringMatching(/^KMS_MISCONFIGURED (key-ref|endpoint-not-allowed)$/),
      ]);
      expect([keyRef, connections]).toEqual([keyRef, before]);
    }
  });

  test('where the operator allows the loopback address, only its one spelling is called', async () => {
    for (const keyRef of spellings().slice(1)) {
      const before = connections;
      const allowed = [`http://127.0.0.1:${port}`, new URL(keyRef).origin];
      expect([keyRef, await wrapThrough({ keyRef, allowed })]).toEqual([keyRef, 'KMS_MISCONFIGURED key-ref']);
      expect(connections).toBe(before);
    }
    const before = connections;
    const keyRef = `http://127.0.0.1:${port}${PATH}`;
    await wrapThrough({ keyRef, allowed: [`http://127.0.0.1:${port}`] });
    expect(connections).toBeGreaterThan(before);
  });

  test.each([
    '[::1]',
    '[::ffff:127.0.0.1]',
    '[0:0:0:0:0:0:0:1]',
    '[::0001]',
    '169.254.169.254',
    '10.0.0.1',
    'metadata',
    'vault.example',
  ])('an address that is not allowed is refused before any call: %s', async (host) => {
    for (const scheme of ['http', 'https']) {
      const keyRef = `${scheme}://${host}:8200${PATH}`;
      expect(await wrapThrough({ keyRef, allowed: ['https://vault.example'] })).toMatch(
        /^KMS_MISCONFIGURED /,
      );
    }
  });

  test.each([
    '127.00.0.1',
    '0177.0.0.1',
    '010.0.0.1',
    '256.0.0.1',
    '[0:0:0:0:0:0:0:1]',
    '[::0001]',
    '[1::2::3]',
  ])('a number that is not in its normal form is no address over https either: %s', async (host) => {
    const origin = `https://${host}:8200`;
    const allowed = [origin, URL.canParse(origin) ? new URL(origin).origin : ''];
    expect(await wrapThrough({ keyRef: `${origin}${PATH}`, allowed })).toBe('KMS_MISCONFIGURED key-ref');
  });

  test('an address that access lists for redirects must be allowed too, and be an origin in its one spelling', async () => {
    const keyRef = `http://127.0.0.1:${port}${PATH}`;
    const allowed = [`http://127.0.0.1:${port}`];
    const access = { redirectHosts: ['https://other.example'] };
    expect(await wrapThrough({ keyRef, allowed, access })).toBe('KMS_MISCONFIGURED endpoint-not-allowed');
    const schema = createVaultKms().access;
    const auth = { type: 'token', secretId: 'token' };
    for (const origin of [
      'https://127.1',
      'http://other.example',
      'https://o.example/',
      'https://u@o.example',
    ]) {
      expect(schema.safeParse({ auth, redirectHosts: [origin] }).success).toBe(false);
    }
  });
});

describe('redirects', () => {
  let first: VaultServer;
  let second: VaultServer;

  beforeAll(async () => {
    [first, second] = [await startVaultServer(), await startVaultServer()];
    const space = second.namespace();
    space.transit.create('k');
    allowKey(space, 'use', 'k');
    space.tokens.set('hvs.marker-token', {
      policies: ['use'],
      endsAt: Number.POSITIVE_INFINITY,
      renewable: false,
      ttlSeconds: 0,
    });
  });

  afterAll(async () => {
    await first.close();
    await second.close();
  });

  const through = (location: string, listed: readonly string[]) => {
    first.faults.redirect = location;
    return wrapThrough({
      keyRef: first.keyRef('k'),
      allowed: [first.url, second.url],
      access: { redirectHosts: listed },
    });
  };

  test('a 307 to a host that access does not list gets neither token nor body, however it is spelled', async () => {
    for (const location of [
      `${second.url}{path}`,
      `${second.url.replace('127.0.0.1', '127.1')}{path}`,
      `${second.url.replace('http:', '')}{path}`,
      `${second.url.replace('//', '//u:p@')}{path}`,
    ]) {
      const before = second.connections();
      expect([location, await through(location, [])]).toEqual([
        location,
        'KMS_MISCONFIGURED redirect-not-allowed',
      ]);
      expect(second.connections()).toBe(before);
    }
  });

  test('a 307 to a listed host is followed with the same path only', async () => {
    expect(await through(`${second.url}{path}`, [second.url])).toBe('ok');
    const before = second.log.length;
    for (const location of [
      `${second.url}{path}?x=1`,
      `${second.url}/v1/sys/seal`,
      `${second.url.replace('127.0.0.1', '127.1')}{path}`,
      '{path}',
      '',
    ]) {
      const outcome = await through(location, [second.url]);
      expect([location, outcome]).toEqual([location, 'KMS_MISCONFIGURED redirect-not-allowed']);
    }
    expect(second.log.length).toBe(before);
  });

  test('a second 307 is not followed', async () => {
    second.faults.redirect = `${first.url}{path}`;
    expect(await through(`${second.url}{path}`, [second.url])).toMatch(/^KMS_UNAVAILABLE/);
    second.faults.redirect = undefined;
  });

  test.each([301, 302, 303, 308])('a %i is no redirect for us', async (status) => {
    first.faults.redirect = undefined;
    first.faults.answer = { status, headers: { location: `${second.url}/v1/transit/encrypt/k` } };
    const before = second.connections();
    const setting = { keyRef: first.keyRef('k'), allowed: [first.url, second.url] };
    const outcome = await wrapThrough({ ...setting, access: { redirectHosts: [second.url] } });
    expect(outcome).toMatch(/^KMS_UNAVAILABLE/);
    expect(second.connections()).toBe(before);
    first.faults.answer = undefined;
  });
});

describe('TLS', () => {
  const servers: VaultServer[] = [];

  afterEach(async () => {
    for (const server of servers.splice(0)) await server.close();
  });

  const start = async (certificate: string) => {
    const server = await startVaultServer({
      tls: { cert: tls(`${certificate}.pem`), key: tls(`${certificate}.key`) },
    });
    servers.push(server);
    const space = server.namespace();
    space.transit.create('k');
    allowKey(space, 'use', 'k');
    return server;
  };
  const through = (server: VaultServer, ca: string | undefined) =>
    wrapThrough({
      keyRef: server.keyRef('k'),
      allowed: [server.url],
      access: ca === undefined ? {} : { caSecretId: 'ca' },
      secrets: { token: server.issue(server.namespace(), ['use'], 0), ...(ca === undefined ? {} : { ca }) },
    });

  test('works with the authority that access names, on one connection', async () => {
    const server = await start('loopback');
    expect(await through(server, tls('ca.pem'))).toBe('ok');
    expect(server.log.length).toBe(2);
    expect(server.connections()).toBe(1);
  });

  test.each([
    ['of an authority that nobody trusts', 'loopback', undefined],
    ['of another authority than the named one', 'loopback', 'other-ca.pem'],
    ['for another name', 'other-name', 'ca.pem'],
  ])('a certificate %s gets no request', async (_what, certificate, ca) => {
    const server = await start(certificate);
    expect(await through(server, ca === undefined ? undefined : tls(ca))).toMatch(/^KMS_UNREACHABLE/);
    expect(server.log).toEqual([]);
  });

  test('a secret that is no certificate is refused', async () => {
    const server = await start('loopback');
    expect(await through(server, 'no certificate')).toBe('KMS_MISCONFIGURED secret-format');
  });
});

test('nothing in the environment changes where Vault is called, with what, and what is printed', async () => {
  const server = await startVaultServer();
  const space = server.namespace();
  space.transit.create('k');
  allowKey(space, 'use', 'k');
  const token = server.issue(space, ['use'], 0);
  const target = {
    provider: 'vault',
    key: server.keyRef('k'),
    access: { auth: { type: 'token', secretId: 'kms' } },
    secret: token,
    allowed: server.url,
  };
  const child = run(process.execPath, ['test/kms/residue/child.ts', JSON.stringify(target), 'unwrap', '3'], {
    env: {
      PATH: process.env.PATH,
      DEBUG: '*',
      NODE_DEBUG: '',
      VAULT_ADDR: 'http://127.0.0.1:1',
      VAULT_TOKEN: 'hvs.of-the-environment',
      VAULT_NAMESPACE: 'elsewhere',
      VAULT_PREFIX: '/elsewhere',
      VAULT_SKIP_VERIFY: '1',
      NODE_TLS_REJECT_UNAUTHORIZED: '0',
      HTTP_PROXY: 'http://127.0.0.1:1',
      HTTPS_PROXY: 'http://127.0.0.1:1',
    },
  });
  child.child.stdin?.end('done\n');
  const { stdout, stderr } = await child;
  expect(JSON.parse(stdout.split('\n')[0] ?? '')).toMatchObject({ phase: 'before' });
  const calls = server.log.map((line) => [line.path, line.status, line.token === token, line.namespace]);
  expect(calls).toEqual([
    ['/v1/auth/token/renew-self', 200, true, ''],
    ['/v1/transit/encrypt/k', 200, true, ''],
    ...Array.from({ length: 3 }, () => ['/v1/transit/decrypt/k', 200, true, '']),
  ]);
  const key = String(server.log[1]?.body.plaintext);
  for (const secret of [key, token, 'node-vault', 'plaintext', String(server.log[2]?.body.ciphertext)]) {
    expect([secret, `${stdout}${stderr}`.includes(secret)]).toEqual([secret, false]);
  }
  await server.close();
});
