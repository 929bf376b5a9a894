/** Measures one of the servers of `floors.ts`. */
import { fileURLToPath } from 'node:url';
import { Child } from '../test/support/child.ts';
import { measureRow, type Row } from './row.ts';
import { SAMPLE_HEADERS, SAMPLE_PATH, SAMPLE_REQUEST } from './sample.ts';

const SERVER = fileURLToPath(new URL('./floors.ts', import.meta.url));
const READY_TIMEOUT_MS = 20_000;

/** How long a run lasts, the same for every row that is compared. */
export interface Pace {
  readonly warmupMs: number;
  readonly durationMs: number;
}

/** @param server name of a server of `floors.ts`. */
export async function floorRow(name: string, server: string, connections: number, pace: Pace): Promise<Row> {
  const child = new Child({ command: process.execPath, args: [SERVER, server] });
  try {
    const { port } = await child.line((line) => JSON.parse(line) as { port: number }, READY_TIMEOUT_MS);
    const request = {
      method: 'POST',
      path: SAMPLE_PATH,
      headers: SAMPLE_HEADERS,
      body: SAMPLE_REQUEST,
      expect: '"durability":"durable"',
    } as const;
    return await measureRow({
      name,
      processes: [{ name: 'server', pid: child.pid, tree: false }],
      plan: {
        host: '127.0.0.1',
        port,
        connections,
        requestSets: [[request]],
        ...pace,
        drainMs: 5_000,
        maxRequests: 50_000_000,
        pauseAfterErrorMs: 50,
      },
    });
  } finally {
    await child.stop();
  }
}
