/** Every vector of test/vectors/keytether, computed. `npm run vectors` writes them; a test compares them with the tree. */
import { createHmac } from 'node:crypto';
import { type LabelName, label } from '../../src/brand.ts';
import { encodeContext, messageContext } from '../../src/crypto/context.ts';
import { commitIdentity, openRecordKey } from '../../src/crypto/keys.ts';
import { sealForVectors } from '../../src/crypto/message.ts';
import {
  authenticateBinding,
  authenticateHead,
  authenticateKeyRecord,
  encodeBinding,
  encodeHead,
  encodeKeyWrapping,
  type KeyWrapping,
  parseKeyImmutable,
  principalMac,
} from '../../src/crypto/records.ts';
import {
  BINDING,
  bytes,
  DATA_IDENTITY,
  HEAD,
  PRINCIPAL,
  RECORD_KEY_1,
  RECORD_KEY_2,
  ROOT_IDENTITY,
  recordKeys,
  signingAs,
  WRAPPING,
} from './samples.ts';
import type { Vector } from './vector-file.ts';

const hex = (value: Uint8Array) => Buffer.from(value).toString('hex');
const join = (...parts: Uint8Array[]) => Uint8Array.from(Buffer.concat(parts));

/** `bytes` with the ones from `at` on replaced. */
function patch(source: Uint8Array, at: number, ...values: number[]): Uint8Array {
  const changed = Uint8Array.from(source);
  changed.set(values, at < 0 ? source.length + at : at);
  return changed;
}

const flip = (source: Uint8Array, at: number) => patch(source, at, (source.at(at) ?? 0) ^ 1);

const KEY = bytes(32, 0x01);
const KEY_ID = DATA_IDENTITY.keyId;
const SALT = bytes(24, 0x80);
const REQUEST = {
  tenant: DATA_IDENTITY.tenant,
  scope: 'default',
  purpose: 'customer-records',
  resourceId: 'customer/4711',
  context: { table: 'customers', column: 'iban' } as Record<string, string>,
};

function sealed(plaintext: Uint8Array, request = REQUEST): Uint8Array {
  return sealForVectors(KEY, KEY_ID, (header) => messageContext({ ...request, header }), plaintext, SALT);
}

function messageVector(
  name: string,
  expect: string,
  body: Uint8Array,
  plaintext?: Uint8Array,
  request = REQUEST,
) {
  const fields: Record<string, string> = {
    object: 'message',
    expect,
    key: hex(KEY),
    tenant: request.tenant,
    scope: request.scope,
    purpose: request.purpose,
    'resource-id': JSON.stringify(request.resourceId),
    context: JSON.stringify(Object.entries(request.context)),
  };
  if (plaintext !== undefined) fields['plaintext-base64'] = Buffer.from(plaintext).toString('base64');
  return { name: `message-${name}`, fields, body };
}

function goodMessages(): Vector[] {
  const lengths: [string, number][] = [
    ['empty', 0],
    ['1-byte', 1],
    ['64-bytes', 64],
    ['16383-bytes', 16383],
    ['16384-bytes', 16384],
    ['16385-bytes', 16385],
    ['32768-bytes', 32768],
  ];
  const requests: [string, typeof REQUEST][] = [
    ['no-pairs', { ...REQUEST, context: {} }],
    ['no-resource-id', { ...REQUEST, resourceId: '' }],
    ['empty-value', { ...REQUEST, context: { a: '' } }],
    [
      '16-pairs',
      { ...REQUEST, context: Object.fromEntries(Array.from({ length: 16 }, (_, i) => [`n${i}`, `${i}`])) },
    ],
    ['utf8-order', { ...REQUEST, context: { '\u{1f600}': 'after', '\uffee': 'before' } }],
    ['proto-pair', { ...REQUEST, context: JSON.parse('{"__proto__":"a pair like any other"}') }],
    ['own-purpose', { ...REQUEST, purpose: '~credentials' }],
  ];
  const text = Buffer.from('the plaintext');
  return [
    ...lengths.map(([name, n]) => messageVector(name, 'success', sealed(bytes(n, 0)), bytes(n, 0))),
    ...requests.map(([name, of]) => messageVector(name, 'success', sealed(text, of), text, of)),
  ];
}

