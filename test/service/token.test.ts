import { createHash } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import { mintToken, parseToken, type TokenKind } from '../../src/service/token.ts';

const KINDS: [TokenKind, string][] = [
  ['api-key', 'ktt_'],
  ['operator', 'kto_'],
  ['invitation', 'kti_'],
];
const ALPHABET = 'abcdefghijklmnopqrstuvwxyz234567';

/** The plain way: bits as text. */
function base32Bytes(text: string): Uint8Array {
  const bits = [...text].map((c) => ALPHABET.indexOf(c).toString(2).padStart(5, '0')).join('');
  return Uint8Array.from(bits.match(/.{8}/g) ?? [], (byte) => Number.parseInt(byte, 2));
}

describe.each(KINDS)('a token of kind %s', (kind, prefix) => {
  test('reads back as the principal and the SHA-256 that were minted', () => {
    const minted = mintToken(kind);
    expect(minted.token).toMatch(new RegExp(`^${prefix}[a-z2-7]{26}_[a-z2-7]{59}$`));
    expect(minted.principalId).toBe(`prn_${minted.token.slice(4, 30)}`);
    const { token: _token, ...rest } = minted;
    expect(parseToken(minted.token)).toEqual(rest);
  });

  test('stores SHA-256 of the secret’s 32 bytes', () => {
    const minted = mintToken(kind);
    const secret = base32Bytes(minted.token.slice(31, 83));
    expect(secret.byteLength).toBe(32);
    const expected = createHash('sha256').update(secret).digest('hex');
    expect(Buffer.from(minted.secretSha256).toString('hex')).toBe(expected);
  });

  test('is refused with any one character changed, dropped or added', () => {
    const { token } = mintToken(kind);
    for (let i = 0; i < token.length; i++) {
      for (const c of ['a', 'b', '7', 'A', '_', '-', ' ', '\u0161']) {
        const changed = token.slice(0, i) + c + token.slice(i + 1);
        if (changed !== token) expect([i, c, parseToken(changed)]).toEqual([i, c, undefined]);
        expect(parseToken(token.slice(0, i) + c + token.slice(i))).toBeUndefined();
      }
      expect(parseToken(token.slice(0, i) + token.slice(i + 1))).toBeUndefined();
    }
  });
});

test('spare bits that are not zero are refused although the checksum is right', async () => {
  const { crc32 } = await import('node:zlib');
  const { token } = mintToken();
  const body = token.slice(0, 83);
  for (const at of [29, 82]) {
    const spare = ALPHABET[(ALPHABET.indexOf(body.charAt(at)) | 1) & 31] ?? '';
    const forged = body.slice(0, at) + spare + body.slice(at + 1);
    expect(forged).not.toBe(body);
    const bits = `${crc32(forged).toString(2).padStart(32, '0')}000`;
    const sum = (bits.match(/.{5}/g) ?? []).map((five) => ALPHABET[Number.parseInt(five, 2)]).join('');
    expect(parseToken(forged + sum)).toBeUndefined();
  }
});

test('two tokens share neither id nor secret', () => {
  const [one, two] = [mintToken(), mintToken()];
  expect(one.principalId).not.toBe(two.principalId);
  expect(one.secretSha256).not.toEqual(two.secretSha256);
});
