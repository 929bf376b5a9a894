/** What operator, tenant admin, service and auditor do, against whole replicas on PostgreSQL and over HTTP. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { keyRefOf, type LocalKeystore, openLocalKeystore } from '../../adapters/kms/local/keystore.ts';
import { type ApiClient, apiClient, expectStatus } from '../../src/api-client.ts';
import { type Replica, startReplica } from '../../src/assemble.ts';
import { readConfig } from '../../src/config.ts';
import { type Onboarded, onboard } from '../../src/onboard.ts';
import { openTestPostgres, type TestPostgres } from '../support/database.ts';

let database: TestPostgres;
let folder: string;
let replicas: Replica[];
let operator: ApiClient;
let keystore: LocalKeystore;
let names = 0;

beforeAll(async () => {
  database = await openTestPostgres();
  folder = mkdtempSync(join(tmpdir(), 'keytether-lifecycle-'));
  const config = {
    ...readConfig({ KEYTETHER_MODE: 'development', DATABASE_URL: database.url, KEYTETHER_FOLDER: folder }),
    port: 0,
  };
  replicas = [await startReplica(config), await startReplica(config)];
  operator = apiClient(replicas[0]?.url ?? '', readFileSync(config.operatorTokenFile, 'utf8').trim());
  keystore = openLocalKeystore(join(folder, 'kms'));
});

afterAll(async () => {
  await Promise.all(replicas.map((replica) => replica.stop(2_000)));
  await database.drop();
  rmSync(folder, { recursive: true, force: true });
});

function newKey(): string {
  names += 1;
  keystore.createKey(`key-${names}`);
  return keyRefOf(`key-${names}`);
}

async function newTenant(): Promise<Onboarded & { keyRef: string; path: string }> {
  const keyRef = newKey();
  const made = await onboard(operator, { name: 'A tenant', provider: 'local', keyRef, access: {} });
  return { ...made, keyRef, path: `/v1/tenants/${made.tenant}` };
}

/** The same caller at the other replica. */
function elsewhere(token: string): ApiClient {
  return apiClient(replicas[1]?.url ?? '', token);
}

const PLAIN = { plaintext: 'aGVsbG8=', purpose: 'invoices' };

async function logOf({
  auditor,
  path,
}: {
  auditor: ApiClient;
  path: string;
}): Promise<{ typ: string; op?: string; rsn?: string; out?: string; n?: number }[]> {
  const page = expectStatus(await auditor.get(`${path}/log?from=0&limit=1000`), 200);
  return page.entries.map((entry: { leaf: string }) => JSON.parse(entry.leaf));
}

describe('an invitation', () => {
  test('is good once, and of two at the same moment one gets the key', async () => {
    const { invitation } = expectStatus(await operator.post('/v1/tenants', { name: 'Twice' }), 201);
    const redeem = () =>
      operator.post('/v1/invitations/redeem', { invitation: invitation.token, name: 'admin' });
    const answers = await Promise.all([redeem(), redeem(), redeem()]);
    expect(answers.map(({ status }) => status).sort()).toEqual([201, 401, 401]);
    expectStatus(await redeem(), 401);
  });

  test('is no API key', async () => {
    const { invitation } = expectStatus(await operator.post('/v1/tenants', { name: 'No key' }), 201);
    expectStatus(await operator.as(invitation.token).get('/v1/tenants'), 401);
  });

  test('can be made again by the operator, who gets nothing else', async () => {
    const { tenant } = expectStatus(await operator.post('/v1/tenants', { name: 'Lost' }), 201);
    const again = expectStatus(await operator.post(`/v1/tenants/${tenant.id}/invitations`), 201);
    expectStatus(
      await operator.post('/v1/invitations/redeem', { invitation: again.invitation.token, name: 'admin' }),
      201,
    );
    expectStatus(
      await operator.post(`/v1/tenants/${tenant.id}/api-keys`, { name: 'x', role: 'auditor' }),
      403,
    );
    expectStatus(await operator.get(`/v1/tenants/${tenant.id}/log?from=0&limit=1`), 403);
  });
});

