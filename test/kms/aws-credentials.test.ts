import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { type AwsCredentials, createCredentialSource } from '../../adapters/kms/aws/credentials.ts';
import { createAwsKms } from '../../adapters/kms/aws.ts';
import { createKmsCaller, type KmsCaller, type KmsTarget } from '../../src/kms/caller.ts';
import type { CustomerKeyHandle } from '../../src/kms/driver.ts';
import { type AwsServer, startAwsServer } from '../kms-servers/aws.ts';
import type { ServerRole } from '../kms-servers/aws-sts.ts';

const CONTEXT = { tenant: 'ten_a', scope: 'default', key: 'key_a' };
const AGAIN = { correlationId: 'cid', workedBefore: true };
const EXTERNAL_ID = '1f0c9d5e-external-id';
const NEVER = new AbortController().signal;

describe('a credential source', () => {
  let now = 0;
  const session = (minutes: number): AwsCredentials => ({
    accessKeyId: `A${now}`,
    secretAccessKey: 's',
    expiration: new Date(now + minutes * 60_000),
  });

  beforeEach(() => {
    now = 1_000_000;
  });

  test('fetches once for all who wait, and keeps what it has', async () => {
    let fetches = 0;
    const source = createCredentialSource(
      async () => {
        fetches += 1;
        return session(15);
      },
      () => now,
    );
    await Promise.all([source.get(NEVER), source.get(NEVER), source.get(NEVER)]);
    now += 9 * 60_000;
    await source.get(NEVER);
    expect(fetches).toBe(1);
  });

  test('renews in the background before the end, once in a while, and hands out the old one meanwhile', async () => {
    let fetches = 0;
    let broken = false;
    const source = createCredentialSource(
      async () => {
        fetches += 1;
        if (broken) throw new Error('refused');
        return session(15);
      },
      () => now,
    );
    const first = await source.get(NEVER);
    broken = true;
    now += 11 * 60_000;
    expect(await source.get(NEVER)).toBe(first);
    await new Promise((resolve) => setImmediate(resolve));
    expect(await source.get(NEVER)).toBe(first);
    expect(fetches).toBe(2);
    now += 11_000;
    broken = false;
    expect(await source.get(NEVER)).toBe(first);
    await new Promise((resolve) => setImmediate(resolve));
    expect(await source.get(NEVER)).not.toBe(first);
    expect(fetches).toBe(3);
  });

  test('hands out nothing that has ended, and says why it has no other', async () => {
    let broken = false;
    const source = createCredentialSource(
      async () => {
        if (broken) throw new Error('refused');
        return session(15);
      },
      () => now,
    );
    await source.get(NEVER);
    broken = true;
    now += 14.6 * 60_000;
    await expect(source.get(NEVER)).rejects.toThrow('refused');
  });

  test('ends one wait by its signal without disturbing the others', async () => {
    const late = Promise.withResolvers<AwsCredentials>();
    const source = createCredentialSource(
      () => late.promise,
      () => now,
    );
    const abort = new AbortController();
    const gone = source.get(abort.signal);
    const stays = source.get(NEVER);
    abort.abort();
    await expect(gone).rejects.toMatchObject({ code: 'KMS_TIMEOUT' });
    late.resolve(session(15));
    expect((await stays).secretAccessKey).toBe('s');
  });
});

