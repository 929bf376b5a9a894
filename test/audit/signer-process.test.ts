/** The signer as it is started in production: its own process, killed and started again. */
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { newLogKeyFile } from '../../src/audit/signer-keys.ts';
import { createSignerMemory } from '../../src/audit/signer-memory.ts';
import { remoteSigner } from '../../src/audit/signer-process.ts';
import { consistencyProof, leafHash, rootOf } from '../../src/audit/tree.ts';
import { Child } from '../support/child.ts';

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url));

let folder: string;
let children: Child[];
const env = () => ({
  KEYTETHER_LOG_KEY_FILE: join(folder, 'log-key'),
  KEYTETHER_SIGNER_FOLDER: join(folder, 'signer'),
  KEYTETHER_SIGNER_SOCKET: join(folder, 'run', 'signer.sock'),
});

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'keytether-signer-'));
  mkdirSync(join(folder, 'run'), { mode: 0o700 });
  writeFileSync(join(folder, 'log-key'), newLogKeyFile(), { mode: 0o600 });
  createSignerMemory(join(folder, 'signer'));
  children = [];
});
afterEach(async () => {
  for (const child of children) await child.stop();
  rmSync(folder, { recursive: true, force: true });
});

function spawnSigner(): Child {
  const child = new Child({ command: process.execPath, args: [MAIN, 'signer'], env: env() });
  children.push(child);
  return child;
}

async function startSigner(): Promise<Child> {
  const child = spawnSigner();
  await child.line((line) => (line.includes('listens') ? line : undefined), 30_000);
  return child;
}

const hashes = (size: number, mark = 'a') =>
  Array.from({ length: size }, (_, i) => leafHash(Buffer.from(`${mark}${i}`)));

async function asking(from: number, size: number, mark = 'a') {
  const all = hashes(size, mark);
  const read = (level: number, index: number) =>
    rootOf(all.slice(index * 2 ** level, (index + 1) * 2 ** level));
  return {
    origin: 'log.test/log/x',
    size,
    root: rootOf(all),
    from,
    proof: await consistencyProof(from, size, read),
  };
}

test('a signer that was killed starts again on what it left, and remembers', async () => {
  const signer = remoteSigner(env().KEYTETHER_SIGNER_SOCKET);
  await expect(signer.keys()).rejects.toThrow();
  const first = await startSigner();
  expect(statSync(env().KEYTETHER_SIGNER_SOCKET).mode & 0o777).toBe(0o660);
  const [key] = await signer.keys();
  expect(key).toHaveLength(32);
  expect(await signer.sign([await asking(0, 10)])).toMatchObject([{ verdict: 'signed' }]);

  process.kill(first.pid, 'SIGKILL');
  await first.exited;
  await expect(signer.sign([await asking(10, 11)])).rejects.toThrow();

  await startSigner();
  expect((await signer.keys())[0]).toEqual(key);
  expect(
    await signer.sign([await asking(0, 9), await asking(10, 12, 'b'), await asking(10, 12)]),
  ).toMatchObject([{ why: 'smaller' }, { why: 'no-proof' }, { verdict: 'signed' }]);
});

test('a second signer on the same memory does not start, and the first goes on', async () => {
  await startSigner();
  const second = spawnSigner();
  await second.exited;
  await expect(second.line(() => undefined, 1)).rejects.toThrow('in use by process');
  const signer = remoteSigner(env().KEYTETHER_SIGNER_SOCKET);
  expect(await signer.sign([await asking(0, 3)])).toMatchObject([{ verdict: 'signed' }]);
});
