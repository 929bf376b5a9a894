/** Every row of the AWS error table, through the real SDK and the caller: condition → class → code. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { classify } from '../../adapters/kms/aws/classify.ts';
import { createAwsKms } from '../../adapters/kms/aws.ts';
import type { KmsCode } from '../../src/errors.ts';
import { createKmsCaller, type KmsCaller, type KmsTarget } from '../../src/kms/caller.ts';
import { type AwsServer, startAwsServer } from '../kms-servers/aws.ts';
import type { ServerKey } from '../kms-servers/aws-keys.ts';

const CONTEXT = { tenant: 'ten_a', scope: 'default', key: 'key_a' };
const AGAIN = { correlationId: 'cid-again', workedBefore: true };
const FIRST = { correlationId: 'cid-first', workedBefore: false };

let server: AwsServer;
let caller: KmsCaller;
let key: ServerKey;
let target: KmsTarget;
let wrapped: Uint8Array;

beforeAll(async () => {
  server = await startAwsServer();
});

beforeEach(async () => {
  const { url, region, accessKeyId, secretAccessKey } = server;
  caller = createKmsCaller({
    drivers: new Map([['aws-kms', createAwsKms()]]),
    host: {
      secret: async () => new TextEncoder().encode(JSON.stringify({ accessKeyId, secretAccessKey })),
      endpointAllowed: (address) => address === url,
    },
  });
  key = server.keys.create(region);
  const access = { region, endpoint: url, credentials: { type: 'static', secretId: 'aws' } };
  const binding = { tenant: 'ten_a', bindingId: 'ckey_a', version: 1, provider: 'aws-kms' };
  target = { ...binding, ...caller.checkTarget('aws-kms', key.arn, access) };
  const answer = await caller.wrap(target, new Uint8Array(32).fill(1), CONTEXT, AGAIN);
  if (answer.outcome !== 'ok') throw new Error(answer.code);
  wrapped = answer.value.wrapped;
});

afterEach(async () => {
  const { faults } = server;
  Object.assign(faults, { latencyMs: 0, rate: undefined, propagationMs: 0 });
  Object.assign(faults, { error: undefined, wire: undefined, sts: undefined, rewrite: undefined });
  await caller.close();
});

afterAll(() => server.close());

const unwrap = (call = AGAIN, bytes = wrapped, context = CONTEXT) =>
  caller.unwrap(target, bytes, context, call);

type Row = readonly [condition: string, outcome: string, code: KmsCode, break_: () => void];

const answers =
  (type: string, message = '', status = 400) =>
  () => {
    server.faults.error = { type, message, status };
  };

const ROWS: readonly Row[] = [
  ['disabled', 'refused', 'KMS_KEY_DISABLED', () => server.keys.setState(key, 'Disabled')],
  [
    'pending deletion',
    'refused',
    'KMS_KEY_PENDING_DELETION',
    () => server.keys.setState(key, 'PendingDeletion'),
  ],
  [
    'pending deletion of a replica',
    'refused',
    'KMS_KEY_PENDING_DELETION',
    answers('KMSInvalidStateException', 'the key is pending replica deletion.'),
  ],
  ['pending deletion told as DisabledException', 'refused', 'KMS_KEY_DISABLED', answers('DisabledException')],
  ['imported material gone', 'refused', 'KMS_KEY_DISABLED', () => server.keys.setState(key, 'PendingImport')],
  ['custom key store down', 'unknown', 'KMS_UNAVAILABLE', () => server.keys.setState(key, 'Unavailable')],
  ['key being created', 'unknown', 'KMS_UNAVAILABLE', () => server.keys.setState(key, 'Creating')],
  [
    'invalid state of another cause',
    'unknown',
    'KMS_UNAVAILABLE',
    answers('KMSInvalidStateException', 'other'),
  ],
  ['policy denies', 'refused', 'KMS_ACCESS_DENIED', () => void key.denied.add('*')],
  ['deleted', 'refused', 'KMS_KEY_NOT_FOUND', answers('NotFoundException')],
  ['wrong key', 'integrity', 'KMS_INTEGRITY', answers('IncorrectKeyException')],
  ['tampered or other context', 'integrity', 'KMS_INTEGRITY', answers('InvalidCiphertextException')],
  ['wrong key usage', 'misconfigured', 'KMS_MISCONFIGURED', answers('InvalidKeyUsageException')],
  ['bad grant token', 'misconfigured', 'KMS_MISCONFIGURED', answers('InvalidGrantTokenException')],
  ['throttled', 'unknown', 'KMS_THROTTLED', () => Object.assign(server.faults, { rate: 0 })],
  ['limit exceeded', 'unknown', 'KMS_THROTTLED', answers('LimitExceededException')],
  ['key unavailable', 'unknown', 'KMS_UNAVAILABLE', answers('KeyUnavailableException', '', 500)],
  ['internal error', 'unknown', 'KMS_UNAVAILABLE', answers('KMSInternalException', '', 500)],
  ['dependency timeout', 'unknown', 'KMS_UNAVAILABLE', answers('DependencyTimeoutException', '', 503)],
  ['credentials expired', 'misconfigured', 'KMS_MISCONFIGURED', answers('ExpiredTokenException')],
  ['credentials unknown', 'misconfigured', 'KMS_MISCONFIGURED', answers('UnrecognizedClientException')],
  ['clock or signature wrong', 'misconfigured', 'KMS_MISCONFIGURED', answers('InvalidSignatureException')],
  [
    'connection reset within the answer',
    'unknown',
    'KMS_UNREACHABLE',
    () => Object.assign(server.faults, { wire: 'reset' }),
  ],
  ['page of a proxy', 'unknown', 'KMS_UNAVAILABLE', () => Object.assign(server.faults, { wire: 'html' })],
  ['error that nobody knows', 'unknown', 'KMS_UNAVAILABLE', answers('BrandNewException')],
];

describe('AWS, condition → class → code', () => {
  test.each(ROWS)('%s → %s, %s', async (_condition, outcome, code, breakIt) => {
    breakIt();
    const answer = await unwrap();
    expect(answer).toMatchObject({ outcome, code });
  });

  test.each(ROWS.filter(([, outcome]) => outcome === 'refused'))(
    '%s on first contact → misconfigured, with the specific code as detail',
    async (_condition, _outcome, code, breakIt) => {
      breakIt();
      expect(await unwrap(FIRST)).toMatchObject({
        outcome: 'misconfigured',
        code: 'KMS_MISCONFIGURED',
        detail: code,
      });
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
    ['ECONNREFUSED', { code: 'ECONNREFUSED' }, 'KMS_UNREACHABLE'],
    ['ECONNRESET', { code: 'ECONNRESET' }, 'KMS_UNREACHABLE'],
    ['ENOTFOUND', { code: 'ENOTFOUND' }, 'KMS_UNREACHABLE'],
    ['EAI_AGAIN', { code: 'EAI_AGAIN' }, 'KMS_UNREACHABLE'],
    ['EPIPE', { code: 'EPIPE' }, 'KMS_UNREACHABLE'],
    ['CERT_HAS_EXPIRED', { code: 'CERT_HAS_EXPIRED' }, 'KMS_UNREACHABLE'],
    ['TimeoutError', { name: 'TimeoutError', code: 'ECONNRESET' }, 'KMS_TIMEOUT'],
    ['AbortError', { name: 'AbortError' }, 'KMS_TIMEOUT'],
    [
      'SyntaxError of a 502 page',
      { name: 'SyntaxError', $metadata: { httpStatusCode: 502 } },
      'KMS_UNAVAILABLE',
    ],
    ['STS AccessDenied', { name: 'AccessDenied', $metadata: { requestId: 'rid' } }, 'KMS_ACCESS_DENIED'],
    ['STS Throttling', { name: 'Throttling' }, 'KMS_THROTTLED'],
    ['no credentials', { name: 'CredentialsProviderError' }, 'KMS_MISCONFIGURED'],
    ['a name of Object.prototype', { name: 'constructor' }, 'KMS_UNAVAILABLE'],
    ['nothing', undefined, 'KMS_UNAVAILABLE'],
  ])('network and STS: %s', (_condition, fields, code) => {
    expect(classify(fields && Object.assign(new Error('x'), fields)).code).toBe(code);
  });

  test('the HTTP status decides nothing', () => {
    for (const httpStatusCode of [200, 400, 403, 429, 500]) {
      const error = Object.assign(new Error('x'), {
        name: 'DisabledException',
        $metadata: { httpStatusCode },
      });
      expect(classify(error).code).toBe('KMS_KEY_DISABLED');
    }
  });
});

describe('AWS, what a call sends and takes', () => {
  test('one request per call, also when it fails, with our correlation id and the pinned key', async () => {
    const before = server.log.length;
    await unwrap();
    key.denied.add('*');
    await unwrap();
    const lines = server.log.slice(before);
    expect(lines.map((line) => [line.operation, line.keyId, line.userAgent])).toEqual([
      ['Decrypt', key.arn, 'keytether/1 cid/cid-again'],
      ['Decrypt', key.arn, 'keytether/1 cid/cid-again'],
    ]);
    expect(lines[0]?.encryptionContext).toEqual({
      'keytether:tenant': 'ten_a',
      'keytether:scope': 'default',
      'keytether:key': 'key_a',
    });
  });

  test("the answer's request id is that of the customer's log", async () => {
    const answer = await unwrap();
    expect(answer.requestId).toBe(server.log.at(-1)?.requestId);
    key.denied.add('*');
    const refusal = await unwrap();
    expect(refusal.requestId).toBe(server.log.at(-1)?.requestId);
  });

  test.each([
    ['another key', { KeyId: 'arn:aws:kms:eu-central-1:111122223333:key/other' }, 'KMS_INTEGRITY', 'key-id'],
    ['no key', { KeyId: undefined }, 'KMS_INTEGRITY', 'key-id'],
    ['31 bytes', { Plaintext: Buffer.alloc(31).toString('base64') }, 'KMS_INTEGRITY', 'key-length'],
    ['no plaintext', { Plaintext: undefined }, 'KMS_INTEGRITY', 'key-length'],
    ['text that is no base64', { Plaintext: '????' }, 'KMS_UNAVAILABLE', 'not-json'],
  ])('an answer with %s opens nothing', async (_what, change, code, detail) => {
    server.faults.rewrite = (_operation, output) => ({ ...output, ...change });
    expect(await unwrap()).toMatchObject({ code, detail });
  });

  test('a disabled key may still answer until the change has propagated, and then refuses', async () => {
    server.faults.propagationMs = 60_000;
    server.keys.setState(key, 'Disabled');
    expect(await unwrap()).toMatchObject({ outcome: 'ok' });
    key.before = { state: 'Enabled', untilMs: 0 };
    expect(await unwrap()).toMatchObject({ outcome: 'refused', code: 'KMS_KEY_DISABLED' });
  });

  test('a reset or a page of a proxy does not spoil the next call', async () => {
    for (const wire of ['reset', 'html', 'reset'] as const) {
      server.faults.wire = wire;
      await unwrap();
      server.faults.wire = undefined;
      expect(await unwrap()).toMatchObject({ outcome: 'ok' });
    }
  });

  test('many calls at once share bounded sockets and all come back', async () => {
    const answers = await Promise.all(Array.from({ length: 300 }, () => unwrap()));
    expect(answers.filter((answer) => answer.outcome !== 'ok')).toEqual([]);
  });
});