describe('AWS access by a role', () => {
  let server: AwsServer;
  let role: ServerRole;
  let caller: KmsCaller;
  let target: KmsTarget;

  beforeEach(async () => {
    server = await startAwsServer();
    role = server.sts.addRole('customer', EXTERNAL_ID);
    const { url, accessKeyId, secretAccessKey } = server;
    caller = createKmsCaller({
      drivers: new Map([['aws-kms', createAwsKms()]]),
      host: {
        secret: async () => new TextEncoder().encode(JSON.stringify({ accessKeyId, secretAccessKey })),
        endpointAllowed: (address) => address === url,
      },
    });
    target = targetFor(server.keys.create(server.region).arn, {});
  });

  afterEach(async () => {
    await caller.close();
    await server.close();
  });

  const targetFor = (keyRef: string, change: object): KmsTarget => {
    const { url, region } = server;
    const credentials = {
      type: 'assume-role',
      roleArn: role.arn,
      externalId: EXTERNAL_ID,
      sourceSecretId: 'platform',
      stsEndpoint: url,
      ...change,
    };
    // As a binding stores it: a tenant's admin can not choose the external id, see below.
    const access = JSON.stringify({ region, endpoint: url, credentials });
    return { tenant: 'ten_a', bindingId: 'ckey_a', version: 1, provider: 'aws-kms', keyRef, access };
  };
  const wrap = (to = target) => caller.wrap(to, new Uint8Array(32), CONTEXT, AGAIN);

  test('assumes the role once for many calls at once and calls as its session', async () => {
    const answers = await Promise.all(Array.from({ length: 20 }, () => wrap()));
    expect(answers.filter(({ outcome }) => outcome !== 'ok')).toEqual([]);
    expect(server.sts.requests.count).toBe(1);
    expect(server.log[0]?.principal).toMatch(
      /^arn:aws:sts::\d+:assumed-role\/customer\/keytether-[0-9a-f]{16}$/,
    );
  });

  test('gets an external id of ours at registration, another one each time, and none of the admin', () => {
    const { url, region } = server;
    const role = { type: 'assume-role', roleArn: 'arn:aws:iam::111122223333:role/customer' };
    const register = (credentials: object) =>
      JSON.parse(caller.checkTarget('aws-kms', target.keyRef, { region, endpoint: url, credentials }).access);
    const ids = [register(role), register(role)].map((access) => access.credentials.externalId);
    expect(ids[0]).toMatch(/^keytether-[0-9a-f-]{36}$/);
    expect(ids[0]).not.toBe(ids[1]);
    expect(() => register({ ...role, externalId: EXTERNAL_ID })).toThrow('REQUEST_INVALID');
  });

  test('is refused with another external id', async () => {
    const answer = await wrap(targetFor(target.keyRef, { externalId: 'the-id-of-another-tenant' }));
    expect(answer).toMatchObject({ outcome: 'refused', code: 'KMS_ACCESS_DENIED', detail: 'assume-role' });
    expect(server.log).toEqual([]);
  });

  test('a removed trust policy acts when the session ends, a denial by the key at once', async () => {
    await wrap();
    role.trusted = false;
    expect(await wrap()).toMatchObject({ outcome: 'ok' });
    const key = server.keys.byArn(target.keyRef);
    key.denied.add('*');
    expect(await wrap()).toMatchObject({ outcome: 'refused', code: 'KMS_ACCESS_DENIED' });
    key.denied.clear();
    server.sts.expireAll();
    expect(await wrap()).toMatchObject({ outcome: 'misconfigured', detail: 'our-credentials' });
    expect(await wrap()).toMatchObject({ outcome: 'refused', detail: 'assume-role' });
    role.trusted = true;
    expect(await wrap()).toMatchObject({ outcome: 'ok' });
  });

  test('checkSetup passes a role that asks for its external id and fails one that does not', async () => {
    const checks = await caller.checkSetup(target, AGAIN);
    expect(checks).toMatchObject({
      outcome: 'ok',
      value: [
        { check: 'symmetric-key', ok: true, action: '' },
        { check: 'external-id-required', ok: true, action: '' },
      ],
    });
    role.externalId = undefined;
    const open = await caller.checkSetup(target, AGAIN);
    expect(open).toMatchObject({ value: [{ ok: true }, { check: 'external-id-required', ok: false }] });
    if (open.outcome !== 'ok') throw new Error(open.code);
    expect(open.value[1]?.action).toContain('sts:ExternalId');
  });

  test.each([
    ['black-hole', 'KMS_TIMEOUT'],
    ['throttled', 'KMS_THROTTLED'],
  ] as const)('an STS that is %s makes the outcome unknown, never a refusal', async (fault, code) => {
    server.faults.sts = fault;
    expect(await wrap()).toMatchObject({ outcome: 'unknown', code });
    expect(server.sts.requests.count).toBe(1);
    server.faults.sts = undefined;
    expect(await wrap()).toMatchObject({ outcome: 'ok' });
  });
});

