import { readFileSync } from 'node:fs';
import { expect, test } from '@jest/globals';
import { parseVector } from './vector-file.ts';

const page = readFileSync(new URL('../../src/crypto/FORMAT.md', import.meta.url), 'utf8');
const blocks = [...page.matchAll(/^```hex (\S+)\n([^`]*)^```/gm)].map(([, name = '', text = '']) => ({
  name,
  text,
}));

/** The hex of a block: what stands before two spaces and a comment in each line. */
function hexOf(text: string): string {
  const columns = text.split('\n').map((line) => line.trim().split(/ {2,}/)[0] ?? '');
  return columns.join('').replaceAll(' ', '');
}

test('the page shows each kind of object', () => {
  expect(blocks.map((block) => block.name)).toEqual([
    'message-1-byte',
    'wrap-data-key',
    'key-record-root',
    'binding-active',
    'head-data',
  ]);
});

test.each(blocks)('the bytes of $name on the page are those of the vector', ({ name, text }) => {
  const file = new URL(`../vectors/keytether/${name}.txt`, import.meta.url);
  const vector = parseVector(name, readFileSync(file, 'utf8'));
  expect(hexOf(text)).toBe(Buffer.from(vector.body).toString('hex'));
});