describe('an API key', () => {
  test('that is revoked is refused at once, on every replica', async () => {
    const { admin, path } = await newTenant();
    const made = expectStatus(
      await admin.post(`${path}/api-keys`, { name: 'short', role: 'service', purposes: ['*'] }),
      201,
    );
    expectStatus(await elsewhere(made.token).post(`${path}/encrypt`, PLAIN), 200);
    const response = await fetch(`${replicas[0]?.url}${path}/api-keys/${made.apiKey.id}`, {
      method: 'DELETE',
      headers: { authorization: `Bearer ${await adminToken(admin, path)}` },
    });
    expect(response.status).toBe(204);
    expectStatus(await elsewhere(made.token).post(`${path}/encrypt`, PLAIN), 401);
    expectStatus(await operator.as(made.token).post(`${path}/encrypt`, PLAIN), 401);
  });

  test('opens only its own purposes and scopes', async () => {
    const { admin, path } = await newTenant();
    const made = expectStatus(
      await admin.post(`${path}/api-keys`, { name: 'narrow', role: 'service', purposes: ['invoices'] }),
      201,
    );
    const narrow = operator.as(made.token);
    const { envelope } = expectStatus(await narrow.post(`${path}/encrypt`, PLAIN), 200);
    expectStatus(await narrow.post(`${path}/encrypt`, { ...PLAIN, purpose: 'salaries' }), 403);
    expectStatus(await narrow.post(`${path}/decrypt`, { envelope, purpose: 'salaries' }), 403);
    expectStatus(
      await narrow.post(`${path}/decrypt`, { envelope, purpose: 'invoices', scope: 'other' }),
      403,
    );
    expectStatus(await narrow.post(`${path}/decrypt`, { envelope, purpose: 'invoices' }), 200);
  });

  async function adminToken(admin: ApiClient, path: string): Promise<string> {
    return expectStatus(
      await admin.post(`${path}/api-keys`, { name: 'second admin', role: 'tenant-admin' }),
      201,
    ).token;
  }
});

describe('a customer key', () => {
  test('must be verified before it is activated, and both are in the log', async () => {
    const { admin, path, auditor } = await newTenant();
    const key = expectStatus(
      await admin.post(`${path}/customer-keys`, { provider: 'local', keyRef: newKey(), access: {} }),
      201,
    );
    expect(key.state).toBe('registered');
    expect(
      expectStatus(await admin.post(`${path}/customer-keys/${key.id}/activate`, { scope: 'second' }), 409)
        .code,
    ).toBe('CONFLICT');
    expect(expectStatus(await admin.post(`${path}/customer-keys/${key.id}/verify`), 200).state).toBe(
      'verified',
    );
    const active = expectStatus(
      await admin.post(`${path}/customer-keys/${key.id}/activate`, { scope: 'second' }),
      200,
    );
    expect(active).toMatchObject({ state: 'active', scopes: ['second'] });
    const ops = (await logOf({ auditor, path }))
      .filter(({ typ }) => typ === 'admin.change')
      .map(({ op }) => op);
    expect(ops.slice(-4)).toEqual([
      'customer-key.verify',
      'key.create',
      'key.current',
      'customer-key.activate',
    ]);
  });

  test('whose KMS refuses stays registered, with the reason for each proof', async () => {
    const { admin, path } = await newTenant();
    const keyRef = newKey();
    keystore.disable(keyRef);
    const key = expectStatus(
      await admin.post(`${path}/customer-keys`, { provider: 'local', keyRef, access: {} }),
      201,
    );
    const { state, checks } = expectStatus(await admin.post(`${path}/customer-keys/${key.id}/verify`), 200);
    expect(state).toBe('registered');
    expect(checks.filter(({ ok }: { ok: boolean }) => !ok).length).toBeGreaterThan(0);
    for (const check of checks) expect(check.ok || check.action.length > 10).toBe(true);
  });

  test('does not take a scope from another key', async () => {
    const { admin, path } = await newTenant();
    const key = expectStatus(
      await admin.post(`${path}/customer-keys`, { provider: 'local', keyRef: newKey(), access: {} }),
      201,
    );
    expectStatus(await admin.post(`${path}/customer-keys/${key.id}/verify`), 200);
    expectStatus(await admin.post(`${path}/customer-keys/${key.id}/activate`), 409);
  });

  test('that the admin disables here stops every use, on every replica, until it is activated again', async () => {
    const { admin, path, customerKey, service, serviceToken } = await newTenant();
    const { envelope } = expectStatus(await service.post(`${path}/encrypt`, PLAIN), 200);
    expectStatus(await admin.post(`${path}/customer-keys/${customerKey}/disable`), 200);
    const refused = expectStatus(
      await elsewhere(serviceToken).post(`${path}/decrypt`, { envelope, purpose: 'invoices' }),
      424,
    );
    expect(refused.code).toBe('CUSTOMER_KEY_DISABLED');
    expectStatus(await admin.post(`${path}/customer-keys/${customerKey}/activate`), 200);
    expectStatus(
      await elsewhere(serviceToken).post(`${path}/decrypt`, { envelope, purpose: 'invoices' }),
      200,
    );
  });

  test('is described with what its KMS says now', async () => {
    const { admin, path, customerKey, keyRef } = await newTenant();
    const live = async () => expectStatus(await admin.get(`${path}/customer-keys/${customerKey}`), 200).kms;
    expect(await live()).toMatchObject({ state: 'enabled', bindsContext: true });
    keystore.disable(keyRef);
    expect(await live()).toMatchObject({ state: 'disabled' });
    keystore.setSwitches({ reachable: false });
    try {
      expect(await live()).toMatchObject({ state: 'unknown', code: 'KMS_UNREACHABLE' });
    } finally {
      keystore.setSwitches({ reachable: true });
    }
  });

  test('of another tenant does not exist', async () => {
    const [mine, theirs] = [await newTenant(), await newTenant()];
    expectStatus(await mine.admin.get(`${mine.path}/customer-keys/${theirs.customerKey}`), 404);
    expectStatus(await mine.admin.post(`${mine.path}/customer-keys/${theirs.customerKey}/disable`), 404);
    expectStatus(await mine.admin.get(`${theirs.path}/customer-keys/${theirs.customerKey}`), 404);
  });
});

