/** What the operator's token opens, over HTTP against a whole replica: never a way to plaintext. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type ApiClient, apiClient, expectStatus } from '../../src/api-client.ts';
import { type Replica, startReplica } from '../../src/assemble.ts';
import { readConfig } from '../../src/config.ts';

describe('an operator', () => {
  const folder = mkdtempSync(join(tmpdir(), 'keytether-operator-'));
  let replica: Replica;
  let operator: ApiClient;

  beforeAll(async () => {
    const config = { ...readConfig({ KEYTETHER_FOLDER: folder }), port: 0 };
    replica = await startReplica(config);
    operator = apiClient(replica.url, readFileSync(config.operatorTokenFile, 'utf8').trim());
  });

  afterAll(async () => {
    await replica.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  const redeem = (invitation: { token: string }) =>
    operator.post('/v1/invitations/redeem', { invitation: invitation.token, name: 'admin' });

  test('invites again while the tenant has no admin', async () => {
    const { tenant } = expectStatus(await operator.post('/v1/tenants', { name: 'Lost letter' }), 201);
    const { invitation } = expectStatus(await operator.post(`/v1/tenants/${tenant.id}/invitations`), 201);
    expect((await redeem(invitation)).status).toBe(201);
  });

  test('makes no second admin once there is one, by a new invitation or by an old one', async () => {
    const created = expectStatus(await operator.post('/v1/tenants', { name: 'Kept copy' }), 201);
    const path = `/v1/tenants/${created.tenant.id}`;
    const second = expectStatus(await operator.post(`${path}/invitations`), 201);
    expectStatus(await redeem(second.invitation), 201);

    expect(await operator.post(`${path}/invitations`)).toMatchObject({
      status: 409,
      body: { code: 'CONFLICT' },
    });
    expect(await redeem(created.invitation)).toMatchObject({ status: 401 });
  });

  test('makes none after the only admin was revoked either', async () => {
    const created = expectStatus(await operator.post('/v1/tenants', { name: 'Gone' }), 201);
    const path = `/v1/tenants/${created.tenant.id}`;
    const { token, apiKey } = expectStatus(await redeem(created.invitation), 201);
    const answer = await fetch(`${replica.url}${path}/api-keys/${apiKey.id}`, {
      method: 'DELETE',
      headers: { authorization: `Bearer ${token}` },
    });
    expect(answer.status).toBe(204);
    expect((await operator.post(`${path}/invitations`)).status).toBe(409);
  });

  test('makes no API key, and neither encrypts, decrypts nor reads the log of a tenant', async () => {
    const { tenant } = expectStatus(await operator.post('/v1/tenants', { name: 'Private' }), 201);
    const path = `/v1/tenants/${tenant.id}`;
    const answers = await Promise.all([
      operator.post(`${path}/api-keys`, { name: 'x', role: 'service', purposes: ['*'] }),
      operator.post(`${path}/encrypt`, { plaintext: '', purpose: 'x' }),
      operator.get(`${path}/log`),
    ]);
    expect(answers.map(({ status }) => status)).toEqual([403, 403, 403]);
  });
});
