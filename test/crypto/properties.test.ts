import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { encodeContext, messageContext } from '../../src/crypto/context.ts';
import { decodeBase64, decodeId, encodeBase64, encodeId } from '../../src/crypto/encoding.ts';
import { commitIdentity, createKey, unwrapDataKey, wrapDataKey } from '../../src/crypto/keys.ts';
import { createOpener, createSealer, open, seal } from '../../src/crypto/message.ts';
import {
  authenticateBinding,
  authenticateHead,
  authenticateKeyRecord,
  BINDING_STATES,
  encodeKeyIdentity,
  parseBinding,
  parseHead,
  parseKeyRecord,
  verifyKeyRecord,
} from '../../src/crypto/records.ts';
import { bytes, DATA_IDENTITY, outcomeOf, ROOT_IDENTITY, recordKeys, WRAPPING } from './samples.ts';

const bytesOf = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
const anyText = (max: number) =>
  fc.string({ unit: 'binary', maxLength: max }).filter((text) => !text.includes('\0'));
const someText = (max: number) => anyText(max).filter((text) => text !== '');
const name = fc.stringMatching(/^[a-z0-9][a-z0-9._-]{0,63}$/);
const pairs = fc.array(fc.tuple(someText(8), anyText(8)), { maxLength: 5 }).map((list) => new Map(list));
const request = fc.record({
  tenant: someText(8),
  scope: name,
  purpose: name,
  resourceId: anyText(8),
  context: pairs,
});
type Request = typeof request extends fc.Arbitrary<infer T> ? T : never;

const key = bytes(32, 1);
const keyId = bytes(16, 0x30);
const contextOf = (of: Request) => (header: Uint8Array) => messageContext({ ...of, header });
const same = (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) === 0;
const plain = fc.uint8Array({ maxLength: 200 });

describe('messages', () => {
  test('open gives back what was sealed, under every context', () => {
    fc.assert(
      fc.property(bytesOf(32), bytesOf(16), request, plain, (k, id, of, text) => {
        expect(same(open(k, seal(k, id, contextOf(of), text), contextOf(of)), text)).toBe(true);
      }),
      { numRuns: 300 },
    );
  });

  test('every single-bit change fails', () => {
    fc.assert(
      fc.property(request, fc.uint8Array({ maxLength: 40 }), (of, text) => {
        const message = seal(key, keyId, contextOf(of), text);
        for (let bit = 0; bit < message.length * 8; bit++) {
          const changed = Uint8Array.from(message);
          changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
          expect(outcomeOf(() => open(key, changed, contextOf(of)))).toMatch(
            /^(ENVELOPE_MALFORMED|DECRYPT_FAILED)\//,
          );
        }
      }),
      { numRuns: 10 },
    );
  });

  test('every shorter and every longer message fails', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 40 }),
        fc.uint8Array({ minLength: 1, maxLength: 40 }),
        (text, tail) => {
          const ctx = (header: Uint8Array) => header;
          const message = seal(key, keyId, ctx, text);
          for (let cut = 0; cut < message.length; cut++) {
            expect(outcomeOf(() => open(key, message.subarray(0, cut), ctx))).not.toBe('success');
          }
          expect(outcomeOf(() => open(key, Uint8Array.of(...message, ...tail), ctx))).toBe(
            'DECRYPT_FAILED/tag',
          );
        },
      ),
      { numRuns: 20 },
    );
  });

  test('a message opens in no other request', () => {
    fc.assert(
      fc.property(request, request, plain, (one, two, text) => {
        const differs = !same(contextOf(one)(bytes(24, 0)), contextOf(two)(bytes(24, 0)));
        const outcome = outcomeOf(() => open(key, seal(key, keyId, contextOf(one), text), contextOf(two)));
        expect(outcome).toBe(differs ? 'DECRYPT_FAILED/commitment' : 'success');
      }),
      { numRuns: 300 },
    );
  });

  test('streams give and take the same bytes as whole messages, for every split', () => {
    const splits = fc.array(fc.integer({ min: 0, max: 60000 }), { maxLength: 8 });
    const length = fc.oneof(
      fc.constantFrom(0, 1, 16383, 16384, 16385, 32768),
      fc.integer({ min: 0, max: 50000 }),
    );
    fc.assert(
      fc.property(length, splits, splits, fc.integer({ min: 0, max: 255 }), (n, splitA, splitB, first) => {
        const text = bytes(n, first);
        const ctx = (header: Uint8Array) => header;
        const message = Buffer.concat(pump(createSealer(key, keyId, ctx), text, splitA));
        expect(same(open(key, message, ctx), text)).toBe(true);
        expect(same(Buffer.concat(pump(createOpener(key, ctx), message, splitB)), text)).toBe(true);
      }),
      { numRuns: 60 },
    );
  });
});

function pump(stream: ReturnType<typeof createSealer>, input: Uint8Array, splits: number[]): Uint8Array[] {
  const cuts = [...splits.filter((cut) => cut <= input.length).sort((a, b) => a - b), input.length];
  const ready: Uint8Array[] = [];
  let at = 0;
  for (const cut of cuts) {
    ready.push(...stream.update(input.subarray(at, cut)));
    at = cut;
  }
  return [...ready, ...stream.final()];
}

