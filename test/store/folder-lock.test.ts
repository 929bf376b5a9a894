import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { lockFolder } from '../../src/store/folder-lock.ts';
import { openDatabase } from '../../src/store/open.ts';
import { createTenant, readTenant } from '../../src/store/tenants.ts';

const MODULE = new URL('../../src/store/folder-lock.ts', import.meta.url).href;
const HOLD = `import { lockFolder } from ${JSON.stringify(MODULE)}; lockFolder(process.argv[1]); console.log('held'); setInterval(() => {}, 1000);`;

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'keytether-lock-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function holderProcess() {
  const child = spawn(process.execPath, ['--input-type=module', '-e', HOLD, folder], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  await once(child.stdout, 'data');
  return child;
}

test('a folder is taken once, in one process and between two, until it is given back', async () => {
  const release = lockFolder(folder);
  expect(() => lockFolder(folder)).toThrow(`in use by process ${process.pid}`);
  release();
  const child = await holderProcess();
  expect(() => lockFolder(folder)).toThrow(`in use by process ${child.pid}`);
  child.kill('SIGKILL');
  await once(child, 'exit');
  lockFolder(folder)();
  expect(readdirSync(folder)).toEqual([]);
});

test('a lock of a process that was killed is replaced by exactly one of many', async () => {
  const child = await holderProcess();
  child.kill('SIGKILL');
  await once(child, 'exit');
  const contenders = Array.from({ length: 5 }, () => holds());
  const results = await Promise.all(contenders);
  expect(results.filter((result) => result.held)).toHaveLength(1);
  for (const { child: contender } of results) contender.kill('SIGKILL');
});

/** Starts a process that takes the lock, and says whether it got it. */
async function holds() {
  const child = spawn(process.execPath, ['--input-type=module', '-e', HOLD, folder], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const held = await Promise.race([
    once(child.stdout, 'data').then(() => true),
    once(child, 'exit').then(() => false),
  ]);
  return { child, held };
}

test('the id of a process that died and was given to another is not taken for the holder', () => {
  writeFileSync(join(folder, 'keytether.lock'), `${process.pid} 00000000-0000-0000-0000-000000000000:1 x\n`);
  if (!existsSync('/proc/self/stat')) {
    expect(() => lockFolder(folder)).toThrow('in use');
    return;
  }
  lockFolder(folder)();
});

test('a lock file of garbage is replaced', () => {
  writeFileSync(join(folder, 'keytether.lock'), 'garbage');
  lockFolder(folder)();
  expect(readdirSync(folder)).toEqual([]);
});

test('giving back a lock that someone else has replaced leaves theirs', () => {
  const release = lockFolder(folder);
  writeFileSync(join(folder, 'keytether.lock'), 'theirs');
  release();
  expect(readdirSync(folder)).toEqual(['keytether.lock']);
});

test('an embedded database is opened once, keeps its rows, and is not for production', async () => {
  const first = await openDatabase({ folder });
  await expect(openDatabase({ folder })).rejects.toThrow('is in use by process');
  await first.transaction('t', (tx) => createTenant(tx, 'kept'));
  expect(await first.durability()).toBe('process');
  await expect(first.assertPosture()).rejects.toThrow('PostgreSQL');
  await first.close();
  await expect(first.query('SELECT 1')).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });

  const second = await openDatabase({ folder }, { deadlines: { connectMs: 100, idleInTransactionMs: 300 } });
  expect(await second.transaction('t', readTenant)).toMatchObject({ name: 'kept' });
  const never = new Promise<void>(() => undefined);
  const stuck = second.transaction('t', () => never);
  stuck.catch(() => undefined);
  await expect(second.transaction('t', readTenant)).rejects.toMatchObject({
    code: 'STORE_UNAVAILABLE',
    detail: 'connection',
  });
  await expect(stuck).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE', detail: 'transaction' });
  expect(await second.transaction('t', readTenant)).toMatchObject({ name: 'kept' });
  await second.close();
});
