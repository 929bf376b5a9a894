import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { parseJson } from '../../src/http/json.ts';

function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function outcome(run: () => unknown): { value: unknown } | { rule: string | undefined } {
  try {
    return { value: run() };
  } catch (error) {
    const failure = error as { code?: string; errors?: { rule: string }[] };
    expect(failure.code).toBe('REQUEST_INVALID');
    return { rule: failure.errors?.[0]?.rule };
  }
}

const parse = (text: string) => outcome(() => parseJson(bytes(text)));

/** Well-formed, without U+0000 and `__proto__`, at most 8 deep: what the scanner has nothing against. */
const acceptable = fc
  .json({ maxDepth: 8, stringUnit: 'grapheme' })
  .filter((text) => !text.includes('__proto__') && !/\\u0000/.test(text));

describe('what JSON.parse and we agree on', () => {
  test('every acceptable text has the value that JSON.parse gives it', () => {
    fc.assert(
      fc.property(acceptable, (text) => {
        expect(parse(text)).toEqual({ value: JSON.parse(text) });
      }),
      { numRuns: 500 },
    );
  });

  test('a text that JSON.parse refuses is refused', () => {
    const tokens = fc.array(
      fc.constantFrom(
        '{',
        '}',
        '[',
        ']',
        ':',
        ',',
        '"a"',
        '"b"',
        '"\\"',
        '"',
        '\\',
        '1',
        'null',
        ' ',
        '"\\u0041"',
        'é',
      ),
      { maxLength: 12 },
    );
    let refused = 0;
    fc.assert(
      fc.property(tokens, (list) => {
        const text = list.join('');
        let valid = true;
        try {
          JSON.parse(text);
        } catch {
          valid = false;
        }
        if (valid) return;
        refused++;
        expect(parse(text)).toHaveProperty('rule');
      }),
      { numRuns: 3_000 },
    );
    expect(refused).toBeGreaterThan(1_000);
  });
});

describe('what only we refuse', () => {
  test('two keys of one object are equal exactly when the text is refused for it', () => {
    const key = fc.constantFrom('a', 'b', 'c', '"', '\\', 'é', 'long key', '𝄞');
    const spelt = fc.tuple(key, fc.boolean()).map(([name, escaped]) => ({
      name,
      text: escaped
        ? `"${[...Array(name.length).keys()].map((i) => unit(name, i)).join('')}"`
        : JSON.stringify(name),
    }));
    fc.assert(
      fc.property(fc.array(spelt, { maxLength: 12 }), fc.boolean(), (keys, nested) => {
        const object = `{${keys.map(({ text }) => `${text}:[{"a":1},"a"]`).join(', ')}}`;
        const repeated = new Set(keys.map(({ name }) => name)).size < keys.length;
        const result = parse(nested ? `[{"x":${object}}]` : object);
        expect('rule' in result ? result.rule : undefined).toBe(
          repeated ? 'equal keys in one object' : undefined,
        );
      }),
      { numRuns: 1_000 },
    );
  });

  test('equal keys are found among many', () => {
    const keys = Array.from({ length: 5_000 }, (_, i) => `"k${i}":0`);
    expect(parse(`{${keys.join(',')}}`)).toHaveProperty('value');
    expect(parse(`{${keys.join(',')},"k17":1}`)).toEqual({ rule: 'equal keys in one object' });
  });

  test.each([
    ['the key __proto__', '{"__proto__":{}}', 'unknown field'],
    ['the key __proto__ in escapes', '{"a":{"\\u005f_proto__":1}}', 'unknown field'],
    ['U+0000', '{"a":"\\u0000"}', 'strings must be well-formed and without U+0000'],
    ['U+0000 in a key', '{"\\u0000":1}', 'strings must be well-formed and without U+0000'],
    ['a lone surrogate', '["\\ud800"]', 'strings must be well-formed and without U+0000'],
    ['a surrogate pair turned round', '["\\udc00\\ud800"]', 'strings must be well-formed and without U+0000'],
    ['depth 17', `${'['.repeat(17)}${']'.repeat(17)}`, 'must not nest deeper than 16'],
    ['a byte order mark', '\ufeff{}', 'must not start with a byte order mark'],
    ['nothing', '', 'must be JSON'],
    ['an open string', '"abc', 'must be JSON'],
    ['an open string that ends in an escape', '"abc\\', 'must be JSON'],
    ['a closing bracket first', ']', 'must be JSON'],
  ])('%s is refused', (_name, text, rule) => {
    expect(parse(text)).toEqual({ rule });
  });

  test.each([
    ['__proto__ as a value', '["__proto__"]'],
    ['depth 16', `${'['.repeat(16)}${']'.repeat(16)}`],
    ['a surrogate pair in escapes', '["\\ud834\\udd1e"]'],
    ['escaped quotes and backslashes', '{"a\\"b":"\\\\","c":"\\\\\\""}'],
    ['the same key in two objects', '[{"a":1},{"a":{"a":2}}]'],
  ])('%s is accepted', (_name, text) => {
    expect(parse(text)).toEqual({ value: JSON.parse(text) });
  });

  test.each([
    ['an overlong form', [0x22, 0xc0, 0xaf, 0x22]],
    ['a surrogate in UTF-8', [0x22, 0xed, 0xa0, 0x80, 0x22]],
    ['a cut sequence', [0x22, 0xe2, 0x82, 0x22]],
  ])('%s is not UTF-8', (_name, list) => {
    expect(outcome(() => parseJson(Uint8Array.from(list)))).toEqual({ rule: 'must be UTF-8' });
  });

  test('a megabyte of brackets or escapes is refused or read without deep recursion', () => {
    expect(parse('['.repeat(1_000_000))).toEqual({ rule: 'must not nest deeper than 16' });
    expect(parse(`"${'\\"'.repeat(500_000)}"`)).toEqual({ value: '"'.repeat(500_000) });
  });
});

function unit(text: string, at: number): string {
  return `\\u${text.charCodeAt(at).toString(16).padStart(4, '0')}`;
}
