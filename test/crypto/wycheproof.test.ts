import { createCipheriv, createDecipheriv, createHash, createHmac } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { inflateSync } from 'node:zlib';
import { describe, expect, test } from '@jest/globals';
import { openRaw, sealAfterSalt, sealChunk, sealedLength } from '../../src/crypto/cobblestone.ts';
import { RawOpener, RawSealer } from '../../src/crypto/cobblestone-stream.ts';
import { expandSha512 } from '../../src/crypto/mac.ts';
import { outcomeOf } from './samples.ts';

interface Vector {
  readonly tcId: number;
  readonly result: 'valid' | 'invalid';
  readonly flags: readonly string[];
  readonly msgLength?: number;
  readonly msgSha512?: string;
  readonly [field: string]: unknown;
}
interface Group {
  readonly tests: readonly Vector[];
}

function load(name: string): Vector[] {
  const url = new URL(`../vectors/wycheproof/${name}_test.json`, import.meta.url);
  const file = JSON.parse(readFileSync(url, 'utf8')) as { testGroups: Group[]; numberOfTests: number };
  const vectors = file.testGroups.flatMap((group) => group.tests.map((vector) => ({ ...group, ...vector })));
  expect(vectors.length).toBe(file.numberOfTests);
  return vectors;
}

const hexField = (vector: Vector, name: string) => Buffer.from(String(vector[name]), 'hex');
const sha512 = (bytes: Uint8Array) => createHash('sha512').update(bytes).digest('hex');

/** Lengths of pieces that differ from vector to vector and cross every boundary; the same in every run. */
function* pieces(bytes: Uint8Array, seed: number): Generator<Uint8Array> {
  let state = seed * 2654435761;
  for (let at = 0; at < bytes.length; ) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const length = 1 + (state % 40000);
    yield bytes.subarray(at, at + length);
    at += length;
  }
}

function openInPieces(vector: Vector, sealed: Uint8Array): { plaintext: Buffer; outcome: string } {
  const opener = new RawOpener(hexField(vector, 'key'), hexField(vector, 'ctx'));
  const ready: Uint8Array[] = [];
  const outcome = outcomeOf(() => {
    for (const piece of pieces(sealed, vector.tcId)) ready.push(...opener.update(piece));
    ready.push(...opener.final());
  });
  if (outcome !== 'success') expect(outcomeOf(() => opener.final())).toBe(outcome);
  return { plaintext: Buffer.concat(ready), outcome };
}

describe('Cobblestone-256', () => {
  const vectors = load('c2sp_chunked_encryption_aes_256_gcm').map((vector) => ({
    ...vector,
    sealed: inflateSync(hexField(vector, 'ct')),
  }));
  const valid = vectors.filter((vector) => vector.result === 'valid');
  const invalid = vectors.filter(
    (vector) => vector.result === 'invalid' && !vector.flags.includes('InvalidKeySize'),
  );
  const wrongKeySize = vectors.filter((vector) => vector.flags.includes('InvalidKeySize'));

  test('the file has 10 valid messages, 23 invalid ones and 2 keys of a wrong size', () => {
    expect([valid.length, invalid.length, wrongKeySize.length]).toEqual([10, 23, 2]);
  });

  test.each(valid)('$tcId opens, whole and in pieces', (vector) => {
    const plaintext = openRaw(hexField(vector, 'key'), vector.sealed, hexField(vector, 'ctx'));
    expect([plaintext.length, sha512(plaintext)]).toEqual([vector.msgLength, vector.msgSha512]);
    const streamed = openInPieces(vector, vector.sealed);
    expect([streamed.outcome, sha512(streamed.plaintext)]).toEqual(['success', vector.msgSha512]);
  });

  test.each(valid)('$tcId is sealed to the same bytes, whole, in pieces and from its chunk key', (vector) => {
    const [key, ctx] = [hexField(vector, 'key'), hexField(vector, 'ctx')];
    const plaintext = openRaw(key, vector.sealed, ctx);
    const salt = vector.sealed.subarray(0, 24);
    const out = new Uint8Array(sealedLength(plaintext.length));
    out.set(salt);
    sealAfterSalt(out, 0, key, ctx, plaintext);
    expect(Buffer.compare(out, vector.sealed)).toBe(0);

    const sealer = new RawSealer(key, ctx, salt);
    const ready: Uint8Array[] = [];
    for (const piece of pieces(plaintext, vector.tcId)) ready.push(...sealer.update(piece));
    expect(Buffer.compare(Buffer.concat([...ready, ...sealer.final()]), vector.sealed)).toBe(0);

    const secrets = Buffer.concat([hexField(vector, 'aeadKey'), hexField(vector, 'baseNonce')]);
    const last = Math.floor(plaintext.length / 16384);
    const chunk = plaintext.subarray(last * 16384);
    const sealedChunk = new Uint8Array(chunk.length + 16);
    sealChunk(secrets, last, chunk, sealedChunk, 0);
    expect(Buffer.compare(sealedChunk, vector.sealed.subarray(56 + last * 16400))).toBe(0);
  });

  test.each(invalid)('$tcId does not open: $comment', (vector) => {
    const outcome = outcomeOf(() => openRaw(hexField(vector, 'key'), vector.sealed, hexField(vector, 'ctx')));
    expect(outcome).toMatch(/^DECRYPT_FAILED\/(commitment|tag|truncated)$/);
    if (vector.flags.includes('HeaderFailure')) expect(outcome).not.toBe('DECRYPT_FAILED/tag');
    const streamed = openInPieces(vector, vector.sealed);
    expect(streamed.outcome).toBe(outcome);
    // Plaintext that came out before the failure is at most the longest valid prefix.
    expect(streamed.plaintext.length).toBeLessThanOrEqual(Number(vector.msgLength ?? 0));
  });

  test.each(wrongKeySize)('$tcId: a key of another size is refused when it is given', (vector) => {
    expect(() => openRaw(hexField(vector, 'key'), vector.sealed, hexField(vector, 'ctx'))).toThrow(
      RangeError,
    );
  });
});

