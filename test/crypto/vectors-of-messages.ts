/** Vectors of messages and of encryption contexts. */
import { encodeContext, messageContext } from '../../src/crypto/context.ts';
import { sealForVectors } from '../../src/crypto/message.ts';
import { bytes, DATA_IDENTITY } from './samples.ts';
import { flip, hex, join, patch, type Vector } from './vector-file.ts';

export const SALT = bytes(24, 0x80);
const KEY = bytes(32, 0x01);
const KEY_ID = DATA_IDENTITY.keyId;
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

export function messageVectors(): Vector[] {
  return [...goodMessages(), ...badMessages(), ...contexts()];
}
