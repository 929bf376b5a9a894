import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, expect, test } from '@jest/globals';
import type { RunResult } from './run.ts';

const table: string[] = [];

async function runOf(policy: string): Promise<RunResult> {
  const script = fileURLToPath(new URL('./run.ts', import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [script, policy]);
  const result = JSON.parse(stdout) as RunResult;
  const { seconds, worstMs, others, ...counts } = result;
  const figures = Object.entries(counts).slice(1);
  table.push(
    `  ${policy}: ${figures.map(([name, count]) => `${name} ${count}`).join(', ')}, worst ${worstMs.toFixed(0)} ms, ${seconds.toFixed(1)} s, ${JSON.stringify(others)}`,
  );
  return result;
}

afterAll(() => {
  process.stdout.write(`history over HTTP, two replicas:\n${table.join('\n')}\n`);
});

test('no decrypt is stale, whatever order the KMS answers in, while customers switch their keys', async () => {
  const found = await runOf('shipped');
  expect(found).toMatchObject({ staleDecrypts: 0, staleDenials: 0 });
  expect(found.decrypts).toBeGreaterThanOrEqual(3_000);
  expect(found.switches).toBeGreaterThanOrEqual(60);
  // A run that never succeeds, is never refused or sees all answers in order would prove nothing.
  expect(Math.min(found.ok, found.denied, found.overtaken)).toBeGreaterThan(100);
  expect(found.none).toBeLessThan(found.decrypts / 20);
}, 120_000);

test.each(['single-flight', 'ttl'])(
  'the same run catches the policy %s',
  async (policy) => {
    const found = await runOf(policy);
    expect(found.staleDecrypts).toBeGreaterThan(0);
  },
  120_000,
);
