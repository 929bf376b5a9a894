import { describe, expect, test } from '@jest/globals';
import {
  decodeBase64,
  decodeId,
  encodeBase64,
  encodeId,
  lp16,
  newId,
  Reader,
  u16,
  u32,
  u64,
  utf8,
  Writer,
} from '../../src/crypto/encoding.ts';
import { bytes, outcomeOf } from './samples.ts';

describe('ids', () => {
  test('an id is its prefix and 26 lower-case base32 characters', () => {
    expect(encodeId('key_', bytes(16, 0))).toBe('key_aaaqeayeaudaocajbifqydiob4');
    expect(encodeId('key_', new Uint8Array(16).fill(255))).toBe(`key_${'7'.repeat(25)}4`);
  });

  test('decoding gives the same bytes back', () => {
    for (let i = 0; i < 200; i++) {
      const id = newId();
      expect(Buffer.compare(decodeId('key_', encodeId('key_', id)) ?? bytes(0, 0), id)).toBe(0);
    }
  });

  test.each([
    ['another prefix', 'ten_aaaqeayeaudaocajbifqydiob4'],
    ['upper case', 'key_AAAQEAYEAUDAOCAJBIFQYDIOB4'],
    ['a spare bit set', 'key_aaaqeayeaudaocajbifqydiob5'],
    ['a character outside the alphabet', 'key_aaaqeayeaudaocajbifqydiob1'],
    ['one character less', 'key_aaaqeayeaudaocajbifqydiob'],
    ['padding', 'key_aaaqeayeaudaocajbifqydiob4======'],
    ['a character of two UTF-16 units', 'key_aaaqeayeaudaocajbifqydi😀4'],
    ['nothing', ''],
  ])('%s is refused', (_, text) => {
    expect(decodeId('key_', text)).toBeUndefined();
  });
});

describe('base64', () => {
  test('every length round-trips', () => {
    for (let n = 0; n < 40; n++)
      expect([...(decodeBase64(encodeBase64(bytes(n, 200))) ?? [])]).toEqual([...bytes(n, 200)]);
  });

  test.each(['QQ', 'QR==', 'QUI', 'QUJ=', 'Q', '_-8=', 'QU I', 'QQ==\n', '====', 'QQ==QQ==', 'QUI=ABCD'])(
    'the spelling %j is refused',
    (text) => {
      expect(decodeBase64(text)).toBeUndefined();
    },
  );
});

describe('text', () => {
  test('a lone surrogate and U+0000 are refused', () => {
    expect(outcomeOf(() => utf8('a\ud800'))).toBe('REQUEST_INVALID/text');
    expect(outcomeOf(() => utf8('a\0b'))).toBe('REQUEST_INVALID/text');
  });

  test('text is encoded as given, without normalisation', () => {
    expect([...utf8('e\u0301')]).toEqual([0x65, 0xcc, 0x81]);
  });
});

describe('integers and lengths', () => {
  test('are big-endian', () => {
    expect([...u16(0x1234)]).toEqual([0x12, 0x34]);
    expect([...u32(0xfedcba98)]).toEqual([0xfe, 0xdc, 0xba, 0x98]);
    expect([...u64(2 ** 53 - 1)]).toEqual([0, 0x1f, 255, 255, 255, 255, 255, 255]);
    expect([...lp16(bytes(2, 7))]).toEqual([0, 2, 7, 8]);
  });

  test('out of range is refused', () => {
    expect(() => u16(65536)).toThrow(RangeError);
    expect(() => u32(-1)).toThrow(RangeError);
    expect(() => u64(2 ** 53)).toThrow(RangeError);
    expect(() => lp16(new Uint8Array(65536))).toThrow(RangeError);
    expect(() => new Writer(1).u16(1)).toThrow(RangeError);
  });
});

describe('reader', () => {
  const reader = (input: number[]) => new Reader(Uint8Array.from(input), (word) => new Error(word));

  test('never reads past the end', () => {
    expect(() => reader([0]).u16()).toThrow('length');
    expect(() => reader([0, 3, 1, 2]).lp16()).toThrow('length');
    expect(() => reader([]).u8()).toThrow('length');
  });

  test('refuses trailing bytes, large integers and ill-formed text', () => {
    expect(() => reader([0]).end()).toThrow('trailing');
    expect(() => reader([0, 0x20, 0, 0, 0, 0, 0, 0]).u64()).toThrow('integer');
    expect(() => reader([0, 1, 0xff]).text()).toThrow('text');
    expect(() => reader([0, 1, 0]).text()).toThrow('text');
  });
});
