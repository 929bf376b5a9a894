/**
 * AES-GCM does not commit to its key: one ciphertext and tag can be made that opens under two keys. Whoever can choose
 * which key a KMS returns could then show one envelope as two plaintexts. The commitment is what refuses it.
 */
import { createCipheriv } from 'node:crypto';
import { expect, test } from '@jest/globals';
import { commitmentOf, deriveMessageSecrets, openChunk } from '../../src/crypto/cobblestone.ts';
import { createOpener, open, seal } from '../../src/crypto/message.ts';
import { bytes, outcomeOf } from './samples.ts';

const REDUCTION = 0xe1n << 120n;
const ONE = 1n << 127n;

const toField = (block: Uint8Array) => BigInt(`0x${Buffer.from(block).toString('hex')}`);
const fromField = (value: bigint) => Buffer.from(value.toString(16).padStart(32, '0'), 'hex');

/** Product in GF(2^128) with the bit order of NIST SP 800-38D, 6.3. */
function multiply(x: bigint, y: bigint): bigint {
  let sum = 0n;
  let shifted = y;
  for (let bit = 127n; bit >= 0n; bit--) {
    if ((x >> bit) & 1n) sum ^= shifted;
    shifted = shifted & 1n ? (shifted >> 1n) ^ REDUCTION : shifted >> 1n;
  }
  return sum;
}

/** x^(2^128 - 2). */
function invert(x: bigint): bigint {
  let result = ONE;
  let power = x;
  for (let i = 1; i < 128; i++) {
    power = multiply(power, power);
    result = multiply(result, power);
  }
  return result;
}

function aesBlock(key: Uint8Array, block: Uint8Array): Uint8Array {
  return createCipheriv('aes-256-ecb', key, null).setAutoPadding(false).update(block);
}

/** Key, nonce, hash key H, tag mask E and first key stream block of the first chunk under derived secrets. */
function chunkZero(secrets: Uint8Array) {
  const key = secrets.subarray(0, 32);
  const block = (counter: number) => Buffer.concat([secrets.subarray(32, 44), Buffer.of(0, 0, 0, counter)]);
  return {
    h: toField(aesBlock(key, new Uint8Array(16))),
    e: toField(aesBlock(key, block(1))),
    stream: aesBlock(key, block(2)),
  };
}

/** Two ciphertext blocks and a tag that AES-256-GCM accepts under both secrets; the first reads `text` under `a`. */
function salamander(a: Uint8Array, b: Uint8Array, text: Uint8Array): Uint8Array {
  const [one, two] = [chunkZero(a), chunkZero(b)];
  const c1 = toField(text.map((byte, i) => byte ^ (one.stream[i] ?? 0)));
  const lengths = 256n;
  const square = (h: bigint) => multiply(h, h);
  const cube = (h: bigint) => multiply(square(h), h);
  const right = multiply(c1, cube(one.h) ^ cube(two.h)) ^ multiply(lengths, one.h ^ two.h) ^ one.e ^ two.e;
  const c2 = multiply(right, invert(square(one.h) ^ square(two.h)));
  const tag = multiply(c1, cube(one.h)) ^ multiply(c2, square(one.h)) ^ multiply(lengths, one.h) ^ one.e;
  return Buffer.concat([fromField(c1), fromField(c2), fromField(tag)]);
}

const keyA = bytes(32, 1);
const keyB = bytes(32, 2);
const contextOf = (header: Uint8Array) => header;

/** A message sealed for key A whose only chunk AES-GCM accepts under what key A and what key B derive. */
function twoFacedMessage() {
  const message = seal(keyA, bytes(16, 0x30), contextOf, new Uint8Array(32));
  const [header, salt] = [message.subarray(0, 24), message.subarray(24, 48)];
  const secretsA = deriveMessageSecrets(keyA, salt, contextOf(header));
  const secretsB = deriveMessageSecrets(keyB, salt, contextOf(header));
  message.set(salamander(secretsA, secretsB, Buffer.from('benign, all fine')), 80);
  return { message, secretsA, secretsB };
}

test('AES-GCM alone opens one chunk under two keys, to two plaintexts', () => {
  const { message, secretsA, secretsB } = twoFacedMessage();
  const chunk = message.subarray(80);
  const [a, b] = [openChunk(secretsA, 0, chunk), openChunk(secretsB, 0, chunk)];
  expect(Buffer.from(a.subarray(0, 16)).toString()).toBe('benign, all fine');
  expect(Buffer.compare(a, b)).not.toBe(0);
});

test('the commitment refuses the second key, although its chunk would have opened', () => {
  const { message } = twoFacedMessage();
  expect(outcomeOf(() => open(keyA, message, contextOf))).toBe('success');
  expect(outcomeOf(() => open(keyB, message, contextOf))).toBe('DECRYPT_FAILED/commitment');
});

test('a stream refuses the second key as soon as the commitment has arrived', () => {
  const { message } = twoFacedMessage();
  const opener = createOpener(keyB, contextOf);
  expect(opener.update(message.subarray(0, 79))).toEqual([]);
  expect(outcomeOf(() => opener.update(message.subarray(79, 80)))).toBe('DECRYPT_FAILED/commitment');
});

test('exchanging the commitment moves the message to the second key and takes it from the first', () => {
  const { message, secretsB } = twoFacedMessage();
  message.set(commitmentOf(secretsB), 48);
  expect(outcomeOf(() => open(keyB, message, contextOf))).toBe('success');
  expect(outcomeOf(() => open(keyA, message, contextOf))).toBe('DECRYPT_FAILED/commitment');
});
