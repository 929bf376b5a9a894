import { describe, expect, test } from '@jest/globals';
import { commitIdentity } from '../../src/crypto/keys.ts';
import {
  authenticateBinding,
  authenticateHead,
  authenticateKeyRecord,
  type PrincipalFields,
  parseBinding,
  parseHead,
  parseKeyRecord,
  principalMac,
  verifyBinding,
  verifyHead,
  verifyKeyRecord,
  verifyPrincipal,
} from '../../src/crypto/records.ts';
import {
  BINDING,
  bytes,
  DATA_IDENTITY,
  HEAD,
  outcomeOf,
  PRINCIPAL,
  RECORD_KEY_1,
  ROOT_IDENTITY,
  recordKeys,
  signingAs,
  WRAPPING,
} from './samples.ts';

const secret = bytes(32, 0x90);
const rootRecord = authenticateKeyRecord(commitIdentity(ROOT_IDENTITY, secret), WRAPPING, recordKeys);

test('what was written is read back', () => {
  expect(verifyKeyRecord(rootRecord, recordKeys)).toMatchObject({
    ...ROOT_IDENTITY,
    ...WRAPPING,
    authId: 'rk-2',
  });
  expect(verifyBinding(authenticateBinding(BINDING, recordKeys), recordKeys)).toMatchObject(BINDING);
  expect(verifyHead(authenticateHead(HEAD, recordKeys), recordKeys)).toMatchObject(HEAD);
  const empty = { ...HEAD, purpose: 'p', keyId: undefined, keyVersion: 0, bindingId: undefined };
  expect(verifyHead(authenticateHead(empty, recordKeys), recordKeys)).toMatchObject(empty);
});

describe('record keys', () => {
  test('an older key that is still loaded is believed', () => {
    const head = authenticateHead(HEAD, signingAs('rk-1', RECORD_KEY_1));
    expect(verifyHead(head, recordKeys).authId).toBe('rk-1');
  });

  test('a retired key is tampering and an unknown one is unavailable', () => {
    const retired = authenticateHead(HEAD, signingAs('rk-0', RECORD_KEY_1));
    const unknown = authenticateHead(HEAD, signingAs('rk-9', RECORD_KEY_1));
    expect(outcomeOf(() => verifyHead(retired, recordKeys))).toBe('KEY_RECORD_TAMPERED/retired');
    expect(outcomeOf(() => verifyHead(unknown, recordKeys))).toBe('RECORD_KEY_UNAVAILABLE/auth-id');
  });

  test('one object does not pass for another with the same bytes after the magic', () => {
    const forged = authenticateHead(HEAD, recordKeys);
    forged.set(authenticateBinding(BINDING, recordKeys).subarray(-32), forged.length - 32);
    expect(outcomeOf(() => verifyHead(forged, recordKeys))).toBe('KEY_RECORD_TAMPERED/mac');
  });
});