describe('a tenant', () => {
  test('that is suspended uses nothing, reads its log, and goes on when it is resumed', async () => {
    const { tenant, path, service, auditor } = await newTenant();
    const { envelope } = expectStatus(await service.post(`${path}/encrypt`, PLAIN), 200);
    expectStatus(await operator.post(`/v1/tenants/${tenant}/suspend`), 200);
    expect(
      expectStatus(await service.post(`${path}/decrypt`, { envelope, purpose: 'invoices' }), 403).code,
    ).toBe('TENANT_SUSPENDED');
    expect((await logOf({ auditor, path })).at(-1)).toMatchObject({
      typ: 'access.denied',
      rsn: 'TENANT_SUSPENDED',
    });
    expectStatus(await operator.post(`/v1/tenants/${tenant}/resume`), 200);
    expectStatus(await service.post(`${path}/decrypt`, { envelope, purpose: 'invoices' }), 200);
  });

  test("finds a stranger's envelope as unreadable as noise, and the log says who tried", async () => {
    const [mine, theirs] = [await newTenant(), await newTenant()];
    const { envelope } = expectStatus(await theirs.service.post(`${theirs.path}/encrypt`, PLAIN), 200);
    const answer = expectStatus(
      await mine.service.post(`${mine.path}/decrypt`, { envelope, purpose: 'invoices' }),
      400,
    );
    expect(answer.code).toBe('DECRYPT_FAILED');
    expect((await logOf(mine)).at(-1)).toMatchObject({
      typ: 'key.use',
      op: 'decrypt',
      out: 'error',
      rsn: 'DECRYPT_FAILED',
    });
  });
});

describe('a batch', () => {
  test('answers each item in its place, whatever became of the others', async () => {
    const { path, service } = await newTenant();
    const { items } = expectStatus(
      await service.post(`${path}/encrypt/batch`, {
        items: [
          { reference: 'a', ...PLAIN },
          { reference: 'b', plaintext: '', purpose: 'salaries' },
        ],
      }),
      200,
    );
    expect(items.map(({ reference, ok }: { reference: string; ok: boolean }) => [reference, ok])).toEqual([
      ['a', true],
      ['b', true],
    ]);
    const damaged = Buffer.from(items[0].envelope, 'base64');
    damaged[40] = (damaged[40] ?? 0) ^ 1;
    const opened = expectStatus(
      await service.post(`${path}/decrypt/batch`, {
        items: [
          { reference: 'damaged', envelope: damaged.toString('base64'), purpose: 'invoices' },
          { reference: 'good', envelope: items[0].envelope, purpose: 'invoices' },
          {
            reference: 'no envelope',
            envelope: Buffer.from('nothing').toString('base64'),
            purpose: 'invoices',
          },
          { reference: 'other purpose', envelope: items[0].envelope, purpose: 'salaries' },
          { reference: 'empty', envelope: items[1].envelope, purpose: 'salaries' },
        ],
      }),
      200,
    );
    expect(
      opened.items.map(
        (item: { ok: boolean; plaintext?: string; error?: { code: string } }) =>
          item.plaintext ?? item.error?.code,
      ),
    ).toEqual(['DECRYPT_FAILED', 'aGVsbG8=', 'ENVELOPE_MALFORMED', 'DECRYPT_FAILED', '']);
  });

  test('of which nothing opens says so for each item', async () => {
    const { path, service } = await newTenant();
    const nothing = Buffer.from('nothing').toString('base64');
    const { items } = expectStatus(
      await service.post(`${path}/decrypt/batch`, {
        items: ['a', 'b'].map((reference) => ({ reference, envelope: nothing, purpose: 'invoices' })),
      }),
      200,
    );
    expect(items.map((item: { error: { code: string } }) => item.error.code)).toEqual([
      'ENVELOPE_MALFORMED',
      'ENVELOPE_MALFORMED',
    ]);
  });

  test('is refused as a whole when the customer has switched the key off', async () => {
    const { path, service, keyRef } = await newTenant();
    keystore.disable(keyRef);
    const items = ['a', 'b'].map((reference) => ({ reference, ...PLAIN }));
    expect(expectStatus(await service.post(`${path}/encrypt/batch`, { items }), 424).code).toBe(
      'KMS_KEY_DISABLED',
    );
  });
});