describe('contexts', () => {
  /** An independent reading of the pairs, which the encoder has no part in. */
  function decode(encoded: Uint8Array): [string, string][] {
    const view = Buffer.from(encoded);
    const list: [string, string][] = [];
    let at = 2;
    const field = () => {
      const length = view.readUInt16BE(at);
      at += 2 + length;
      return view.toString('utf8', at - length, at);
    };
    for (let i = 0; i < view.readUInt16BE(0); i++) list.push([field(), field()]);
    expect(at).toBe(view.length);
    return list;
  }

  test('the encoding can be read back, so two contexts never share one', () => {
    fc.assert(
      fc.property(pairs, (given) => {
        const list = decode(encodeContext(given));
        expect(new Map(list)).toEqual(given);
        const names = list.map(([pairName]) => Buffer.from(pairName));
        expect(names).toEqual([...names].sort(Buffer.compare));
      }),
      { numRuns: 500 },
    );
  });

  test('the order in which pairs are given does not matter', () => {
    fc.assert(
      fc.property(pairs, (given) => {
        expect(same(encodeContext(given), encodeContext(new Map([...given].reverse())))).toBe(true);
      }),
    );
  });
});

describe('stored objects', () => {
  const identity = fc.record({
    keyId: bytesOf(16),
    keyVersion: fc.integer({ min: 1, max: 0xffffffff }),
    createdMs: fc.maxSafeNat(),
    tenant: someText(12),
    scope: name,
  });
  const wrap = fc.record({
    wrapperId: bytesOf(16),
    kmsKeyVersion: anyText(12),
    wrapAlg: anyText(12),
    wrapped: fc.uint8Array({ minLength: 1, maxLength: 80 }),
  });
  const unique = (min: number, max: number) =>
    fc.uniqueArray(wrap, {
      minLength: min,
      maxLength: max,
      selector: (entry) => Buffer.from(entry.wrapperId).toString('hex'),
    });
  const wrapping = fc.constantFrom('one' as const, 'any' as const, 'all' as const).chain((mode) =>
    fc.record({
      generation: fc.maxSafeNat(),
      state: fc.constantFrom('active' as const, 'retired' as const),
      mode: fc.constant(mode),
      wraps: mode === 'one' ? unique(1, 1) : unique(2, 4),
    }),
  );

  test('a key record reads back as it was written, and writes back to the same bytes', () => {
    fc.assert(
      fc.property(identity, wrapping, bytesOf(32), (id, mutable, secret) => {
        const root = { ...id, kind: 'root' as const, purpose: '' };
        const object = authenticateKeyRecord(commitIdentity(root, secret), mutable, recordKeys);
        const parsed = parseKeyRecord(object);
        expect(parsed).toMatchObject({ ...root, ...mutable });
        expect(same(parsed.immutable.subarray(0, -32), encodeKeyIdentity(parsed))).toBe(true);
        expect(same(authenticateKeyRecord(parsed.immutable, parsed, recordKeys), object)).toBe(true);
      }),
      { numRuns: 200 },
    );
  });

  test('a binding and a head read back as they were written, and write back to the same bytes', () => {
    const binding = fc.record({
      bindingId: bytesOf(16),
      version: fc.integer({ min: 1, max: 0xffffffff }),
      state: fc.constantFrom(...BINDING_STATES),
      tenant: someText(12),
      provider: someText(12),
      keyRef: someText(40),
      access: fc.uint8Array({ maxLength: 60 }),
    });
    const head = fc.record({
      tenant: someText(12),
      scope: name,
      purpose: name,
      keyId: bytesOf(16).filter((id) => id.some((byte) => byte !== 0)),
      keyVersion: fc.integer({ min: 1, max: 0xffffffff }),
      generation: fc.maxSafeNat(),
    });
    fc.assert(
      fc.property(binding, head, (someBinding, someHead) => {
        const one = authenticateBinding(someBinding, recordKeys);
        expect(parseBinding(one)).toMatchObject(someBinding);
        expect(same(authenticateBinding(parseBinding(one), recordKeys), one)).toBe(true);
        const two = authenticateHead({ ...someHead, bindingId: undefined }, recordKeys);
        expect(parseHead(two)).toMatchObject(someHead);
        expect(same(authenticateHead(parseHead(two), recordKeys), two)).toBe(true);
      }),
      { numRuns: 200 },
    );
  });

  test('every single-bit change of a record and of a wrap fails', () => {
    const record = authenticateKeyRecord(commitIdentity(ROOT_IDENTITY, key), WRAPPING, recordKeys);
    const child = createKey(DATA_IDENTITY);
    const wrapped = wrapDataKey(key, keyId, child.immutable, child.secret);
    const uses = [
      [record, (input: Uint8Array) => verifyKeyRecord(input, recordKeys)],
      [wrapped, (input: Uint8Array) => unwrapDataKey(key, keyId, child.immutable, input)],
    ] as const;
    for (const [object, use] of uses) {
      for (let bit = 0; bit < object.length * 8; bit++) {
        const changed = Uint8Array.from(object);
        changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        expect(outcomeOf(() => use(changed))).toMatch(/^(KEY_RECORD_TAMPERED|RECORD_KEY_UNAVAILABLE)\//);
      }
    }
  });
});

describe('text forms', () => {
  test('each id and each byte string has exactly one spelling', () => {
    fc.assert(
      fc.property(bytesOf(16), fc.uint8Array({ maxLength: 40 }), (id, some) => {
        expect(decodeId('key_', encodeId('key_', id))).toEqual(id);
        expect(decodeBase64(encodeBase64(some))).toEqual(some);
      }),
    );
    const base32ish = fc.stringMatching(/^[a-z2-7]{26}$/);
    const base64ish = fc.stringMatching(/^([A-Za-z0-9+/]{4}){0,3}([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/);
    fc.assert(
      fc.property(base32ish, base64ish, (id, text) => {
        const [decodedId, decoded] = [decodeId('', id), decodeBase64(text)];
        if (decodedId !== undefined) expect(encodeId('', decodedId)).toBe(id);
        if (decoded !== undefined) expect(encodeBase64(decoded)).toBe(text);
      }),
      { numRuns: 1000 },
    );
  });
});
