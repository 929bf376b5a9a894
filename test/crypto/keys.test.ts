import { describe, expect, test } from '@jest/globals';
import { createKey, openRecordKey, unwrapDataKey, wrapDataKey } from '../../src/crypto/keys.ts';
import { parseKeyImmutable } from '../../src/crypto/records.ts';
import { bytes, DATA_IDENTITY, outcomeOf, ROOT_IDENTITY } from './samples.ts';

const root = createKey(ROOT_IDENTITY);
const rootRecord = { ...parseKeyImmutable(root.immutable), immutable: root.immutable };
const rootKey = openRecordKey(root.secret, rootRecord);
const child = createKey({ ...DATA_IDENTITY, keyId: bytes(16, 0x77) });

describe('record keys', () => {
  test('S opens the key that its record commits to, and K is not S', () => {
    expect(Buffer.compare(openRecordKey(root.secret, rootRecord), rootKey)).toBe(0);
    expect(Buffer.compare(rootKey, root.secret)).not.toBe(0);
  });

  test('a KMS that returns other bytes is found out', () => {
    expect(outcomeOf(() => openRecordKey(bytes(32, 0), rootRecord))).toBe('KMS_INTEGRITY/commitment');
    expect(outcomeOf(() => openRecordKey(bytes(31, 0), rootRecord))).toBe('KMS_INTEGRITY/length');
    const data = { ...parseKeyImmutable(child.immutable), immutable: child.immutable };
    expect(outcomeOf(() => openRecordKey(bytes(32, 0), data))).toBe('KEY_RECORD_TAMPERED/commitment');
  });

  test('the same S under another tenant does not open', () => {
    const immutable = Uint8Array.from(root.immutable);
    immutable[40] = (immutable[40] ?? 0) ^ 1;
    expect(outcomeOf(() => openRecordKey(root.secret, { ...rootRecord, immutable }))).toBe(
      'KMS_INTEGRITY/commitment',
    );
  });

  test('new keys have an id and a secret of their own', () => {
    const [a, b] = [createKey(ROOT_IDENTITY), createKey({ ...ROOT_IDENTITY, keyId: bytes(16, 1) })];
    expect(Buffer.compare(a.secret, b.secret)).not.toBe(0);
    expect([...b.keyId]).toEqual([...bytes(16, 1)]);
  });
});

describe('data keys', () => {
  const wrapped = wrapDataKey(rootKey, root.keyId, child.immutable, child.secret);

  test('unwrapping gives S back', () => {
    expect(wrapped.length).toBe(128);
    expect(Buffer.compare(unwrapDataKey(rootKey, root.keyId, child.immutable, wrapped), child.secret)).toBe(
      0,
    );
  });

  test('a wrap belongs to one root and one child', () => {
    const other = createKey(DATA_IDENTITY);
    expect(outcomeOf(() => unwrapDataKey(rootKey, root.keyId, other.immutable, wrapped))).toBe(
      'KEY_RECORD_TAMPERED/wrap-commitment',
    );
    expect(outcomeOf(() => unwrapDataKey(bytes(32, 0), root.keyId, child.immutable, wrapped))).toBe(
      'KEY_RECORD_TAMPERED/wrap-commitment',
    );
    expect(outcomeOf(() => unwrapDataKey(rootKey, bytes(16, 9), child.immutable, wrapped))).toBe(
      'KEY_RECORD_TAMPERED/wrap-parent',
    );
    expect(
      outcomeOf(() => unwrapDataKey(rootKey, root.keyId, child.immutable, wrapped.subarray(0, 90))),
    ).toBe('KEY_RECORD_TAMPERED/wrap-truncated');
  });

  test('only 32 bytes are wrapped', () => {
    expect(() => wrapDataKey(rootKey, root.keyId, child.immutable, bytes(31, 0))).toThrow(RangeError);
  });
});
