/** Runs the load generator in a process of its own, so that its work is not on the clock of what it measures. */
import { fileURLToPath } from 'node:url';
import { Child } from '../test/support/child.ts';
import type { LoadPlan } from './load/plan.ts';
import type { LoadResult } from './load/run.ts';

export type { LoadPlan, PlannedRequest } from './load/plan.ts';
export type { LoadResult } from './load/run.ts';

interface LoadEvent {
  readonly event: string;
  readonly message?: string;
  readonly result?: LoadResult;
}

const MAIN = fileURLToPath(new URL('./load/main.ts', import.meta.url));
/** Connecting, draining and starting Node. */
const MARGIN_MS = 30_000;

function eventNamed(name: string): (line: string) => LoadEvent | undefined {
  return (line) => {
    const event = JSON.parse(line) as LoadEvent;
    if (event.event === 'failed') throw new Error(`load generator: ${event.message ?? 'failed'}`);
    return event.event === name ? event : undefined;
  };
}

/**
 * Runs one plan.
 * @param sample called when the measured window opens and when it closes, for counters of other processes.
 * @throws Error for a plan out of bounds, when nothing listens, or when the generator does not end in time.
 */
export async function runLoad<S>(
  plan: LoadPlan,
  sample: () => S | Promise<S>,
): Promise<{ result: LoadResult; before: S; after: S }> {
  const child = new Child({ command: process.execPath, args: [MAIN] });
  try {
    child.tell(JSON.stringify(plan));
    await child.line(eventNamed('measuring'), plan.warmupMs + MARGIN_MS);
    const before = await sample();
    await child.line(eventNamed('measured'), plan.durationMs + MARGIN_MS);
    const after = await sample();
    const { result } = await child.line(eventNamed('result'), MARGIN_MS);
    if (result === undefined) throw new Error('load generator: no result');
    return { result, before, after };
  } finally {
    await child.stop();
  }
}