function badMessages(): Vector[] {
  const one = sealed(Buffer.from('the plaintext'));
  const two = sealed(bytes(16384 + 40, 0));
  const three = sealed(bytes(2 * 16384, 0));
  const cases: [string, string, Uint8Array, typeof REQUEST?][] = [
    ['nothing', 'ENVELOPE_MALFORMED/length', new Uint8Array(0)],
    ['23-bytes', 'ENVELOPE_MALFORMED/length', one.subarray(0, 23)],
    ['magic', 'ENVELOPE_MALFORMED/magic', flip(one, 0)],
    ['magic-of-a-key-record', 'ENVELOPE_MALFORMED/magic', patch(one, 3, 0x52)],
    ['version-0', 'ENVELOPE_MALFORMED/version', patch(one, 4, 0)],
    ['version-2', 'ENVELOPE_MALFORMED/version', patch(one, 4, 2)],
    ['suite-0', 'ENVELOPE_MALFORMED/suite', patch(one, 5, 0)],
    ['suite-2', 'ENVELOPE_MALFORMED/suite', patch(one, 5, 2)],
    ['flags-first', 'ENVELOPE_MALFORMED/flags', patch(one, 6, 0x80)],
    ['flags-second', 'ENVELOPE_MALFORMED/flags', patch(one, 7, 1)],
    ['key-id', 'DECRYPT_FAILED/commitment', flip(one, 8)],
    ['salt', 'DECRYPT_FAILED/commitment', flip(one, 47)],
    ['commitment-first', 'DECRYPT_FAILED/commitment', flip(one, 48)],
    ['commitment-last', 'DECRYPT_FAILED/commitment', flip(one, 79)],
    ['tenant', 'DECRYPT_FAILED/commitment', one, { ...REQUEST, tenant: 'ten_bbbbbbbbbbbbbbbbbbbbbbbbbb' }],
    ['scope', 'DECRYPT_FAILED/commitment', one, { ...REQUEST, scope: 'other' }],
    ['purpose', 'DECRYPT_FAILED/commitment', one, { ...REQUEST, purpose: 'invoices' }],
    ['resource-id', 'DECRYPT_FAILED/commitment', one, { ...REQUEST, resourceId: 'customer/4712' }],
    [
      'pair-changed',
      'DECRYPT_FAILED/commitment',
      one,
      { ...REQUEST, context: { table: 'customers', column: 'name' } },
    ],
    ['pair-missing', 'DECRYPT_FAILED/commitment', one, { ...REQUEST, context: { table: 'customers' } }],
    [
      'pair-shifted',
      'DECRYPT_FAILED/commitment',
      one,
      { ...REQUEST, context: { table: 'customersc', olumn: 'iban' } },
    ],
    ['ciphertext', 'DECRYPT_FAILED/tag', flip(one, 80)],
    ['tag', 'DECRYPT_FAILED/tag', flip(one, -1)],
    ['one-byte-short', 'DECRYPT_FAILED/tag', one.subarray(0, -1)],
    ['one-byte-long', 'DECRYPT_FAILED/tag', join(one, Uint8Array.of(0))],
    ['header-only', 'DECRYPT_FAILED/truncated', one.subarray(0, 24)],
    ['cut-in-commitment', 'DECRYPT_FAILED/truncated', one.subarray(0, 79)],
    ['no-chunk', 'DECRYPT_FAILED/truncated', one.subarray(0, 80)],
    ['15-bytes-of-chunk', 'DECRYPT_FAILED/truncated', one.subarray(0, 95)],
    ['no-last-chunk', 'DECRYPT_FAILED/truncated', two.subarray(0, 80 + 16400)],
    ['last-chunk-below-tag', 'DECRYPT_FAILED/truncated', two.subarray(0, 80 + 16400 + 15)],
    ['second-chunk', 'DECRYPT_FAILED/tag', flip(two, 80 + 16400)],
    ['chunk-twice', 'DECRYPT_FAILED/tag', join(two.subarray(0, 80 + 16400), two.subarray(80))],
    [
      'chunks-swapped',
      'DECRYPT_FAILED/tag',
      join(
        three.subarray(0, 80),
        three.subarray(16480, 32880),
        three.subarray(80, 16480),
        three.subarray(32880),
      ),
    ],
  ];
  return cases.map(([name, expect, body, of]) => messageVector(`bad-${name}`, expect, body, undefined, of));
}