describe('AWS access is refused before any request', () => {
  const KEY = 'arn:aws:kms:eu-central-1:111122223333:key/11111111-2222-3333-4444-555555555555';
  const REGION = 'eu-central-1';
  const driver = createAwsKms();
  const call = { signal: NEVER, correlationId: 'cid' };
  const host = (text: string) => ({
    secret: async () => new TextEncoder().encode(text),
    endpointAllowed: (url: string) => url === 'https://kms.allowed.example',
  });
  const open = async (access: unknown, text = '{}'): Promise<CustomerKeyHandle> =>
    driver.open(KEY, driver.access.parse(access), host(text));

  test('when the key is in another region', async () => {
    const access = { region: 'us-east-1', credentials: { type: 'ambient' } };
    await expect(open(access)).rejects.toMatchObject({
      code: 'KMS_MISCONFIGURED',
      detail: 'region-mismatch',
    });
  });

  test('when the operator does not allow the endpoint, of KMS or STS', async () => {
    const refused = { code: 'KMS_MISCONFIGURED', detail: 'endpoint-not-allowed' };
    const elsewhere = 'https://169.254.169.254';
    const ambient = { type: 'ambient' };
    await expect(open({ region: REGION, endpoint: elsewhere, credentials: ambient })).rejects.toMatchObject(
      refused,
    );
    const role = {
      type: 'assume-role',
      roleArn: 'arn:aws:iam::111122223333:role/x',
      externalId: EXTERNAL_ID,
      stsEndpoint: elsewhere,
    };
    await expect(open({ region: REGION, credentials: role })).rejects.toMatchObject(refused);
  });

  test.each(['', '{}', 'no json', '{"accessKeyId":"AKIAMARKERMARKER","secretAccessKey":"marker","extra":1}'])(
    'when the secret is malformed (%#), without repeating it',
    async (text) => {
      const handle = await open({ region: REGION, credentials: { type: 'static', secretId: 'aws' } }, text);
      const error = await handle.describe(call).catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ code: 'KMS_MISCONFIGURED', detail: 'secret-format' });
      expect(JSON.stringify(error) + String((error as Error).stack)).not.toMatch(/marker/i);
      await handle.close();
    },
  );

  test.each([
    ['an unknown field', { region: REGION, credentials: { type: 'ambient' }, extra: 1 }],
    ['a region that is a host', { region: 'evil.example', credentials: { type: 'ambient' } }],
    ['a region with a path', { region: 'eu-central-1/x', credentials: { type: 'ambient' } }],
    ['a secret in place of its id', { region: REGION, credentials: { type: 'static', secretId: 'a/b+c=' } }],
    ['another scheme', { region: REGION, endpoint: 'file:///etc', credentials: { type: 'ambient' } }],
    [
      'a short external id',
      {
        region: REGION,
        credentials: {
          type: 'assume-role',
          roleArn: 'arn:aws:iam::111122223333:role/x',
          externalId: 'short',
        },
      },
    ],
    [
      'a role without external id',
      { region: REGION, credentials: { type: 'assume-role', roleArn: 'arn:aws:iam::111122223333:role/x' } },
    ],
    [
      'a user in place of a role',
      {
        region: REGION,
        credentials: {
          type: 'assume-role',
          roleArn: 'arn:aws:iam::111122223333:user/x',
          externalId: EXTERNAL_ID,
        },
      },
    ],
  ])('with %s', (_what, access) => {
    expect(driver.access.safeParse(access).success).toBe(false);
  });
});
