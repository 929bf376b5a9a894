import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { fromBase64, isBase64, toBase64 } from '../../src/http/base64.ts';

test('bytes survive the way there and back', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
      const text = toBase64(bytes);
      expect(isBase64(text)).toBe(true);
      expect([...fromBase64(text)]).toEqual([...bytes]);
    }),
  );
});

test('a text is accepted exactly when it is what its bytes encode to', () => {
  const part = fc.constantFrom(
    'A',
    'B',
    'Q',
    'w',
    '/',
    '+',
    '-',
    '_',
    '=',
    ' ',
    '\n',
    '\u0141',
    'é',
    'z',
    '8',
  );
  fc.assert(
    fc.property(fc.array(part, { maxLength: 9 }), (parts) => {
      const text = parts.join('');
      expect(isBase64(text)).toBe(Buffer.from(text, 'base64').toString('base64') === text);
    }),
    { numRuns: 5_000 },
  );
});

test('decoded bytes stand in a buffer of their own', () => {
  expect(fromBase64('QUJD').buffer.byteLength).toBe(3);
});
