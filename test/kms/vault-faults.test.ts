/** Every row of the Vault error table, through node-vault and the caller: condition → class → code. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { classify, VaultAnswer } from '../../adapters/kms/vault/classify.ts';
import { createVaultKms } from '../../adapters/kms/vault.ts';
import type { KmsCode } from '../../src/errors.ts';
import { createKmsCaller, type KmsCaller, type KmsTarget } from '../../src/kms/caller.ts';
import { allowKey, startVaultServer, type VaultServer } from '../kms-servers/vault-protocol.ts';
import type { TransitKey } from '../kms-servers/vault-transit.ts';

const CONTEXT = { tenant: 'ten_a', scope: 'default', key: 'key_a' };
const AGAIN = { correlationId: 'cid-again', workedBefore: true };
const FIRST = { correlationId: 'cid-first', workedBefore: false };

let server: VaultServer;
let caller: KmsCaller;
let key: TransitKey;
let target: KmsTarget;
let wrapped: Uint8Array;
let count = 0;

beforeAll(async () => {
  server = await startVaultServer();
});

beforeEach(async () => {
  count += 1;
  const space = server.namespace();
  key = space.transit.create(`k${count}`);
  space.policies.clear();
  allowKey(space, 'use', key.name);
  const token = server.issue(space, ['use'], 0);
  caller = createKmsCaller({
    drivers: new Map([['vault', createVaultKms()]]),
    host: {
      secret: async () => new TextEncoder().encode(token),
      endpointAllowed: (address) => address === server.url,
    },
  });
  const access = { auth: { type: 'token', secretId: 'vault' } };
  const binding = { tenant: 'ten_a', bindingId: 'ckey_a', version: 1, provider: 'vault' };
  target = { ...binding, ...caller.checkTarget('vault', server.keyRef(key.name), access) };
  const answer = await caller.wrap(target, new Uint8Array(32).fill(1), CONTEXT, AGAIN);
  if (answer.outcome !== 'ok') throw new Error(answer.code);
  wrapped = answer.value.wrapped;
});

afterEach(async () => {
  const quiet = { latencyMs: 0, wire: undefined, answer: undefined, sealed: false, redirect: undefined };
  Object.assign(server.faults, quiet, { rewrite: undefined });
  server.namespace().locked = false;
  await caller.close();
});

afterAll(() => server.close());

const unwrap = (call = AGAIN, bytes = wrapped, context = CONTEXT) =>
  caller.unwrap(target, bytes, context, call);

type Row = readonly [condition: string, outcome: string, code: KmsCode, detail: string, break_: () => void];

const answers =
  (status: number, ...errors: string[]) =>
  () => {
    server.faults.answer = { status, errors };
  };
const withText = (text: string) => new TextEncoder().encode(text);

const ROWS: readonly Row[] = [
  ['key deleted', 'refused', 'KMS_KEY_NOT_FOUND', '', () => server.namespace().transit.keys.delete(key.name)],
  [
    'key soft-deleted',
    'refused',
    'KMS_KEY_DISABLED',
    'soft-deleted',
    () => {
      key.softDeleted = true;
    },
  ],
  [
    'version below min_decryption_version',
    'refused',
    'KMS_KEY_DISABLED',
    'version-too-old',
    () => {
      key.versions.push(new Uint8Array(32));
      key.minDecryptionVersion = 2;
    },
  ],
  [
    'version that the key does not have',
    'misconfigured',
    'KMS_MISCONFIGURED',
    'version-too-new',
    () => {
      wrapped = withText(new TextDecoder().decode(wrapped).replace('vault:v1:', 'vault:v9:'));
    },
  ],
  [
    'key replaced by another',
    'integrity',
    'KMS_INTEGRITY',
    '',
    () => void key.versions.splice(0, 1, new Uint8Array(32)),
  ],
  [
    'tampered, in the words of other versions',
    'integrity',
    'KMS_INTEGRITY',
    '',
    answers(400, 'invalid ciphertext: unable to decrypt'),
  ],
  ['malformed', 'integrity', 'KMS_INTEGRITY', '', answers(400, 'invalid ciphertext: no prefix')],
  [
    'policy removed',
    'refused',
    'KMS_ACCESS_DENIED',
    'permission-denied',
    () => server.namespace().policies.clear(),
  ],
  [
    'token revoked',
    'refused',
    'KMS_ACCESS_DENIED',
    'permission-denied',
    () => server.namespace().tokens.clear(),
  ],
  [
    'denied, in the form of a list',
    'refused',
    'KMS_ACCESS_DENIED',
    'permission-denied',
    answers(403, '1 error occurred:\n\t* permission denied\n\n'),
  ],
  ['bad token', 'refused', 'KMS_ACCESS_DENIED', 'permission-denied', answers(403, 'bad token')],
  [
    'mount disabled',
    'refused',
    'KMS_KEY_NOT_FOUND',
    'mount',
    answers(404, 'no handler for route "transit/decrypt/k". route entry not found.'),
  ],
  ['rate limit', 'unknown', 'KMS_THROTTLED', '', answers(429, 'request path "x": rate limit quota exceeded')],
  ['429 of a proxy', 'unknown', 'KMS_THROTTLED', '', answers(429)],
  [
    'sealed',
    'unknown',
    'KMS_UNAVAILABLE',
    'sealed',
    () => {
      server.faults.sealed = true;
    },
  ],
  [
    'standby without an active node',
    'unknown',
    'KMS_UNAVAILABLE',
    'standby',
    answers(500, 'local node not active but active cluster node not found'),
  ],
  ['disaster recovery secondary', 'unknown', 'KMS_UNAVAILABLE', 'standby', answers(472)],
  ['performance standby', 'unknown', 'KMS_UNAVAILABLE', 'standby', answers(473)],
  [
    'namespace locked',
    'refused',
    'KMS_ACCESS_DENIED',
    'namespace-locked',
    () => {
      server.namespace().locked = true;
    },
  ],
  [
    'key of a type without associated data',
    'misconfigured',
    'KMS_MISCONFIGURED',
    'key-type',
    () => {
      key.type = 'rsa-2048';
    },
  ],
  [
    'derived key',
    'misconfigured',
    'KMS_MISCONFIGURED',
    'key-type',
    () => {
      key.derived = true;
    },
  ],
  ['internal error', 'unknown', 'KMS_UNAVAILABLE', 'unrecognised', answers(500, 'internal error')],
  [
    '403 that is not in words of Vault',
    'unknown',
    'KMS_UNAVAILABLE',
    'unrecognised',
    answers(403, 'blocked by a firewall'),
  ],
  [
    'page of a proxy',
    'unknown',
    'KMS_UNAVAILABLE',
    'not-json',
    () => {
      server.faults.wire = 'html';
    },
  ],
  [
    'reset within the answer',
    'unknown',
    'KMS_UNREACHABLE',
    '',
    () => {
      server.faults.wire = 'reset';
    },
  ],
  ['error that nobody knows', 'unknown', 'KMS_UNAVAILABLE', 'unrecognised', answers(400, 'brand new')],
];

describe('Vault, condition → class → code', () => {
  test.each(ROWS)('%s → %s, %s, %s', async (_condition, outcome, code, detail, breakIt) => {
    breakIt();
    expect(await unwrap()).toMatchObject({ outcome, code, detail });
  });

  test.each(ROWS.filter(([, outcome]) => outcome === 'refused'))(
    '%s on first contact → misconfigured, with the specific code as detail',
    async (_condition, _outcome, code, _detail, breakIt) => {
      breakIt();
      const expected = { outcome: 'misconfigured', code: 'KMS_MISCONFIGURED', detail: code };
      expect(await unwrap(FIRST)).toMatchObject(expected);
    },
  );

  test('no answer at all → unknown, KMS_TIMEOUT', async () => {
    server.faults.wire = 'black-hole';
    expect(await unwrap()).toMatchObject({ outcome: 'unknown', code: 'KMS_TIMEOUT' });
  });

  test('an answer after 1.1 s works', async () => {
    server.faults.latencyMs = 1100;
    expect(await unwrap()).toMatchObject({ outcome: 'ok' });
  });

  test.each([
    ['seconds', '7', 7000],
    ['too many seconds', '99999999', 3_600_000],
    ['a date gone by', 'Thu, 01 Jan 1970 00:00:00 GMT', 0],
    ['neither', 'soon', undefined],
  ])('Retry-After in %s is kept', async (_what, value, retryAfterMs) => {
    server.faults.answer = { status: 429, errors: [], headers: { 'retry-after': value } };
    expect((await unwrap()) as { retryAfterMs?: number }).toMatchObject({ code: 'KMS_THROTTLED' });
    expect(((await unwrap()) as { retryAfterMs?: number }).retryAfterMs).toBe(retryAfterMs);
  });

  test('a health page that answers 429 to reading the key is no refusal', () => {
    expect(classify(new VaultAnswer(429, []), 'read-key').code).toBe('KMS_THROTTLED');
  });

  test.each([
    ['login', 400, 'invalid role ID', 'KMS_ACCESS_DENIED', 'login'],
    ['login', 400, 'invalid secret id', 'KMS_ACCESS_DENIED', 'login'],
    ['login', 400, 'role "r" could not be found', 'KMS_ACCESS_DENIED', 'login'],
    ['login', 403, 'permission denied', 'KMS_ACCESS_DENIED', 'login'],
    ['login', 403, 'service account name not authorized', 'KMS_ACCESS_DENIED', 'login'],
    ['login', 404, 'no handler for route "auth/x/login".', 'KMS_ACCESS_DENIED', 'login-mount'],
    ['login', 400, 'error validating token: token is expired', 'KMS_MISCONFIGURED', 'our-credentials'],
    ['login', 400, 'missing role_id', 'KMS_MISCONFIGURED', 'our-credentials'],
    ['login', 503, 'Vault is sealed', 'KMS_UNAVAILABLE', 'sealed'],
    ['read-key', 404, undefined, 'KMS_KEY_NOT_FOUND', ''],
    ['read-key', 404, 'no handler for route "transit/keys/k".', 'KMS_KEY_NOT_FOUND', 'mount'],
    ['use', 404, undefined, 'KMS_UNAVAILABLE', 'unrecognised'],
  ] as const)('%s %i %s → %s %s', (call, status, words, code, detail) => {
    const failure = classify(new VaultAnswer(status, words === undefined ? [] : [words]), call);
    expect([failure.code, failure.detail]).toEqual([code, detail]);
  });

  test.each([
    ['ECONNREFUSED', 'KMS_UNREACHABLE'],
    ['ENOTFOUND', 'KMS_UNREACHABLE'],
    ['ERR_TLS_CERT_ALTNAME_INVALID', 'KMS_UNREACHABLE'],
    ['SELF_SIGNED_CERT_IN_CHAIN', 'KMS_UNREACHABLE'],
    ['E_OF_TOMORROW', 'KMS_UNAVAILABLE'],
  ])('network: %s → %s', (code, expected) => {
    expect(classify(Object.assign(new Error('x'), { code }), 'use').code).toBe(expected);
  });
});

describe('Vault, what a call sends and takes', () => {
  test('one request per call, with our correlation id, the key in the path and the context as associated data', async () => {
    const before = server.log.length;
    const answer = await unwrap();
    const line = server.log[before];
    expect(server.log.length).toBe(before + 1);
    expect(line).toMatchObject({
      method: 'POST',
      path: `/v1/transit/decrypt/${key.name}`,
      correlationId: 'cid-again',
      namespace: '',
    });
    const { associated_data: sent } = line?.body ?? {};
    expect(Buffer.from(String(sent), 'base64').toString('latin1')).toBe(
      'keytether/v1 kms-aad\0\0\x05ten_a\0\x07default\0\x05key_a',
    );
    expect(answer.requestId).toBe(line?.requestId);
    expect(answer.requestId).not.toBe('');
  });

  test('a wrap never has Vault make a key, even where the policy would let it', async () => {
    const space = server.namespace();
    space.transit.keys.delete(key.name);
    space.policies.get('use')?.set(`transit/encrypt/${key.name}`, ['create', 'update']);
    const answer = await caller.wrap(target, new Uint8Array(32), CONTEXT, AGAIN);
    expect(answer).toMatchObject({ outcome: 'refused', code: 'KMS_KEY_NOT_FOUND' });
    expect(space.transit.keys.has(key.name)).toBe(false);
  });

  test.each([
    ['v0, which Vault reads as v1', (text: string) => text.replace(':v1:', ':v0:')],
    ['v01', (text: string) => text.replace(':v1:', ':v01:')],
    ['v+1', (text: string) => text.replace(':v1:', ':v+1:')],
    ['a line end inside', (text: string) => `${text.slice(0, 20)}\n${text.slice(20)}`],
    ['padding that is not due', (text: string) => `${text}==`],
    ['a byte outside of ASCII', (text: string) => `${text.slice(0, 20)}\u0141${text.slice(21)}`],
  ])('wrapped text with %s is refused without a call', async (_what, change) => {
    const text = new TextDecoder().decode(wrapped);
    const before = server.log.length;
    const changed = change(text);
    expect(changed).not.toBe(text);
    expect(await unwrap(AGAIN, withText(changed))).toMatchObject({ code: 'KMS_INTEGRITY' });
    expect(server.log.length).toBe(before);
  });

  test.each([
    ['31 bytes', { data: { plaintext: Buffer.alloc(31).toString('base64') } }, 'KMS_INTEGRITY'],
    ['no plaintext', { data: {} }, 'KMS_INTEGRITY'],
    [
      'a plaintext in another place',
      { plaintext: Buffer.alloc(32).toString('base64'), data: {} },
      'KMS_INTEGRITY',
    ],
    ['no request id', { request_id: undefined }, 'KMS_CONTRACT_VIOLATION'],
    ['text that is no base64', { data: { plaintext: '????' } }, 'KMS_UNAVAILABLE'],
  ])('an answer with %s opens nothing', async (_what, change, code) => {
    server.faults.rewrite = (_path, body) => ({ ...body, ...change });
    expect(await unwrap()).toMatchObject({ code });
  });

  test('an answer of more than 64 KiB is cut off', async () => {
    server.faults.rewrite = (_path, body) => ({ ...body, warnings: ['x'.repeat(70_000)] });
    expect(await unwrap()).toMatchObject({ code: 'KMS_UNAVAILABLE', detail: 'not-json' });
  });

  test('describe and the checks of the set-up name what is wrong with a key', async () => {
    const checks = async () => {
      const answer = await caller.checkSetup(target, AGAIN);
      return answer.outcome === 'ok'
        ? answer.value.filter(({ ok }) => !ok).map(({ check }) => check)
        : answer;
    };
    expect(await checks()).toEqual([]);
    Object.assign(key, { exportable: true, allowPlaintextBackup: true, type: 'rsa-2048' });
    expect(await checks()).toEqual(['key-type', 'not-exportable', 'no-plaintext-backup']);
    expect(await caller.describe(target, AGAIN)).toMatchObject({ value: { bindsContext: false } });
    Object.assign(key, { softDeleted: true });
    expect(await caller.describe(target, AGAIN)).toMatchObject({
      value: { state: 'disabled', keyVersion: '1' },
    });
    server.namespace().transit.keys.delete(key.name);
    expect(await caller.describe(target, AGAIN)).toMatchObject({ code: 'KMS_KEY_NOT_FOUND' });
  });

  test('300 calls at once share at most 64 connections and all come back', async () => {
    const before = server.connections();
    const outcomes = await Promise.all(Array.from({ length: 300 }, () => unwrap()));
    expect(outcomes.filter(({ outcome }) => outcome !== 'ok')).toEqual([]);
    expect(server.connections() - before).toBeLessThanOrEqual(64);
  });
});