const ROOT_SECRET = bytes(32, 0x90);
const DATA_SECRET = bytes(32, 0xb0);
const ROOT = commitIdentity(ROOT_IDENTITY, ROOT_SECRET);
const DATA = commitIdentity(DATA_IDENTITY, DATA_SECRET);
const KEYS_FIELDS = {
  'record-key-rk-2': hex(RECORD_KEY_2),
  'record-key-rk-1': hex(RECORD_KEY_1),
  'record-key-rk-0': 'retired',
};

/** Signs bytes that no encoder of ours would write, so that a reader meets exactly one irregularity. */
function signed(
  name: LabelName,
  body: Uint8Array,
  authId = 'rk-2',
  key: Uint8Array = RECORD_KEY_2,
): Uint8Array {
  const id = Buffer.from(authId);
  const whole = join(body, Uint8Array.of(0, id.length), id);
  return join(whole, createHmac('sha256', key).update(label(name)).update(whole).digest());
}

function stored(
  object: string,
  name: string,
  expect: string,
  body: Uint8Array,
  fields: Record<string, string> = {},
) {
  return { name: `${object}-${name}`, fields: { object, expect, ...KEYS_FIELDS, ...fields }, body };
}

const wrapOf = (id: number, length: number) => ({
  wrapperId: bytes(16, id),
  kmsKeyVersion: '',
  wrapAlg: 'RSA-OAEP-256',
  wrapped: bytes(length, 0),
});

