/**
 * The load generator as a process: the plan comes as one JSON line on standard input, `{"event":…}` lines go to
 * standard output. It ends with its parent, which is when standard input ends.
 */
import { createInterface } from 'node:readline';
import type { LoadPlan } from './plan.ts';
import { run } from './run.ts';

function tell(event: Record<string, unknown>): void {
  process.stdout.write(`${JSON.stringify(event)}\n`);
}

const input = createInterface({ input: process.stdin });
input.once('line', (line) => {
  run(JSON.parse(line) as LoadPlan, {
    measuring: () => tell({ event: 'measuring' }),
    measured: () => tell({ event: 'measured' }),
  }).then(
    (result) => tell({ event: 'result', result }),
    (error: unknown) => tell({ event: 'failed', message: String(error) }),
  );
});
input.once('close', () => process.exit(0));