describe('HKDF-SHA-512', () => {
  test('the Expand half gives every valid output and refuses every output that is too long', () => {
    let checked = 0;
    for (const vector of load('hkdf_sha512')) {
      const prk = createHmac('sha512', hexField(vector, 'salt')).update(hexField(vector, 'ikm')).digest();
      const expand = () => expandSha512(prk, [hexField(vector, 'info')], Number(vector.size));
      if (vector.result === 'valid') expect(Buffer.from(expand()).toString('hex')).toBe(vector.okm);
      else expect(expand).toThrow(RangeError);
      checked++;
    }
    expect(checked).toBe(83);
  });
});

describe('AES-GCM of the runtime', () => {
  const vectors = load('aes_gcm');
  const cipherName = (vector: Vector) => `aes-${vector.keySize}-gcm` as const;

  function open(vector: Vector): string {
    const options = { authTagLength: 16 };
    const decipher = createDecipheriv(
      cipherName(vector) as 'aes-256-gcm',
      hexField(vector, 'key'),
      hexField(vector, 'iv'),
      options,
    );
    decipher.setAAD(hexField(vector, 'aad'));
    decipher.setAuthTag(hexField(vector, 'tag'));
    const text = decipher.update(hexField(vector, 'ct'));
    decipher.final();
    return text.toString('hex');
  }

  function seal(vector: Vector): string {
    const options = { authTagLength: 16 };
    const cipher = createCipheriv(
      cipherName(vector) as 'aes-256-gcm',
      hexField(vector, 'key'),
      hexField(vector, 'iv'),
      options,
    );
    cipher.setAAD(hexField(vector, 'aad'));
    const text = cipher.update(hexField(vector, 'msg'));
    cipher.final();
    return text.toString('hex') + cipher.getAuthTag().toString('hex');
  }

  // Nonces of 2,056 bits, which the runtime does not take. Ours have 96 bits.
  const REFUSED_VALID = new Set([268, 272, 276]);

  test('every valid vector opens and seals to the same bytes, every invalid one fails', () => {
    const refusedValid: number[] = [];
    for (const vector of vectors) {
      if (vector.result === 'invalid') {
        expect(() => open(vector)).toThrow();
        continue;
      }
      try {
        expect([open(vector), seal(vector)]).toEqual([vector.msg, `${vector.ct}${vector.tag}`]);
      } catch (error) {
        if (!(error as Error).message.includes('Invalid initialization vector')) throw error;
        refusedValid.push(vector.tcId);
      }
    }
    expect(new Set(refusedValid)).toEqual(REFUSED_VALID);
  });
});
