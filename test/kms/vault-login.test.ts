/** How the Vault driver gets in: the four ways, one login for all who wait, renewal, and one more login after a denial. */
import { generateKeyPairSync } from 'node:crypto';
import { inspect } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { createVaultKms } from '../../adapters/kms/vault.ts';
import type { CustomerKeyHandle } from '../../src/kms/driver.ts';
import { allowKey, startVaultServer, type VaultServer } from '../kms-servers/vault-protocol.ts';

const CONTEXT = { tenant: 'ten_a', scope: 'default', key: 'key_a' };

let server: VaultServer;
let now: number;
let secret: string;
const handles: CustomerKeyHandle[] = [];

beforeEach(async () => {
  now = Date.now();
  server = await startVaultServer({ now: () => now });
  const space = server.namespace();
  space.transit.create('k');
  allowKey(space, 'use', 'k');
});

afterEach(async () => {
  for (const handle of handles.splice(0)) await handle.close();
  await server.close();
});

const call = () => ({ signal: new AbortController().signal, correlationId: 'cid' });

async function open(auth: unknown, namespace?: string): Promise<CustomerKeyHandle> {
  const driver = createVaultKms({ now: () => now });
  const host = {
    secret: async () => new TextEncoder().encode(`${secret}\n`),
    endpointAllowed: (address: string) => address === server.url,
  };
  const access = driver.access.parse({ auth, ...(namespace === undefined ? {} : { namespace }) });
  const handle = await driver.open(driver.parseKeyRef(server.keyRef('k')), access, host);
  handles.push(handle);
  return handle;
}

const use = async (handle: CustomerKeyHandle) => {
  try {
    const { wrapped } = await handle.wrap(new Uint8Array(32), CONTEXT, call());
    return (await handle.unwrap(wrapped, CONTEXT, call())).key.length;
  } catch (error) {
    const { code, detail } = error as { code: string; detail: string };
    const shown = inspect(error, { depth: 8 });
    expect([code, secret.trim() !== '' && shown.includes(secret)]).toEqual([code, false]);
    return [code, detail];
  }
};

const logins = () => server.log.filter((line) => line.path.endsWith('/login')).length;
const appRole = { type: 'approle', roleId: 'r', secretId: 'vault' };

function approle(ttlSeconds = 900): void {
  secret = 'secret-id';
  const role = { policies: ['use'], ttlSeconds, secretIds: new Set([secret]) };
  server.namespace().logins.appRoles.set('r', role);
}

