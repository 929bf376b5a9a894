import { randomBytes } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import { messageContext } from '../../src/crypto/context.ts';
import {
  createOpener,
  createSealer,
  messageLength,
  open,
  parseMessage,
  seal,
} from '../../src/crypto/message.ts';
import { bytes, outcomeOf } from './samples.ts';

const key = bytes(32, 1);
const keyId = bytes(16, 0x30);
const contextOf = (header: Uint8Array) =>
  messageContext({
    header,
    tenant: 'ten_a',
    scope: 'default',
    purpose: 'p',
    resourceId: 'r',
    context: { a: 'b' },
  });
const LENGTHS = [0, 1, 64, 16383, 16384, 16385, 32768, 50000];

describe('whole messages', () => {
  test('seal and open give the plaintext back at every chunk boundary', () => {
    for (const n of LENGTHS) {
      const plaintext = randomBytes(n);
      const message = seal(key, keyId, contextOf, plaintext);
      expect(message.length).toBe(messageLength(n));
      expect(Buffer.compare(open(key, message, contextOf), plaintext)).toBe(0);
    }
  });

  test('the header names the key at fixed offsets', () => {
    const message = seal(key, keyId, contextOf, bytes(3, 0));
    expect(Buffer.from(message.subarray(0, 24)).toString('hex')).toBe(
      `8e4b544d01010000${Buffer.from(keyId).toString('hex')}`,
    );
    expect([...parseMessage(message).keyId]).toEqual([...keyId]);
  });

  test('two messages of one plaintext share neither salt nor commitment', () => {
    const [a, b] = [seal(key, keyId, contextOf, key), seal(key, keyId, contextOf, key)];
    expect(Buffer.compare(a.subarray(24, 48), b.subarray(24, 48))).not.toBe(0);
    expect(Buffer.compare(a.subarray(48, 80), b.subarray(48, 80))).not.toBe(0);
  });

  test.each([
    [0, 'ENVELOPE_MALFORMED/magic'],
    [4, 'ENVELOPE_MALFORMED/version'],
    [5, 'ENVELOPE_MALFORMED/suite'],
    [7, 'ENVELOPE_MALFORMED/flags'],
    [8, 'DECRYPT_FAILED/commitment'],
    [24, 'DECRYPT_FAILED/commitment'],
    [79, 'DECRYPT_FAILED/commitment'],
    [80, 'DECRYPT_FAILED/tag'],
  ])('a change at offset %i is %s', (at, expected) => {
    const message = seal(key, keyId, contextOf, bytes(10, 0));
    message[at] = (message[at] ?? 0) ^ 4;
    expect(outcomeOf(() => open(key, message, contextOf))).toBe(expected);
  });

  test('a message cut anywhere does not open', () => {
    const message = seal(key, keyId, contextOf, randomBytes(16384 + 20));
    const outcomes = new Set<string>();
    for (const cut of [
      0,
      23,
      24,
      79,
      80,
      95,
      96,
      80 + 16399,
      80 + 16400,
      80 + 16400 + 15,
      message.length - 1,
    ]) {
      outcomes.add(outcomeOf(() => open(key, message.subarray(0, cut), contextOf)));
    }
    expect([...outcomes].sort()).toEqual([
      'DECRYPT_FAILED/tag',
      'DECRYPT_FAILED/truncated',
      'ENVELOPE_MALFORMED/length',
    ]);
  });
});

describe('streams', () => {
  test('a sealed stream opens whole and a sealed message opens as a stream, byte by byte', () => {
    const plaintext = randomBytes(40000);
    const sealer = createSealer(key, keyId, contextOf);
    const message = Buffer.concat([
      ...sealer.update(plaintext.subarray(0, 30001)),
      ...sealer.update(plaintext.subarray(30001)),
      ...sealer.final(),
    ]);
    expect(Buffer.compare(open(key, message, contextOf), plaintext)).toBe(0);
    const opener = createOpener(key, contextOf);
    const pieces: Uint8Array[] = [];
    for (const byte of message) pieces.push(...opener.update(Uint8Array.of(byte)));
    pieces.push(...opener.final());
    expect(Buffer.compare(Buffer.concat(pieces), plaintext)).toBe(0);
  });

  test('a stream that is cut never ends cleanly', () => {
    const message = seal(key, keyId, contextOf, randomBytes(16384 + 20));
    for (const cut of [
      0,
      5,
      24,
      50,
      79,
      80,
      95,
      96,
      80 + 16399,
      80 + 16400,
      80 + 16400 + 15,
      message.length - 1,
    ]) {
      const opener = createOpener(key, contextOf);
      opener.update(message.subarray(0, cut));
      const first = outcomeOf(() => opener.final());
      expect(first).toBe(outcomeOf(() => open(key, message.subarray(0, cut), contextOf)));
      expect(first).not.toBe('success');
      expect(outcomeOf(() => opener.final())).toBe(first);
      expect(outcomeOf(() => opener.update(message))).toBe(first);
    }
  });

  test('a stream that ended or was given up takes no more calls', () => {
    const sealer = createSealer(key, keyId, contextOf);
    sealer.final();
    expect(() => sealer.final()).toThrow('ended');
    const opener = createOpener(key, contextOf);
    opener.update(seal(key, keyId, contextOf, bytes(3, 0)));
    opener.abort();
    opener.abort();
    expect(() => opener.final()).toThrow('ended');
  });
});
