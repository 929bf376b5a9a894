/** The contract and the error table with a real HashiCorp Vault 1.13.1. `npm run test:vault` runs this file. */

import { readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { createVaultKms } from '../../adapters/kms/vault.ts';
import type { CallOptions, CustomerKeyHandle } from '../../src/kms/driver.ts';
import { auditTo, startVault, type Vault } from '../kms-servers/vault.ts';
import { describeKmsContract, type HarnessPlan, type KmsHarness, unprovenClauses } from './kms.ts';
import { HOSTILE_VAULT_KEYS, VAULT_SOURCES, vaultPolicy } from './vault-harness.ts';

/** A Vault as a customer sets it up for us: transit, a policy, an AppRole, an audit device. */
async function customersVault(keys: readonly string[]) {
  const folder = await mkdtemp(join(tmpdir(), 'keytether-vault-'));
  const auditFile = join(folder, 'audit.log');
  const vault = await startVault();
  await auditTo(vault, auditFile);
  await vault.request('POST', 'sys/mounts/transit', { type: 'transit' });
  for (const key of keys) await vault.request('POST', `transit/keys/${key}`, { type: 'aes256-gcm96' });
  const allow = () =>
    vault.request('PUT', 'sys/policies/acl/keytether', { policy: vaultPolicy(...keys, 'unknown') });
  await allow();
  await vault.request('POST', 'sys/auth/approle', { type: 'approle' });
  const role = { token_policies: ['keytether'], token_ttl: '15m', token_max_ttl: '1h' };
  await vault.request('POST', 'auth/approle/role/keytether', role);
  const answer = async (method: 'GET' | 'POST', path: string) =>
    ((await vault.request(method, `auth/approle/role/keytether/${path}`)) as { data: Record<string, string> })
      .data;
  const { role_id: roleId = '' } = await answer('GET', 'role-id');
  const { secret_id: secretId = '' } = await answer('POST', 'secret-id');
  const url = `http://${vault.host}:${vault.port}`;
  return {
    vault,
    url,
    auditFile,
    allow,
    secretId,
    access: { auth: { type: 'approle', roleId, secretId: 'vault' } },
    keyRef: (name: string) => `${url}/v1/transit/keys/${name}`,
    stop: async () => {
      await vault.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
type CustomersVault = Awaited<ReturnType<typeof customersVault>>;

interface AuditLine {
  readonly type: 'request' | 'response';
  readonly error?: string;
  readonly request: {
    readonly id: string;
    readonly path: string;
    readonly headers?: Record<string, string[]>;
    readonly data?: Record<string, string>;
  };
  readonly response?: { readonly data?: Record<string, string> };
}

function auditLines(file: string, correlationId: string): AuditLine[] {
  return readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as AuditLine)
    .filter(({ request }) => request.headers?.['x-correlation-id']?.[0] === correlationId);
}

const plan: HarnessPlan = {
  name: 'HashiCorp Vault 1.13.1',
  cannot: {
    disabled:
      "Vault's transit has no disabled state (OpenBao's soft deletion has; the protocol server shows it)",
    'pending-deletion': 'neither Vault nor OpenBao has that state',
    slow: 'Vault has no switch for latency',
  },
  hostile: HOSTILE_VAULT_KEYS,
  sources: VAULT_SOURCES,
  secrets: [],
  start: startHarness,
};

async function startHarness(): Promise<KmsHarness> {
  const customer = await customersVault(['first', 'second']);
  const { vault, url, access, secretId } = customer;
  const closedPort = 'http://127.0.0.1:1';
  return {
    driver: createVaultKms(),
    host: {
      secret: async () => new TextEncoder().encode(secretId),
      endpointAllowed: (address) => address === url || address === closedPort,
    },
    access,
    keyRefs: [customer.keyRef('first'), customer.keyRef('second')],
    unknownKeyRef: customer.keyRef('unknown'),
    unreachable: async () => ({
      // Not the AppRole's login but the key's own address is cut.
      access,
      keyRef: `${closedPort}/v1/transit/keys/first`,
      restore: async () => {},
    }),
    async enter(condition) {
      if (condition === 'denied') {
        await vault.request('DELETE', 'sys/policies/acl/keytether');
        return async () => void (await customer.allow());
      }
      if (condition === 'throttled') {
        await limitRate(vault);
        return async () => void (await vault.request('DELETE', 'sys/quotas/rate-limit/keytether'));
      }
      if (condition === 'rotated') {
        await vault.request('POST', 'transit/keys/first/rotate');
        return async () => {};
      }
      throw new Error(`the harness cannot bring about: ${condition}`);
    },
    calls: () =>
      auditLines(customer.auditFile, 'cid-0123456789abcdef').filter(({ type }) => type === 'request').length,
    close: () => customer.stop(),
  };
}

/** A quota of one request in an hour, and that request. */
async function limitRate(vault: Vault): Promise<void> {
  await vault.request('POST', 'sys/quotas/config', { enable_rate_limit_response_headers: true });
  const quota = { path: 'transit/', rate: 1, interval: '1h' };
  await vault.request('POST', 'sys/quotas/rate-limit/keytether', quota);
  await vault.request('GET', 'transit/keys/first');
}

describeKmsContract(plan);

describe('HashiCorp Vault 1.13.1, the levers of a customer', () => {
  const CONTEXT = { tenant: 'ten_a', scope: 'default', key: 'key_a' };
  let customer: CustomersVault;
  let now = Date.now();
  let count = 0;
  const opened: CustomerKeyHandle[] = [];

  beforeAll(async () => {
    const keys = Array.from({ length: 12 }, (_, index) => `k${index + 1}`);
    customer = await customersVault(['first', ...keys]);
  });

  afterAll(async () => {
    for (const handle of opened) await handle.close();
    await customer?.stop();
  });

  const call = (correlationId = 'cid'): CallOptions => ({
    signal: new AbortController().signal,
    correlationId,
  });
  const admin = (method: 'GET' | 'POST' | 'PUT' | 'DELETE', path: string, body?: unknown) =>
    customer.vault.request(method, path, body);

  const nextName = () => {
    count += 1;
    return `k${count}`;
  };

  /** A handle on a key of its own, and a key wrapped by it. */
  const open = async (of = customer, name = nextName()) => {
    const driver = createVaultKms({ now: () => now });
    const host = {
      secret: async () => new TextEncoder().encode(of.secretId),
      endpointAllowed: (address: string) => address === of.url,
    };
    const access = driver.access.parse(of.access);
    const handle = await driver.open(driver.parseKeyRef(of.keyRef(name)), access, host);
    opened.push(handle);
    const { wrapped } = await handle.wrap(new Uint8Array(32).fill(7), CONTEXT, call());
    const unwrap = () => handle.unwrap(wrapped, CONTEXT, call()).then(() => 'ok', codeOf);
    const wrap = () => handle.wrap(new Uint8Array(32), CONTEXT, call()).then(() => 'ok', codeOf);
    return { name, handle, wrapped, unwrap, wrap };
  };
  const codeOf = (error: { code: string; detail: string }) => `${error.code} ${error.detail}`.trim();

  test('leave unproven what the README of adapters says, and nothing more', async () => {
    const readme = await readFile('adapters/README.md', 'utf8');
    const listed = readme.match(/^- K\d+ .*$/gm) ?? [];
    expect(listed.map((line) => line.slice(2))).toEqual(unprovenClauses(plan));
  });

  test('raising min_decryption_version after a rotation refuses what older versions wrapped, lowering it heals', async () => {
    const { name, unwrap, wrap } = await open();
    await admin('POST', `transit/keys/${name}/rotate`);
    expect(await unwrap()).toBe('ok');
    await admin('POST', `transit/keys/${name}/config`, { min_decryption_version: 2 });
    expect([await unwrap(), await wrap()]).toEqual(['KMS_KEY_DISABLED version-too-old', 'ok']);
    await admin('POST', `transit/keys/${name}/config`, { min_decryption_version: 1 });
    expect(await unwrap()).toBe('ok');
  });

  test('deleting the key refuses for good, and a wrap does not make another in its place', async () => {
    const { name, handle, unwrap, wrap } = await open();
    await admin('POST', `transit/keys/${name}/config`, { deletion_allowed: true });
    await admin('DELETE', `transit/keys/${name}`);
    expect(await unwrap()).toBe('KMS_KEY_NOT_FOUND');
    // Without the capability `create`, Vault denies the encryption; with it, it would make a key.
    expect(await wrap()).toBe('KMS_ACCESS_DENIED permission-denied');
    const policy = vaultPolicy(name).replace('["update"]', '["create", "update"]');
    await admin('PUT', 'sys/policies/acl/keytether', { policy });
    expect(await wrap()).toBe('KMS_KEY_NOT_FOUND');
    expect(await handle.describe(call()).then(() => 'ok', codeOf)).toBe('KMS_KEY_NOT_FOUND');
    await customer.allow();
  });

  test('a version that the key does not have is no refusal', async () => {
    const { handle, wrapped } = await open();
    const text = new TextDecoder().decode(wrapped).replace('vault:v1:', 'vault:v9:');
    const outcome = handle.unwrap(new TextEncoder().encode(text), CONTEXT, call()).then(() => 'ok', codeOf);
    expect(await outcome).toBe('KMS_MISCONFIGURED version-too-new');
  });

  test('destroying the role or its secret ids refuses at the next login; a revoked token is replaced once', async () => {
    const own = await customersVault(['k']);
    const { unwrap } = await open(own, 'k');
    await own.vault.request('PUT', 'sys/leases/revoke-force/auth/approle');
    expect(await unwrap()).toBe('KMS_ACCESS_DENIED permission-denied');
    now += 6_000;
    expect(await unwrap()).toBe('ok');
    await own.vault.request('DELETE', 'auth/approle/role/keytether');
    await own.vault.request('PUT', 'sys/leases/revoke-force/auth/approle');
    now += 6_000;
    expect(await unwrap()).toBe('KMS_ACCESS_DENIED login');
    await own.stop();
  });

  test('a quota throttles and says for how long', async () => {
    const { handle, wrapped } = await open();
    await limitRate(customer.vault);
    const failure = await handle.unwrap(wrapped, CONTEXT, call()).then(
      () => undefined,
      (error: { code: string; retryAfterMs: number }) => error,
    );
    await admin('DELETE', 'sys/quotas/rate-limit/keytether');
    expect(failure?.code).toBe('KMS_THROTTLED');
    expect(failure?.retryAfterMs).toBeGreaterThan(3_000_000);
  });

  test('the checks of the set-up name a key of another type or that can leave Vault', async () => {
    const failed = async (settings: object) => {
      const { name, handle } = await open();
      await admin('POST', `transit/keys/${name}/config`, { deletion_allowed: true });
      await admin('DELETE', `transit/keys/${name}`);
      await admin('POST', `transit/keys/${name}`, settings);
      return (await handle.checkSetup(call())).filter(({ ok }) => !ok).map(({ check }) => check);
    };
    const settings = { type: 'rsa-2048', exportable: true, allow_plaintext_backup: true };
    expect(await failed(settings)).toEqual(['key-type', 'not-exportable', 'no-plaintext-backup']);
    expect(await failed({ type: 'aes256-gcm96', derived: true })).toEqual(['key-type']);
    expect(await failed({ type: 'aes256-gcm96' })).toEqual([]);
  });

  test('the audit log shows each call with our correlation id as it was sent and the request id of its answer', async () => {
    const { name, handle, wrapped } = await open();
    const { requestId } = await handle.unwrap(wrapped, CONTEXT, call('cid-of-one-decrypt'));
    const lines = auditLines(customer.auditFile, 'cid-of-one-decrypt');
    expect(lines.map(({ type, error, request }) => [type, error, request.path, request.id])).toEqual([
      ['request', undefined, `transit/decrypt/${name}`, requestId],
      ['response', undefined, `transit/decrypt/${name}`, requestId],
    ]);
    for (const { request } of lines) {
      expect(request.data?.ciphertext).toMatch(/^hmac-sha256:[0-9a-f]{64}$/);
      expect(request.data?.associated_data).toMatch(/^hmac-sha256:[0-9a-f]{64}$/);
    }
    expect(lines[1]?.response?.data?.plaintext).toMatch(/^hmac-sha256:[0-9a-f]{64}$/);
    const vector = (await readFile('test/vectors/vault-audit/decrypt.jsonl', 'utf8')).trim().split('\n');
    expect(lines.map((line) => fieldPaths(line))).toEqual(
      vector.map((line) => fieldPaths(JSON.parse(line) as object)),
    );
  });

  test('a sealed Vault is unavailable and no refusal', async () => {
    const own = await customersVault(['k']);
    const { unwrap } = await open(own, 'k');
    await own.vault.request('PUT', 'sys/seal');
    expect(await unwrap()).toBe('KMS_UNAVAILABLE sealed');
    await own.stop();
  });
});

/** The paths of all members, arrays without their indices, sorted. */
function fieldPaths(value: unknown, at = ''): string[] {
  if (typeof value !== 'object' || value === null) return [at];
  const inner = Object.entries(value).flatMap(([name, part]) =>
    fieldPaths(part, Array.isArray(value) ? `${at}[]` : `${at}.${name}`),
  );
  return [...new Set(inner)].sort();
}