test('every changed byte of every object is refused', () => {
  const objects = [
    [rootRecord, (b: Uint8Array) => verifyKeyRecord(b, recordKeys)],
    [authenticateBinding(BINDING, recordKeys), (b: Uint8Array) => verifyBinding(b, recordKeys)],
    [authenticateHead(HEAD, recordKeys), (b: Uint8Array) => verifyHead(b, recordKeys)],
  ] as const;
  for (const [object, verify] of objects) {
    for (let i = 0; i < object.length; i++) {
      const changed = Uint8Array.from(object);
      changed[i] = (changed[i] ?? 0) ^ 1;
      expect(outcomeOf(() => verify(changed))).toMatch(/^(KEY_RECORD_TAMPERED|RECORD_KEY_UNAVAILABLE)\//);
    }
    expect(outcomeOf(() => verify(Uint8Array.of(...object, 0)))).toBe('KEY_RECORD_TAMPERED/trailing');
  }
});

describe('strict parsing', () => {
  const at = (object: Uint8Array, offset: number, value: number) => {
    const changed = Uint8Array.from(object);
    changed[offset] = value;
    return changed;
  };
  const mutable = parseKeyRecord(rootRecord).immutable.length;

  test.each([
    ['magic', 3, 0x4d],
    ['version', 4, 2],
    ['kind', 5, 3],
    ['suite', 6, 2],
    ['flags', 7, 1],
    ['integer', 28, 0xff],
    ['state', mutable + 8, 3],
    ['mode', mutable + 9, 4],
    ['count', mutable + 9, 2],
    ['count', mutable + 10, 0],
    ['count', mutable + 10, 5],
  ])('key record: %s', (detail, offset, value) => {
    expect(outcomeOf(() => parseKeyRecord(at(rootRecord, offset, value)))).toBe(
      `KEY_RECORD_TAMPERED/${detail}`,
    );
  });

  test('binding and head: unknown magic, version and state', () => {
    const binding = authenticateBinding(BINDING, recordKeys);
    expect(outcomeOf(() => parseBinding(at(binding, 3, 0x48)))).toBe('KEY_RECORD_TAMPERED/magic');
    expect(outcomeOf(() => parseBinding(at(binding, 4, 2)))).toBe('KEY_RECORD_TAMPERED/version');
    expect(outcomeOf(() => parseBinding(at(binding, 25, 9)))).toBe('KEY_RECORD_TAMPERED/state');
    expect(outcomeOf(() => parseHead(binding))).toBe('KEY_RECORD_TAMPERED/magic');
  });

  test('writers refuse what readers would', () => {
    const wrap =
      (wraps: typeof WRAPPING.wraps, mode: 'one' | 'any' = 'one') =>
      () =>
        authenticateKeyRecord(
          commitIdentity(ROOT_IDENTITY, secret),
          { ...WRAPPING, mode, wraps },
          recordKeys,
        );
    const [entry] = WRAPPING.wraps;
    if (entry === undefined) throw new Error('the sample has a wrap');
    expect(wrap([])).toThrow('count');
    expect(wrap([entry], 'any')).toThrow('count');
    expect(wrap([entry, entry], 'any')).toThrow('wrapper');
    expect(wrap([{ ...entry, wrapped: new Uint8Array(4097) }])).toThrow('wrapped');
    expect(wrap([{ ...entry, wrapped: new Uint8Array(0) }])).toThrow('wrapped');
    expect(() => commitIdentity({ ...ROOT_IDENTITY, purpose: 'p' }, secret)).toThrow('purpose');
    expect(() => commitIdentity({ ...DATA_IDENTITY, purpose: '' }, secret)).toThrow('purpose');
    expect(() => commitIdentity({ ...ROOT_IDENTITY, keyVersion: 0 }, secret)).toThrow('key-version');
    expect(() => authenticateHead({ ...HEAD, purpose: 'p' }, recordKeys)).toThrow('binding-id');
    expect(() => authenticateHead({ ...HEAD, keyId: undefined }, recordKeys)).toThrow('key-version');
  });
});

describe('principals', () => {
  const stored = principalMac(PRINCIPAL, recordKeys);

  test('the row that was authenticated is accepted', () => {
    expect(outcomeOf(() => verifyPrincipal(PRINCIPAL, stored, recordKeys))).toBe('success');
  });

  const edits: [string, Partial<PrincipalFields>][] = [
    ['tenant', { tenant: 'ten_b' }],
    ['principal', { principal: 'prn_b' }],
    ['role', { role: 'admin' }],
    ['scopes', { scopes: ['default', 'other'] }],
    ['purposes', { purposes: ['customer-recordsinvoices'] }],
    ['a purpose moved to the scopes', { scopes: ['default', 'customer-records'], purposes: ['invoices'] }],
    ['no expiry', { expiresMs: undefined }],
    ['state', { state: 'revoked' }],
    ['secret', { secretSha256: bytes(32, 0x71) }],
  ];
  test.each(edits)('another %s is refused', (_, edit) => {
    expect(outcomeOf(() => verifyPrincipal({ ...PRINCIPAL, ...edit }, stored, recordKeys))).toBe(
      'KEY_RECORD_TAMPERED/mac',
    );
  });

  test('another auth id is refused', () => {
    expect(outcomeOf(() => verifyPrincipal(PRINCIPAL, { ...stored, authId: 'rk-1' }, recordKeys))).toBe(
      'KEY_RECORD_TAMPERED/mac',
    );
    expect(outcomeOf(() => verifyPrincipal(PRINCIPAL, { ...stored, authId: 'rk-0' }, recordKeys))).toBe(
      'KEY_RECORD_TAMPERED/retired',
    );
  });
});
