import { execFile } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { tarHeader } from '../../src/audit/tar.ts';
import { type VerifyOptions, verifyExport } from '../../src/audit/verify.ts';
import { filesOf, originOf, pack, recordsOf } from './exported.ts';
import { type Base, keptKey, makeBase, TAMPERS } from './tampers.ts';
import { bytesOf, testSigner } from './trees.ts';

const folder = mkdtempSync(join(tmpdir(), 'keytether-verify-'));
let base: Base;
beforeAll(async () => {
  base = await makeBase();
});
afterAll(() => rmSync(folder, { recursive: true }));

function verify(archive: Uint8Array, options: VerifyOptions = {}) {
  const path = join(folder, 'export.tar');
  writeFileSync(path, archive);
  return verifyExport(path, options);
}

describe.each(TAMPERS)('$name', ({ make, seenBy }) => {
  test('is seen by our verifier exactly where it says', async () => {
    const archive = pack(await make(base));
    const { vkey } = keptKey(base);
    expect(verify(archive, { key: vkey }).verified).toBe(!seenBy.includes('verifier'));
    expect(verify(archive, { key: vkey, since: base.kept }).verified).toBe(!seenBy.includes('since'));
    expect(verify(archive).verified).toBe(!seenBy.includes('own-key'));
  });
});

describe('what is wrong is said', () => {
  test.each([
    ['a field edited', 'log/tile/0/000 is not what the records give, from record 200 on'],
    ['a record deleted', 'log/tile/entries/000 holds 255 records of 256'],
    ['a record repeated behind the last', 'log/tile/entries/002.p/88 holds more than its 88 records'],
    ['a file of records removed', 'log/tile/0/000 does not belong here; expected log/tile/entries/000'],
    [
      'a bit flipped in an upper tile',
      'log/tile/1/000.p/2 is not what the records give, from hash of 256 records 1 on',
    ],
    ['a field edited, tiles rebuilt, old checkpoint', 'the records do not give the signed root'],
    ['rewritten and signed with another key', 'log/checkpoint is not signed by the key'],
    [
      'rewritten and signed with the same key',
      'the first 300 records are not those of the checkpoint that you kept',
    ],
    [
      'cut to 250 records and signed with the same key',
      'the log has shrunk: you kept a checkpoint of 300 records',
    ],
    ['a record twice, signed with the same key', 'record 451 has the event id of an earlier one'],
  ])('%s: %s', async (name, failure) => {
    const tamper = TAMPERS.find((candidate) => candidate.name === name);
    const files = tamper && (await tamper.make(base));
    const report = verify(pack(files ?? []), { key: keptKey(base).vkey, since: base.kept });
    expect(report.failures).toContain(failure);
  });

  test('a key from the archive is named as such', () => {
    expect(verify(pack(base.files)).facts.join('\n')).toContain('FROM THE ARCHIVE');
    expect(verify(pack(base.files), { key: keptKey(base).vkey }).facts.join('\n')).not.toContain('FROM THE');
  });
});

describe('sizes', () => {
  test.each([0, 1, 2, 255, 256, 257, 511, 512, 65_536])('%p records verify', async (size) => {
    const signer = testSigner(originOf('ten_a'), 7);
    const report = verify(pack(await filesOf(recordsOf('ten_a', size), signer)));
    expect(report.failures).toEqual([]);
  });
});

describe('an archive that tar programs might read in two ways is refused', () => {
  const changed = (archive: Buffer, at: number, text: string) => {
    const copy = Buffer.from(archive);
    copy.write(text, at, 'latin1');
    copy.write('        ', 148, 'latin1');
    const sum = copy.subarray(0, 512).reduce((all, byte) => all + byte, 0);
    copy.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
    return copy;
  };

  test('cut off anywhere, or with something behind the end', () => {
    const archive = pack(base.files);
    for (const length of [0, 1, 511, 512, 600, 5000, archive.length - 1024, archive.length - 512]) {
      expect(verify(archive.subarray(0, length)).verified).toBe(false);
    }
    expect(verify(Buffer.concat([archive, tarHeader('audit-export/x', 0)])).verified).toBe(false);
    expect(verify(Buffer.concat([archive, Buffer.alloc(2 ** 20 + 1)])).verified).toBe(false);
    // Tar programs fill their last record with zeroes.
    expect(verify(Buffer.concat([archive, Buffer.alloc(9 * 512)])).verified).toBe(true);
  });

  test.each([
    ['a symbolic link', 156, '2'],
    ['a long-name record', 156, 'L'],
    ['a prefix', 345, 'elsewhere'],
    ['another folder', 0, 'other-export'],
  ])('%s', (_, at, text) => {
    const archive = pack(base.files);
    expect(verify(changed(archive, 156, '0')).verified).toBe(true);
    expect(verify(changed(archive, at, text)).verified).toBe(false);
  });

  test('a file twice, a file too many, a file too few', () => {
    const entries = [...base.files];
    const one = bytesOf(base.files.get('log.vkey'));
    expect(verify(pack([...entries, ['log.vkey', one]])).verified).toBe(false);
    expect(verify(pack([...entries, ['more', one]])).verified).toBe(false);
    for (const at of entries.keys()) {
      expect(verify(pack(entries.toSpliced(at, 0, ['more', one]))).verified).toBe(false);
      expect(verify(pack(entries.toSpliced(at, 1))).verified).toBe(false);
    }
  });

  test('records in another order of files, or behind their tile', () => {
    const names = [...base.files.keys()];
    const [first, tile, second] = names.slice(6, 9);
    expect([first, tile, second]).toEqual(['log/tile/entries/000', 'log/tile/0/000', 'log/tile/entries/001']);
    for (const order of [
      [tile, first, second],
      [second, tile, first],
      [second, first, tile],
    ]) {
      const sorted = names.toSpliced(6, 3, ...order.map((name) => name ?? ''));
      const files = sorted.map((name) => [name, bytesOf(base.files.get(name))] as const);
      expect(verify(pack(files)).verified).toBe(false);
    }
  });
});

