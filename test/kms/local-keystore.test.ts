import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { createDrivers } from '../../adapters/index.ts';
import { createLocalKms, type LocalKeystore, openLocalKeystore } from '../../adapters/kms/local.ts';
import type { CallOptions, CustomerKeyHandle } from '../../src/kms/driver.ts';

const CONTEXT = { tenant: 'ten_a', scope: 'default', key: 'key_a' };
const CALL: CallOptions = { signal: new AbortController().signal, correlationId: 'cid-1' };
const HOST = { secret: () => Promise.reject(new Error('none')), endpointAllowed: () => false };
const run = promisify(execFile);

let folder: string;
let keystore: LocalKeystore;
let key: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'keytether-local-kms-'));
  keystore = openLocalKeystore(folder);
  key = keystore.createKey('acme-master');
});

afterEach(() => rmSync(folder, { recursive: true }));

async function open(principal = 'keytether', now?: () => number): Promise<CustomerKeyHandle> {
  const driver = createLocalKms({ folder, production: false, ...(now ? { now } : {}) });
  return driver.open(key, driver.access.parse({ principal }), HOST);
}

function cli(...args: string[]): Promise<{ stdout: string }> {
  return run(process.execPath, ['adapters/kms/local/cli.ts', '--folder', folder, ...args]);
}

