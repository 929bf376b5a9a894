import { existsSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import { cpuBetween, cpuSampler } from '../../bench/measure.ts';
import { Child } from '../support/child.ts';

/** Burns 0.3 s of CPU in a process below the child, says so, and waits for the end of its input. */
const BURN = 'const s=process.cpuUsage();for(;;){const u=process.cpuUsage(s);if(u.user+u.system>3e5)break}';
const PARENT = `
  require('node:child_process').execFileSync(process.execPath, ['-e', ${JSON.stringify(BURN)}]);
  console.log('burnt');
  process.stdin.resume();
`;

describe('CPU accounting', () => {
  test('work of a descendant that has ended counts for the tree and not for the process', async () => {
    const child = new Child({ command: process.execPath, args: ['-e', PARENT] });
    try {
      await child.line((line) => (line === 'burnt' ? line : undefined), 30_000);
      const sample = cpuSampler([
        { name: 'tree', pid: child.pid, tree: true },
        { name: 'alone', pid: child.pid, tree: false },
      ])();
      const { tree = 0, alone = 0 } = sample.processes;
      const expected = existsSync('/proc/stat') ? 0.28 : 0;
      expect(tree - alone).toBeGreaterThanOrEqual(expected);
    } finally {
      await child.stop();
    }
  });

  test('others are what the machine spent beyond the named processes', () => {
    const before = { processes: { service: 1 }, machine: 10 };
    const after = { processes: { service: 3, late: 0.5 }, machine: 14 };
    expect(cpuBetween(before, after)).toEqual({ processes: { service: 2, late: 0.5 }, others: 1.5 });
  });

  test('a process that is gone has no figure', () => {
    expect(cpuSampler([{ name: 'gone', pid: 2 ** 22 + 1, tree: false }])().processes).toEqual({});
  });
});
