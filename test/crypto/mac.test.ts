import { createHmac, hkdfSync, randomBytes } from 'node:crypto';
import { expect, test } from '@jest/globals';
import { equalSecret, expandSha512, hmac } from '../../src/crypto/mac.ts';

test('the MAC equals that of createHmac for every key length up to a block', () => {
  for (const [name, block] of [
    ['sha256', 64],
    ['sha512', 128],
  ] as const) {
    for (let n = 0; n <= block; n++) {
      const key = randomBytes(n);
      const text = randomBytes(n * 3);
      const expected = createHmac(name, key).update(text).digest('hex');
      const mac = hmac(name, key, text.subarray(0, n), text.subarray(n));
      expect(Buffer.from(mac).toString('hex')).toBe(expected);
    }
    expect(() => hmac(name, randomBytes(block + 1))).toThrow(RangeError);
  }
});

test('expansion equals the second half of HKDF for every length up to three blocks', () => {
  const salt = randomBytes(64);
  const ikm = randomBytes(32);
  const prk = createHmac('sha512', salt).update(ikm).digest();
  const info = randomBytes(77);
  for (let n = 1; n <= 192; n++) {
    const expected = Buffer.from(hkdfSync('sha512', ikm, salt, info, n)).toString('hex');
    expect(Buffer.from(expandSha512(prk, [info.subarray(0, 5), info.subarray(5)], n)).toString('hex')).toBe(
      expected,
    );
  }
  expect(() => expandSha512(prk, [info], 255 * 64 + 1)).toThrow(RangeError);
});

test('comparison never throws on different lengths', () => {
  expect(equalSecret(randomBytes(32), randomBytes(31))).toBe(false);
  expect(equalSecret(Buffer.from('same'), Buffer.from('same'))).toBe(true);
});