function keyRecords(): Vector[] {
  const record = (of: Partial<KeyWrapping>, immutable = ROOT) =>
    authenticateKeyRecord(immutable, { ...WRAPPING, ...of }, recordKeys);
  const two = [wrapOf(1, 256), wrapOf(2, 256)];
  const mutable = encodeKeyWrapping('root', WRAPPING);
  const [m, scopeAt] = [ROOT.length, 36 + 2 + ROOT_IDENTITY.tenant.length + 2];
  const body = join(ROOT, mutable);
  const good = record({});
  const bad = (name: string, detail: string, changed: Uint8Array): Vector =>
    stored('key-record', `bad-${name}`, `KEY_RECORD_TAMPERED/${detail}`, signed('auth-record', changed));
  const pair = encodeKeyWrapping('root', { ...WRAPPING, mode: 'any', wraps: two });
  const lengthened = (n: number) => {
    const at = mutable.length - 62;
    return join(ROOT, mutable.subarray(0, at), Uint8Array.of(n >> 8, n & 255), bytes(n, 0));
  };
  return [
    stored('key-record', 'root', 'success', good, {
      secret: hex(ROOT_SECRET),
      derived: hex(keyOf(ROOT, ROOT_SECRET)),
    }),
    stored('key-record', 'data', 'success', record({}, DATA), {
      secret: hex(DATA_SECRET),
      derived: hex(keyOf(DATA, DATA_SECRET)),
    }),
    stored('key-record', 'retired-state', 'success', record({ state: 'retired' })),
    stored('key-record', 'any-of-2', 'success', record({ mode: 'any', wraps: two })),
    stored(
      'key-record',
      'all-of-4',
      'success',
      record({ mode: 'all', wraps: [...two, wrapOf(3, 9), wrapOf(4, 9)] }),
    ),
    stored('key-record', 'wrapped-4096', 'success', record({ wraps: [wrapOf(1, 4096)] })),
    stored('key-record', 'older-record-key', 'success', signed('auth-record', body, 'rk-1', RECORD_KEY_1)),
    bad('magic', 'magic', patch(body, 3, 0x42)),
    bad('version', 'version', patch(body, 4, 2)),
    bad('kind-0', 'kind', patch(body, 5, 0)),
    bad('kind-3', 'kind', patch(body, 5, 3)),
    bad('suite', 'suite', patch(body, 6, 2)),
    bad('flags', 'flags', patch(body, 7, 1)),
    bad('key-version-0', 'key-version', patch(body, 24, 0, 0, 0, 0)),
    bad('created-too-large', 'integer', patch(body, 28, 0, 0x20, 0, 0, 0, 0, 0, 0)),
    bad('tenant-not-utf8', 'text', patch(body, 38, 0xff)),
    bad('scope-upper-case', 'scope', patch(body, scopeAt, 0x44)),
    bad('data-without-purpose', 'purpose', patch(body, 5, 2)),
    bad('root-with-purpose', 'purpose', patch(join(DATA, mutable), 5, 1)),
    bad('generation-too-large', 'integer', patch(body, m, 0xff)),
    bad('state-0', 'state', patch(body, m + 8, 0)),
    bad('state-3', 'state', patch(body, m + 8, 3)),
    bad('mode-0', 'mode', patch(body, m + 9, 0)),
    bad('mode-4', 'mode', patch(body, m + 9, 4)),
    bad('any-of-1', 'count', patch(body, m + 9, 2)),
    bad('all-of-1', 'count', patch(body, m + 9, 3)),
    bad('one-of-2', 'count', patch(join(ROOT, pair), m + 9, 1)),
    bad('count-5', 'count', patch(body, m + 10, 5)),
    bad('data-with-any', 'mode', join(DATA, pair)),
    bad('wrapper-twice', 'wrapper', patch(join(ROOT, pair), m + 11, ...bytes(16, 2))),
    bad('wrapped-empty', 'wrapped', lengthened(0)),
    bad('wrapped-4097', 'wrapped', lengthened(4097)),
    stored('key-record', 'bad-trailing', 'KEY_RECORD_TAMPERED/trailing', join(good, Uint8Array.of(0))),
    stored('key-record', 'bad-cut', 'KEY_RECORD_TAMPERED/length', good.subarray(0, -1)),
    stored('key-record', 'bad-empty', 'KEY_RECORD_TAMPERED/length', new Uint8Array(0)),
    stored('key-record', 'bad-auth-id-empty', 'KEY_RECORD_TAMPERED/auth-id', signed('auth-record', body, '')),
    stored('key-record', 'bad-mac', 'KEY_RECORD_TAMPERED/mac', flip(good, -1)),
    stored('key-record', 'bad-generation-edited', 'KEY_RECORD_TAMPERED/mac', flip(good, m + 7)),
    stored('key-record', 'bad-label-of-a-head', 'KEY_RECORD_TAMPERED/mac', signed('auth-head', body)),
    stored('key-record', 'bad-other-key', 'KEY_RECORD_TAMPERED/mac', signed('auth-record', body, 'rk-1')),
    stored(
      'key-record',
      'bad-retired-key',
      'KEY_RECORD_TAMPERED/retired',
      signed('auth-record', body, 'rk-0'),
    ),
    stored(
      'key-record',
      'bad-unknown-key',
      'RECORD_KEY_UNAVAILABLE/auth-id',
      signed('auth-record', body, 'rk-9'),
    ),
  ];
}

function keyOf(immutable: Uint8Array, secret: Uint8Array): Uint8Array {
  return openRecordKey(secret, { ...parseKeyImmutable(immutable), immutable });
}

