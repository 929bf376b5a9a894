import { readdirSync, readFileSync } from 'node:fs';
import { expect, test } from '@jest/globals';

const source = new URL('../../src/', import.meta.url);
const modules = readdirSync(source, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts'))
  .map((name) => ({ name, text: readFileSync(new URL(name, source), 'utf8') }));
const core = modules.filter(({ name }) => name.startsWith('crypto/'));

test('the crypto core imports node:crypto, the brand, the errors and itself, and nothing else', () => {
  expect(core.length).toBeGreaterThan(10);
  for (const { name, text } of core) {
    for (const [, from = ''] of text.matchAll(/from '([^']+)'/g)) {
      expect([name, from]).toEqual([
        name,
        expect.stringMatching(/^(node:crypto|\.\.\/(brand|errors)\.ts|\.\/[a-z-]+\.ts)$/),
      ]);
    }
  }
});

test('the crypto core has no clock and no input or output', () => {
  for (const { name, text } of core) {
    expect([name, text.match(/\b(Date|performance|process|console|setTimeout|import\()\b/)?.[0]]).toEqual([
      name,
      undefined,
    ]);
  }
});

test('sealing with a given salt is for vectors: no module uses it', () => {
  for (const { name, text } of modules) {
    if (name === 'crypto/message.ts') continue;
    expect([name, text.includes('sealForVectors')]).toEqual([name, false]);
  }
});

test('the core calls nothing that is known to leave copies of keys', () => {
  for (const { name, text } of core) {
    expect([
      name,
      text.match(/\b(hkdfSync|createSecretKey|KeyObject\(|Buffer\.concat|Buffer\.alloc\b)/)?.[0],
    ]).toEqual([name, undefined]);
  }
});
