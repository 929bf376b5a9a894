import { describe, expect, test } from '@jest/globals';
import {
  encodeContext,
  isOwnPurpose,
  isPurpose,
  isScope,
  kmsContextBytes,
  messageContext,
} from '../../src/crypto/context.ts';
import { bytes, outcomeOf } from './samples.ts';

const hex = (value: Uint8Array) => Buffer.from(value).toString('hex');

describe('encryption context', () => {
  test('pairs are sorted by their UTF-8 bytes, where JavaScript sorts otherwise', () => {
    const sorted = encodeContext({ '\u{1f600}': 'a', '\uffee': 'b' });
    expect(hex(sorted)).toBe('0002' + '0003efbfae' + '000162' + '0004f09f9880' + '000161');
  });

  test('a record and a map with the same pairs give the same bytes, in any order', () => {
    const record = JSON.parse('{"__proto__":"1","b":"","a":"x"}');
    const map = new Map([
      ['a', 'x'],
      ['b', ''],
      ['__proto__', '1'],
    ]);
    expect(hex(encodeContext(record))).toBe(hex(encodeContext(map)));
    expect(encodeContext(record)[1]).toBe(3);
  });

  test.each([
    ['17 pairs', Object.fromEntries(Array.from({ length: 17 }, (_, i) => [`n${i}`, ''])), 'context-pairs'],
    ['an empty name', { '': 'x' }, 'context-name'],
    ['a value that is no string', JSON.parse('{"a":1}'), 'context-value'],
    ['8,193 bytes', { a: 'x'.repeat(8192) }, 'context-size'],
    ['a lone surrogate', { a: '\udc00' }, 'text'],
    ['a zero character', { 'a\0': '' }, 'text'],
  ])('%s is refused', (_, context, detail) => {
    expect(outcomeOf(() => encodeContext(context))).toBe(`REQUEST_INVALID/${detail}`);
  });

  test('16 pairs and 8,192 bytes are allowed', () => {
    expect(encodeContext({ a: 'x'.repeat(8191) }).length).toBe(2 + 4 + 8192);
    expect(encodeContext(Object.fromEntries(Array.from({ length: 16 }, (_, i) => [`n${i}`, ''])))[1]).toBe(
      16,
    );
  });
});

test('a message context has label, header and each field with its length', () => {
  const context = messageContext({
    header: bytes(24, 1),
    tenant: 'ten_a',
    scope: 'default',
    purpose: 'p',
    resourceId: '',
    context: {},
  });
  const text = (value: string) => hex(new TextEncoder().encode(value));
  expect(hex(context)).toBe(
    `${text('keytether/v1 message\0')}${hex(bytes(24, 1))}0005${text('ten_a')}0007${text('default')}0001${text('p')}00000000`,
  );
});

test('a resource id has at most 1,024 bytes', () => {
  const of = (resourceId: string) => () =>
    messageContext({ header: bytes(24, 1), tenant: 't', scope: 's', purpose: 'p', resourceId, context: {} });
  expect(outcomeOf(of('é'.repeat(512)))).toBe('success');
  expect(outcomeOf(of(`${'é'.repeat(512)}x`))).toBe('REQUEST_INVALID/resource-id');
});

test('the KMS context carries tenant, scope and key', () => {
  const text = Buffer.from(kmsContextBytes({ tenant: 'ten_a', scope: 'default', key: 'key_b' })).toString(
    'latin1',
  );
  expect(text).toBe('keytether/v1 kms-aad\0\0\x05ten_a\0\x07default\0\x05key_b');
});

test('names of scopes and purposes', () => {
  for (const name of ['a', 'default', '0.x_y-z', 'a'.repeat(64)])
    expect([isScope(name), isPurpose(name)]).toEqual([true, true]);
  for (const name of ['', 'A', '-a', '~a', 'a'.repeat(65), 'a\n', 'é'])
    expect([isScope(name), isPurpose(name)]).toEqual([false, false]);
  expect(isOwnPurpose('~credentials')).toBe(true);
  for (const name of ['credentials', '~', '~~a', '~a\n']) expect(isOwnPurpose(name)).toBe(false);
});