function bindings(): Vector[] {
  const body = encodeBinding(BINDING);
  const good = authenticateBinding(BINDING, recordKeys);
  const bad = (name: string, detail: string, changed: Uint8Array): Vector =>
    stored('binding', `bad-${name}`, `KEY_RECORD_TAMPERED/${detail}`, signed('auth-binding', changed));
  return [
    stored('binding', 'active', 'success', good),
    stored(
      'binding',
      'no-access',
      'success',
      authenticateBinding({ ...BINDING, access: new Uint8Array(0) }, recordKeys),
    ),
    bad('magic', 'magic', patch(body, 3, 0x48)),
    bad('version', 'version', patch(body, 4, 0)),
    bad('binding-version-0', 'binding-version', patch(body, 21, 0, 0, 0, 0)),
    bad('state-0', 'state', patch(body, 25, 0)),
    bad('state-5', 'state', patch(body, 25, 5)),
    bad('zero-in-tenant', 'text', patch(body, 28, 0)),
    stored('binding', 'bad-key-ref-edited', 'KEY_RECORD_TAMPERED/mac', flip(good, 80)),
    stored('binding', 'bad-trailing', 'KEY_RECORD_TAMPERED/trailing', join(good, good)),
  ];
}

function heads(): Vector[] {
  const body = encodeHead(HEAD);
  const good = authenticateHead(HEAD, recordKeys);
  const data = { ...HEAD, purpose: 'customer-records', bindingId: undefined };
  const bad = (name: string, detail: string, changed: Uint8Array): Vector =>
    stored('head', `bad-${name}`, `KEY_RECORD_TAMPERED/${detail}`, signed('auth-head', changed));
  const keyAt = body.length - 44;
  return [
    stored('head', 'root', 'success', good),
    stored('head', 'data', 'success', authenticateHead(data, recordKeys)),
    stored(
      'head',
      'no-key-yet',
      'success',
      authenticateHead({ ...data, keyId: undefined, keyVersion: 0 }, recordKeys),
    ),
    bad('magic', 'magic', patch(body, 3, 0x4d)),
    bad('version', 'version', patch(body, 4, 2)),
    bad('key-without-version', 'key-version', patch(body, keyAt + 16, 0, 0, 0, 0)),
    bad('version-without-key', 'key-version', patch(body, keyAt, ...new Uint8Array(16))),
    bad('data-with-binding', 'binding-id', patch(encodeHead(data), -24, ...bytes(16, 0x50))),
    stored('head', 'bad-key-edited', 'KEY_RECORD_TAMPERED/mac', flip(good, keyAt)),
    stored('head', 'bad-trailing', 'KEY_RECORD_TAMPERED/trailing', join(good, Uint8Array.of(0))),
  ];
}

function wraps(): Vector[] {
  const rootKey = keyOf(ROOT, ROOT_SECRET);
  const rootId = ROOT_IDENTITY.keyId;
  const context = (header: Uint8Array) =>
    join(label('key-wrap'), header, Uint8Array.of(DATA.length >> 8, DATA.length & 255), DATA);
  const good = sealForVectors(rootKey, rootId, context, DATA_SECRET, SALT);
  const long = sealForVectors(rootKey, rootId, context, bytes(33, 0), SALT);
  const vector = (name: string, expect: string, body: Uint8Array, child = DATA): Vector => ({
    name: `wrap-${name}`,
    fields: {
      object: 'wrap',
      expect,
      'root-key': hex(rootKey),
      'root-key-id': hex(rootId),
      child: hex(child),
      ...(expect === 'success' ? { secret: hex(DATA_SECRET) } : {}),
    },
    body,
  });
  return [
    vector('data-key', 'success', good),
    vector('bad-magic', 'KEY_RECORD_TAMPERED/wrap-magic', flip(good, 0)),
    vector('bad-parent', 'KEY_RECORD_TAMPERED/wrap-parent', flip(good, 8)),
    vector('bad-child', 'KEY_RECORD_TAMPERED/wrap-commitment', good, flip(DATA, 27)),
    vector('bad-tag', 'KEY_RECORD_TAMPERED/wrap-tag', flip(good, -1)),
    vector('bad-cut', 'KEY_RECORD_TAMPERED/wrap-truncated', good.subarray(0, 95)),
    vector('bad-33-bytes', 'KEY_RECORD_TAMPERED/wrap-secret', long),
  ];
}

