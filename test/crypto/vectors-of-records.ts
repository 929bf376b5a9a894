/** Vectors of what is stored: key records, bindings, heads, wraps, secrets and principal rows. */
import { createHmac } from 'node:crypto';
import { type LabelName, label } from '../../src/brand.ts';
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
import { flip, hex, join, patch, type Vector } from './vector-file.ts';
import { SALT } from './vectors-of-messages.ts';

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

export function recordVectors(): Vector[] {
  return [...keyRecords(), ...bindings(), ...heads(), ...wraps(), ...secrets(), ...principals()];
}
