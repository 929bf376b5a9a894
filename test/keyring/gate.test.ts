import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from '@jest/globals';
import type { Exploration } from './explorer.ts';

async function search<T>(what: string): Promise<T[]> {
  const script = fileURLToPath(new URL('./explore.ts', import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [script, what], { maxBuffer: 1 << 24 });
  return stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as T);
}

test('no schedule breaks a promise, over every interleaving of the bounded worlds', async () => {
  const found = await search<Exploration & { name: string }>('shipped');
  const nodes = found.reduce((sum, { nodes }) => sum + nodes, 0);
  const table = found.map((each) => `${String(each.nodes).padStart(9)}  ${each.name}`);
  process.stdout.write(
    `gate explorer: ${nodes} nodes (distinct states), 0 violations wanted\n${table.join('\n')}\n`,
  );
  expect(found.filter(({ violation }) => violation !== undefined)).toEqual([]);
  expect(found.filter(({ complete }) => !complete)).toEqual([]);
  expect(nodes).toBeGreaterThanOrEqual(1_000_000);
}, 900_000);

test('every planted mutant is found', async () => {
  const found = await search<{ name: string; killed: string }>('mutants');
  const killed = found.filter((mutant) => mutant.killed !== '');
  const table = found.map(
    (each) => `  ${each.killed === '' ? 'SURVIVED' : 'killed'}  ${each.name}: ${each.killed}`,
  );
  process.stdout.write(`gate mutants: ${killed.length} of ${found.length} killed\n${table.join('\n')}\n`);
  expect(found.filter((mutant) => mutant.killed === '')).toEqual([]);
}, 900_000);