describe('the local development KMS', () => {
  test('refuses every key in production and makes no folder there', async () => {
    const elsewhere = join(folder, 'production');
    const driver = createLocalKms({ folder: elsewhere, production: true });
    await expect(driver.open(key, { principal: 'keytether' }, HOST)).rejects.toMatchObject({
      code: 'KMS_MISCONFIGURED',
      detail: 'development-only',
    });
    expect(readdirSync(folder)).not.toContain('production');
  });

  test('is a driver only where a folder is given', () => {
    expect([...createDrivers({ production: true }).keys()]).toEqual(['aws-kms', 'vault']);
    expect([...createDrivers({ production: false, localFolder: folder }).keys()]).toEqual([
      'aws-kms',
      'vault',
      'local',
    ]);
  });

  test('obeys a switch that another process throws, on the next call', async () => {
    const handle = await open();
    const { wrapped } = await handle.wrap(new Uint8Array(32), CONTEXT, CALL);
    await cli('disable', 'acme-master');
    await expect(handle.unwrap(wrapped, CONTEXT, CALL)).rejects.toMatchObject({ code: 'KMS_KEY_DISABLED' });
    await cli('enable', key);
    expect((await handle.unwrap(wrapped, CONTEXT, CALL)).key).toEqual(Buffer.alloc(32));
    await cli('deny', 'acme-master', '*');
    await expect(handle.unwrap(wrapped, CONTEXT, CALL)).rejects.toMatchObject({ code: 'KMS_ACCESS_DENIED' });
    await cli('allow', 'acme-master', '*');
    await cli('throttle', '0');
    await expect(handle.unwrap(wrapped, CONTEXT, CALL)).rejects.toMatchObject({ code: 'KMS_THROTTLED' });
    await cli('throttle', 'off');
    await cli('unreachable');
    await expect(handle.unwrap(wrapped, CONTEXT, CALL)).rejects.toMatchObject({ code: 'KMS_UNREACHABLE' });
    await cli('reachable');
    await cli('schedule-deletion', 'acme-master', '7');
    await expect(handle.unwrap(wrapped, CONTEXT, CALL)).rejects.toMatchObject({
      code: 'KMS_KEY_PENDING_DELETION',
    });
    await cli('cancel-deletion', 'acme-master');
    await expect(handle.unwrap(wrapped, CONTEXT, CALL)).rejects.toMatchObject({ code: 'KMS_KEY_DISABLED' });
    expect((await cli('list')).stdout).toContain('"enabled":false');
  });

  test('keeps what it did over a restart', async () => {
    const { wrapped } = await (await open()).wrap(new Uint8Array(32).fill(5), CONTEXT, CALL);
    keystore.rotate(key);
    const again = openLocalKeystore(folder);
    expect(again.readKey(key)?.versions).toHaveLength(2);
    expect((await (await open()).unwrap(wrapped, CONTEXT, CALL)).key).toEqual(Buffer.alloc(32, 5));
  });

  test('denies one principal and serves the others', async () => {
    keystore.deny(key, 'ten_a');
    const denied = await open('ten_a');
    await expect(denied.describe(CALL)).rejects.toMatchObject({ code: 'KMS_ACCESS_DENIED' });
    expect(await (await open('ten_b')).describe(CALL)).toMatchObject({ state: 'enabled' });
  });

  test('lets so many calls through in each second', async () => {
    keystore.setSwitches({ callsPerSecond: 2 });
    let now = 5000;
    const handle = await open('keytether', () => now);
    await handle.describe(CALL);
    await handle.describe(CALL);
    await expect(handle.describe(CALL)).rejects.toMatchObject({ code: 'KMS_THROTTLED' });
    now = 6000;
    expect(await handle.describe(CALL)).toMatchObject({ state: 'enabled' });
  });

  test('loses a key for good when its deletion date has passed', async () => {
    keystore.scheduleDeletion(key, 7);
    const later = Date.now() + 8 * 86_400_000;
    const handle = await open('keytether', () => later);
    await expect(handle.describe(CALL)).rejects.toMatchObject({ code: 'KMS_KEY_NOT_FOUND' });
    expect(openLocalKeystore(folder, () => later).readKey(key)).toBeUndefined();
  });

  test('writes a line for every call that reached it, as the customer would see it', async () => {
    const handle = await open('ten_a');
    const wrapped = await handle.wrap(new Uint8Array(32), CONTEXT, { ...CALL, correlationId: 'cid-wrap' });
    keystore.disable(key);
    const refusal = await handle
      .unwrap(wrapped.wrapped, CONTEXT, { ...CALL, correlationId: 'cid-unwrap' })
      .catch((error: { requestId: string }) => error);
    expect(keystore.usage()).toMatchObject([
      {
        request_id: wrapped.requestId,
        correlation_id: 'cid-wrap',
        principal: 'ten_a',
        operation: 'Encrypt',
        key,
        encryption_context: {
          'keytether:tenant': 'ten_a',
          'keytether:scope': 'default',
          'keytether:key': 'key_a',
        },
        outcome: 'ok',
      },
      {
        request_id: refusal.requestId,
        correlation_id: 'cid-unwrap',
        operation: 'Decrypt',
        outcome: 'KeyDisabled',
      },
    ]);
    expect(keystore.usage()[0]?.time).toMatch(/^\d{4}-\d\d-\d\dT.*Z$/);
  });

  test('never overwrites a key of the same name, and leaves no half-written files', () => {
    const before = readFileSync(join(folder, 'keys', 'acme-master.json'), 'utf8');
    expect(() => keystore.createKey('acme-master')).toThrow();
    for (const name of ['', '../x', 'A', 'a/b', 'a.json']) expect(() => keystore.createKey(name)).toThrow();
    keystore.disable(key);
    keystore.enable(key);
    expect(readFileSync(join(folder, 'keys', 'acme-master.json'), 'utf8')).toBe(before);
    expect(readdirSync(join(folder, 'keys'))).toEqual(['acme-master.json']);
  });

  test('keeps its files from other users and its key material sealed', () => {
    for (const file of ['hsm.key', join('keys', 'acme-master.json')]) {
      expect(statSync(join(folder, file)).mode & 0o077).toBe(0);
    }
    expect(readFileSync(join(folder, 'hsm.key'))).toHaveLength(32);
    const stored = keystore.readKey(key);
    const material = stored && keystore.material(stored, 1);
    expect(material).toHaveLength(32);
    expect(JSON.stringify(stored)).not.toContain(Buffer.from(material ?? []).toString('base64'));
  });

  test('an answer is decided by the state at its end: a switch thrown during the wait counts', async () => {
    keystore.setSwitches({ latencyMs: 30 });
    const answer = (await open()).describe(CALL);
    keystore.deny(key, '*');
    await expect(answer).rejects.toMatchObject({ code: 'KMS_ACCESS_DENIED' });
  });
});
