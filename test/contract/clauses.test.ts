import { readFileSync } from 'node:fs';
import { expect, test } from '@jest/globals';
import { CLAUSES } from './clauses.ts';

test('adapters/README.md has the clauses word for word', () => {
  const readme = readFileSync('adapters/README.md', 'utf8');
  const rows = [...readme.matchAll(/^\| (K\d+) *\| (.*?) *\|$/gm)].map(([, number, text]) => [number, text]);
  expect(rows).toEqual(Object.entries(CLAUSES));
});