function secrets(): Vector[] {
  const vector = (name: string, expect: string, immutable: Uint8Array, secret: Uint8Array): Vector => ({
    name: `secret-${name}`,
    fields: { object: 'secret', expect, immutable: hex(immutable) },
    body: secret,
  });
  return [
    vector('bad-root-other-bytes', 'KMS_INTEGRITY/commitment', ROOT, flip(ROOT_SECRET, 0)),
    vector('bad-root-31-bytes', 'KMS_INTEGRITY/length', ROOT, ROOT_SECRET.subarray(1)),
    vector('bad-root-other-tenant', 'KMS_INTEGRITY/commitment', flip(ROOT, 45), ROOT_SECRET),
    vector('bad-data-other-bytes', 'KEY_RECORD_TAMPERED/commitment', DATA, ROOT_SECRET),
  ];
}

function principals(): Vector[] {
  const vector = (
    name: string,
    expect: string,
    authId: string,
    of: typeof PRINCIPAL,
    mac: Uint8Array,
  ): Vector => ({
    name: `principal-${name}`,
    fields: {
      object: 'principal',
      expect,
      ...KEYS_FIELDS,
      'auth-id': authId,
      row: JSON.stringify({ ...of, secretSha256: hex(of.secretSha256) }),
    },
    body: mac,
  });
  const { mac } = principalMac(PRINCIPAL, recordKeys);
  const retired = principalMac(PRINCIPAL, signingAs('rk-0', RECORD_KEY_1)).mac;
  const forever = { ...PRINCIPAL, expiresMs: undefined, scopes: [], purposes: [] };
  return [
    vector('service', 'success', 'rk-2', PRINCIPAL, mac),
    vector('no-expiry-no-lists', 'success', 'rk-2', forever, principalMac(forever, recordKeys).mac),
    vector('bad-role', 'KEY_RECORD_TAMPERED/mac', 'rk-2', { ...PRINCIPAL, role: 'admin' }, mac),
    vector('bad-purpose-added', 'KEY_RECORD_TAMPERED/mac', 'rk-2', { ...PRINCIPAL, purposes: ['x'] }, mac),
    vector('bad-retired-key', 'KEY_RECORD_TAMPERED/retired', 'rk-0', PRINCIPAL, retired),
    vector('bad-unknown-key', 'RECORD_KEY_UNAVAILABLE/auth-id', 'rk-9', PRINCIPAL, mac),
  ];
}

function contexts(): Vector[] {
  const vector = (name: string, pairs: [string, string][], expect = 'success'): Vector => ({
    name: `context-${name}`,
    fields: { object: 'context', expect, context: JSON.stringify(pairs) },
    body: expect === 'success' ? encodeContext(new Map(pairs)) : new Uint8Array(0),
  });
  return [
    vector('none', []),
    vector('sorted', [
      ['b', '2'],
      ['a', '1'],
    ]),
    vector('prefix', [
      ['ab', ''],
      ['a', 'b'],
    ]),
    vector('bad-empty-name', [['', 'x']], 'REQUEST_INVALID/context-name'),
    vector('bad-lone-surrogate', [['a', '\ud800']], 'REQUEST_INVALID/text'),
    vector('bad-zero', [['a\0', 'x']], 'REQUEST_INVALID/text'),
    vector('bad-8193-bytes', [['a', 'x'.repeat(8192)]], 'REQUEST_INVALID/context-size'),
  ];
}

export function allVectors(): Vector[] {
  return [
    ...goodMessages(),
    ...badMessages(),
    ...keyRecords(),
    ...bindings(),
    ...heads(),
    ...wraps(),
    ...secrets(),
    ...principals(),
    ...contexts(),
  ];
}
