/**
 * Drivers leave no copy of a key behind. A child process calls a server in another process; its whole writable
 * memory is searched from here. Needs Linux; elsewhere the run says that this is unproven.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { ResidueTarget } from './child.ts';
import { scanProcess } from './scan.ts';

type Child = ChildProcessByStdio<Writable, Readable, null>;

function start(file: string, args: readonly string[]): Child {
  return spawn(process.execPath, [file, ...args], { stdio: ['pipe', 'pipe', 'inherit'] });
}

async function line(child: Child): Promise<Record<string, unknown>> {
  let text = '';
  while (!text.includes('\n')) {
    const [chunk] = (await once(child.stdout, 'data')) as [Buffer];
    text += chunk.toString('utf8');
  }
  return JSON.parse(text) as Record<string, unknown>;
}

const proves = existsSync('/proc/self/mem') ? test : undefined;
if (!proves) process.stderr.write('unproven here: no copy of a key stays in memory (needs Linux)\n');

/** How to start a server, and how its line tells where and with what it is called. */
const SERVERS: readonly (readonly [string, string, (line: Record<string, unknown>) => ResidueTarget])[] = [
  [
    'AWS',
    'aws',
    ({ url, region, keys, accessKeyId, secretAccessKey }) => ({
      provider: 'aws-kms',
      key: (keys as string[])[0] ?? '',
      access: { region, endpoint: url, credentials: { type: 'static', secretId: 'kms' } },
      secret: JSON.stringify({ accessKeyId, secretAccessKey }),
      allowed: String(url),
    }),
  ],
  [
    'Vault',
    'vault-protocol',
    ({ url, key, token }) => ({
      provider: 'vault',
      key: String(key),
      access: { auth: { type: 'token', secretId: 'kms' } },
      secret: String(token),
      allowed: String(url),
    }),
  ],
];

describe.each(SERVERS)('memory after %s calls', (_name, file, read) => {
  let server: Child;
  let address: string;

  beforeAll(async () => {
    server = start(`test/kms-servers/${file}.ts`, ['--log-limit', '0']);
    address = JSON.stringify(read(await line(server)));
  });

  afterAll(async () => {
    const gone = once(server, 'exit');
    server.kill();
    await gone;
  });

  const measure = async (mode: string, times: number) => {
    const child = start('test/kms/residue/child.ts', [address, mode, String(times)]);
    try {
      const { masked } = await line(child);
      const secret = Buffer.from(String(masked), 'hex');
      const before = scanProcess(Number(child.pid), secret);
      child.stdin.write('collect\n');
      await line(child);
      return { before, after: scanProcess(Number(child.pid), secret) };
    } finally {
      const gone = once(child, 'exit');
      child.kill('SIGKILL');
      await gone;
    }
  };
  const none = {
    raw: 0,
    'first half': 0,
    'second half': 0,
    base64: 0,
    'base64 tail': 0,
    'base64 utf16': 0,
    hex: 0,
  };

  test('the server names its address', () => {
    expect((JSON.parse(address) as ResidueTarget).allowed).toMatch(/^http:/);
  });

  proves?.('50 unwraps leave no copy of the key, before and after a collection', async () => {
    expect(await measure('unwrap', 50)).toEqual({ before: none, after: none });
  });

  proves?.('50 wraps leave no copy of the key', async () => {
    expect(await measure('wrap', 50)).toEqual({ before: none, after: none });
  });

  proves?.('50 failing unwraps leave no copy of the key', async () => {
    expect(await measure('fail', 50)).toEqual({ before: none, after: none });
  });

  proves?.('the scan finds keys that are kept on purpose', async () => {
    const { after } = await measure('leak', 50);
    expect(after.base64).toBeGreaterThanOrEqual(50);
  });
});