describe('ways in', () => {
  test('a JWT that the issuer signed for us works; another subject, audience, issuer or an old one does not', async () => {
    const { logins } = server.namespace();
    const role = { policies: ['use'], ttlSeconds: 900, audience: 'vault', subject: 'keytether' };
    logins.jwtRoles.set('r', role);
    const exp = Math.floor(now / 1000) + 300;
    const good = { aud: 'vault', sub: 'keytether', exp };
    const auth = { type: 'jwt', role: 'r', secretId: 'vault' };
    const stranger = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
    const refused = ['KMS_ACCESS_DENIED', 'login'];
    for (const [jwt, expected] of [
      [logins.jwt(good), 32],
      [logins.jwt({ ...good, sub: 'other' }), refused],
      [logins.jwt({ ...good, aud: 'other' }), refused],
      [logins.jwt(good, stranger), refused],
      [logins.jwt({ ...good, exp: exp - 600 }), ['KMS_MISCONFIGURED', 'our-credentials']],
    ] as const) {
      secret = jwt;
      expect(await use(await open(auth))).toEqual(expected);
    }
    secret = logins.jwt(good);
    expect(await use(await open({ ...auth, role: 'other' }))).toEqual(refused);
  });

  test('a Kubernetes service account that the role names works, another does not', async () => {
    const serviceAccountTokens = new Set(['good']);
    const role = { policies: ['use'], ttlSeconds: 900, serviceAccountTokens };
    server.namespace().logins.kubernetesRoles.set('r', role);
    const auth = { type: 'kubernetes', role: 'r', secretId: 'vault' };
    secret = 'good';
    expect(await use(await open(auth))).toBe(32);
    secret = 'other';
    expect(await use(await open(auth))).toEqual(['KMS_ACCESS_DENIED', 'login']);
  });

  test('an AppRole whose secret id was destroyed is refused', async () => {
    approle();
    secret = 'destroyed';
    expect(await use(await open(appRole))).toEqual(['KMS_ACCESS_DENIED', 'login']);
  });

  test('a token of a platform secret works, renews itself, and is read again when it is denied', async () => {
    const space = server.namespace();
    secret = server.issue(space, ['use'], 900);
    const handle = await open({ type: 'token', secretId: 'vault' });
    for (let minutes = 0; minutes < 60; minutes += 11) {
      expect(await use(handle)).toBe(32);
      now += 11 * 60_000;
      await use(handle);
    }
    space.tokens.clear();
    now += 6_000;
    expect(await use(handle)).toEqual(['KMS_ACCESS_DENIED', 'permission-denied']);
    secret = server.issue(space, ['use'], 900);
    now += 6_000;
    expect(await use(handle)).toBe(32);
  });

  test('a token that cannot renew itself serves as it is', async () => {
    secret = server.issue(server.namespace(), ['use'], 900, false);
    expect(await use(await open({ type: 'token', secretId: 'vault' }))).toBe(32);
  });

  test('a namespace is named in every call, and the key of another namespace is another key', async () => {
    const space = server.namespace('team/eu');
    secret = server.issue(space, ['use'], 0);
    const auth = { type: 'token', secretId: 'vault' };
    const handle = await open(auth, 'team/eu');
    expect(await use(handle)).toEqual(['KMS_ACCESS_DENIED', 'permission-denied']);
    space.transit.create('k');
    allowKey(space, 'use', 'k');
    expect(await use(handle)).toBe(32);
    expect(new Set(server.log.map((line) => line.namespace))).toEqual(new Set(['team/eu']));
    expect(await use(await open(auth))).toEqual(['KMS_ACCESS_DENIED', 'permission-denied']);
  });

  test.each(['two\nlines', 'x\ry', '\u00e9', ' '])(
    'a secret that is no token is refused before any call: %j',
    async (text) => {
      secret = text;
      const handle = await open({ type: 'token', secretId: 'vault' });
      expect(await use(handle)).toEqual(['KMS_MISCONFIGURED', 'secret-format']);
      expect(server.log).toEqual([]);
    },
  );
});

describe('one login', () => {
  test('serves all who wait and is kept', async () => {
    approle();
    const handle = await open(appRole);
    const results = await Promise.all(Array.from({ length: 40 }, () => use(handle)));
    expect(new Set(results)).toEqual(new Set([32]));
    expect(logins()).toBe(1);
  });

  test('is renewed beside the calls from two thirds of its lease on', async () => {
    approle();
    const handle = await open(appRole);
    await use(handle);
    now += 599_000;
    await use(handle);
    expect(logins()).toBe(1);
    now += 2_000;
    await use(handle);
    expect(await use(handle)).toBe(32);
    expect(logins()).toBe(2);
  });

  test('is followed by one more when a token that is not fresh is denied, and then by a refusal', async () => {
    approle();
    const space = server.namespace();
    const handle = await open(appRole);
    const { wrapped } = await handle.wrap(new Uint8Array(32), CONTEXT, call());
    now += 6_000;
    space.tokens.clear();
    expect((await handle.unwrap(wrapped, CONTEXT, call())).key).toHaveLength(32);
    expect(logins()).toBe(2);
    space.policies.clear();
    now += 6_000;
    const before = server.log.length;
    const code = async () =>
      handle.unwrap(wrapped, CONTEXT, call()).then(
        () => 'ok',
        (error: { code: string }) => error.code,
      );
    expect(await code()).toBe('KMS_ACCESS_DENIED');
    expect(server.log.length - before).toBe(3);
    expect(await code()).toBe('KMS_ACCESS_DENIED');
    expect(server.log.length - before).toBe(4);
    allowKey(space, 'use', 'k');
    expect(await code()).toBe('ok');
  });

  test('serves all calls that one revoked token has failed', async () => {
    approle();
    const handle = await open(appRole);
    const { wrapped } = await handle.wrap(new Uint8Array(32), CONTEXT, call());
    now += 6_000;
    server.namespace().tokens.clear();
    const keys = await Promise.all(Array.from({ length: 40 }, () => handle.unwrap(wrapped, CONTEXT, call())));
    expect(keys).toHaveLength(40);
    expect(logins()).toBe(2);
  });

  test('carries no token and no correlation id', async () => {
    approle();
    await use(await open(appRole));
    expect(server.log[0]).toMatchObject({ path: '/v1/auth/approle/login', token: '', correlationId: '' });
  });
});