describe('records that are no records are refused, whatever is signed', () => {
  const signer = testSigner(originOf('ten_a'), 7);
  const [genesis, ...uses] = recordsOf('ten_a', 4).map((record) => Buffer.from(record).toString());
  const use = uses[1] ?? '';

  async function verdictOn(changed: string | Uint8Array, at = 2): Promise<readonly string[]> {
    const records = [genesis ?? '', ...uses].map((record) => Buffer.from(record));
    return verify(pack(await filesOf(records.with(at, Buffer.from(changed)), signer))).failures;
  }

  test.each([
    ['is not JSON', use.slice(0, -1)],
    ['is not in the canonical form', use.replace('{', '{ ')],
    ['is not in the canonical form', use.replace('"n":1', '"n":1.5')],
    ['is not in the canonical form', use.replace('"n":1', '"n":null')],
    ['is not in the canonical form', use.replace('"n":1', '"n":1,"n":1')],
    ['is not in the canonical form', use.replace('"n":1,', '').replace('{', '{"n":1,')],
    ['is not in the canonical form', use.replace('default', '\\u0064efault')],
    ['is not of version keytether.log/1', use.replace('keytether.log/1', 'keytether.log/2')],
    ['is not of version keytether.log/1', '[]'],
    ['opens a log again', (genesis ?? '').replace(/"eid":"./, '"eid":"f')],
    ['is of another tenant', use.replace('ten_a', 'ten_b')],
    ['has no event id', use.replace(/"eid":"[^"]*",/, '')],
    ['has the event id of an earlier one', uses[0] ?? ''],
  ])('%s', async (failure, record) => {
    expect(record).not.toBe(use);
    expect(await verdictOn(record)).toEqual([`record 2 ${failure}`]);
  });

  test('bytes that are not UTF-8', async () => {
    const bytes = Buffer.from(use);
    bytes[bytes.indexOf('default')] = 0xff;
    expect(await verdictOn(bytes)).toEqual(['record 2 is not UTF-8']);
  });

  test('a first record that is not the genesis of this log', async () => {
    expect(await verdictOn((genesis ?? '').replace('/log/', '/other/'), 0)).toContain(
      'record 0 does not open this log',
    );
    expect(await verdictOn(use.replace(/"eid":"./, '"eid":"f'), 0)).toContain(
      'record 0 does not open this log',
    );
  });
});

describe('the one file', () => {
  const source = fileURLToPath(new URL('../../src/audit/verify.ts', import.meta.url));
  const copy = join(folder, 'copied.ts');

  function run(...args: string[]): Promise<{ code: unknown; out: string }> {
    return new Promise((resolve) => {
      execFile(process.execPath, [copy, ...args], (error, stdout, stderr) =>
        resolve({ code: error === null ? 0 : error.code, out: stdout + stderr }),
      );
    });
  }

  test('imports nothing but Node', () => {
    const modules = [...readFileSync(source, 'utf8').matchAll(/from '([^']+)'/g)].map(([, name]) => name);
    expect(modules.length).toBeGreaterThan(0);
    expect(modules.filter((name) => !name?.startsWith('node:'))).toEqual([]);
  });

  test('runs alone and says by its exit code what it found', async () => {
    copyFileSync(source, copy);
    const [archive, key, kept] = ['alone.tar', 'alone.vkey', 'alone.checkpoint'].map((name) =>
      join(folder, name),
    );
    if (archive === undefined || key === undefined || kept === undefined) throw new Error('no names');
    writeFileSync(archive, pack(base.files));
    writeFileSync(key, `${keptKey(base).vkey}\n`);
    writeFileSync(kept, base.kept);
    const good = await run(archive, '--key', key, '--since', kept);
    expect(good.code).toBe(0);
    expect(good.out).toContain('your 300 records are its beginning');
    expect(good.out).toContain('VERIFIED');
    writeFileSync(archive, pack(base.files).subarray(0, -2048));
    const bad = await run(archive, '--key', key);
    expect(bad.code).toBe(1);
    expect(bad.out).toContain('FAILED');
    expect(bad.out).toContain('NOT VERIFIED');
    for (const args of [[], ['--key'], [archive, '--since'], [archive, '--what', key]]) {
      expect(await run(...args)).toMatchObject({ code: 1, out: expect.stringContaining('<archive.tar>') });
    }
  });
});
