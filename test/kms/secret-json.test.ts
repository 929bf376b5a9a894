import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { replacePlaceholder, takeSecret } from '../../adapters/kms/secret-json.ts';

const utf8 = (text: string) => new TextEncoder().encode(text);
const parse = (body: Uint8Array) => JSON.parse(new TextDecoder().decode(body)) as Record<string, unknown>;

describe('takeSecret', () => {
  test('takes the bytes of any length in a buffer of their own and leaves filler that still parses', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), fc.boolean(), fc.boolean(), (key, escaped, spaced) => {
        const base64 = Buffer.from(key).toString('base64');
        const shown = escaped ? base64.replaceAll('/', '\\/') : base64;
        const colon = spaced ? ' : \n' : ':';
        const body = utf8(`{"KeyId"${colon}"k","Plaintext"${colon}"${shown}","EncryptionAlgorithm":"A"}`);
        const taken = takeSecret(body, ['Plaintext']);
        expect(taken).toEqual(new Uint8Array(key));
        expect(taken?.buffer.byteLength).toBe(key.length);
        const { Plaintext, ...rest } = parse(body);
        expect(Plaintext).toMatch(/^A*={0,2}$/);
        expect(rest).toEqual({ KeyId: 'k', EncryptionAlgorithm: 'A' });
      }),
    );
  });

  test.each([
    ['a value called Plaintext', '{"a":"Plaintext","b":"AQ=="}'],
    ['a nested member', '{"a":{"Plaintext":"AQ=="},"b":[{"Plaintext":"AQ=="}]}'],
    ['a quoted decoy', '{"a":"\\"Plaintext\\":\\"AQ==\\""}'],
    ['a value that is no string', '{"Plaintext":null,"b":"AQ=="}'],
    ['an empty body', ''],
    ['an open string', '{"Plaintext'],
  ])('finds nothing in %s and changes nothing', (_what, text) => {
    const body = utf8(text);
    expect(takeSecret(body, ['Plaintext'])).toBeUndefined();
    expect(body).toEqual(utf8(text));
  });

  test('finds the member behind decoys', () => {
    const body = utf8('{"Plaintexx":"AQ==","a":"Plaintext","n":[1,"x"],"Plaintext":"AgM="}');
    expect(takeSecret(body, ['Plaintext'])).toEqual(Uint8Array.of(2, 3));
  });

  test('finds a nested member, and only on its own path', () => {
    const path = ['data', 'plaintext'];
    const body = utf8(
      '{"plaintext":"AQ==","list":["data",{"plaintext":"AQ=="}],"x":{"data":{"plaintext":"AQ=="}},"dato":{"plaintext":"AQ=="},' +
        '"data":{"other":{"plaintext":"AQ=="},"plaintexx":"AQ==","plaintext":"AgM="},"after":{"plaintext":"AQ=="}}',
    );
    expect(takeSecret(body, path)).toEqual(Uint8Array.of(2, 3));
    expect(parse(body)).toMatchObject({
      plaintext: 'AQ==',
      data: { plaintext: 'AAA=' },
      after: { plaintext: 'AQ==' },
    });
    for (const text of [
      '{"data":{},"plaintext":"AQ=="}',
      '{"data":"plaintext","b":"AQ=="}',
      '{"data":[{"plaintext":"AQ=="}]}',
      '{"data":["plaintext","AQ=="]}',
      '["data",{"plaintext":"AQ=="}]',
      '{"data":{"data":{"plaintext":"AQ=="}}}',
      '{"a":{"b":"data"},"c":{"plaintext":"AQ=="}}',
      '{"data":null,"e":{"plaintext":"AQ=="}}',
    ]) {
      const other = utf8(text);
      expect([text, takeSecret(other, path)]).toEqual([text, undefined]);
      expect(other).toEqual(utf8(text));
    }
  });

  test('refuses text that is no base64', () => {
    expect(() => takeSecret(utf8('{"Plaintext":"a?=="}'), ['Plaintext'])).toThrow(SyntaxError);
  });
});

describe('replacePlaceholder', () => {
  test("puts the key's base64 where the placeholder's was, in a copy", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 16, maxLength: 100 }), (key) => {
        const placeholder = crypto.getRandomValues(new Uint8Array(key.length));
        const body = utf8(
          JSON.stringify({ KeyId: 'k', Plaintext: Buffer.from(placeholder).toString('base64') }),
        );
        const before = Uint8Array.from(body);
        const replaced = replacePlaceholder(body, placeholder, key);
        expect(parse(replaced)).toEqual({ KeyId: 'k', Plaintext: Buffer.from(key).toString('base64') });
        expect(body).toEqual(before);
        expect(replaced.buffer).not.toBe(body.buffer);
      }),
    );
  });

  test('refuses a body without the placeholder, with two, or of another length', () => {
    const placeholder = crypto.getRandomValues(new Uint8Array(32));
    const text = Buffer.from(placeholder).toString('base64');
    const key = new Uint8Array(32);
    expect(() => replacePlaceholder(utf8('{}'), placeholder, key)).toThrow();
    expect(() => replacePlaceholder(utf8(`["${text}","${text}"]`), placeholder, key)).toThrow();
    expect(() => replacePlaceholder(utf8(`["${text}"]`), placeholder, new Uint8Array(31))).toThrow();
  });
});
