/**
 * The customers' KMS as a process: `node bench/kms.ts <keys> <latency ms>`. It prints the server's address and keys as
 * one JSON line, then obeys lines on standard input, each answered by one line: `{"rate", "rateBy"}` sets the cap on
 * calls per second, `{}` only asks. An answer is `{"calls"}`, the calls so far. It ends with its standard input.
 */

import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { type AwsFaults, startAwsServer } from '../test/kms-servers/aws.ts';
import { Child } from '../test/support/child.ts';

type Cap = Pick<AwsFaults, 'rate' | 'rateBy'>;

interface Described {
  readonly url: string;
  readonly region: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly keys: readonly string[];
}

export interface BenchKms extends Described {
  readonly pid: number;
  /** Calls so far, throttled ones included. */
  calls(): Promise<number>;
  /** From now on so many calls per second, by key or for all keys together. */
  limit(cap: Cap): Promise<void>;
  stop(): Promise<void>;
}

const READY_TIMEOUT_MS = 20_000;
const ANSWER_TIMEOUT_MS = 10_000;

export async function startKms(keys: number, latencyMs: number): Promise<BenchKms> {
  const main = fileURLToPath(import.meta.url);
  const child = new Child({ command: process.execPath, args: [main, String(keys), String(latencyMs)] });
  const ask = async (command: Partial<Cap>): Promise<number> => {
    const answer = child.line((line) => JSON.parse(line) as { calls: number }, ANSWER_TIMEOUT_MS);
    child.tell(JSON.stringify(command));
    return (await answer).calls;
  };
  try {
    const described = await child.line((line) => JSON.parse(line) as Described, READY_TIMEOUT_MS);
    return {
      ...described,
      pid: child.pid,
      calls: () => ask({}),
      limit: async (cap) => void (await ask(cap)),
      stop: () => child.stop(),
    };
  } catch (error) {
    await child.stop();
    throw error;
  }
}

async function main(): Promise<void> {
  const server = await startAwsServer({ logLimit: 0 });
  const [count = 1, latencyMs = 0] = process.argv.slice(2).map(Number);
  server.faults.latencyMs = latencyMs;
  const keys = Array.from({ length: count }, () => server.keys.create(server.region).arn);
  const { url, region, accessKeyId, secretAccessKey } = server;
  const tell = (value: object) => process.stdout.write(`${JSON.stringify(value)}\n`);
  tell({ url, region, accessKeyId, secretAccessKey, keys } satisfies Described);
  const input = createInterface({ input: process.stdin });
  input.on('line', (line) => {
    Object.assign(server.faults, JSON.parse(line) as Partial<Cap>);
    tell({ calls: server.calls.count });
  });
  input.once('close', () => process.exit(0));
}

if (import.meta.main) await main();
