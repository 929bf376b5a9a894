import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { main } from '../../src/reconcile/cli.ts';
import { type Call, callsOf, leavesOf, NOW, SHAPES, type Shape } from './scenario.ts';

const aws = SHAPES.find(({ vendor }) => vendor === 'aws') as Shape;
const calls = callsOf(aws, 8);
const rogue: Call = { ...(calls[3] as Call), cid: '', rid: 'rogue', op: 'unwrap', outcome: 'ok' };
const OURS = calls.flatMap((one) => leavesOf(aws, one, one.outcome)).join('\n');
const recordsOf = (all: readonly Call[]) => all.flatMap((one) => aws.write(one));

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'keytether-cli-'));
  writeFileSync(join(folder, 'ours.jsonl'), OURS);
  const trail = join(folder, 'trail', '2026', '03');
  mkdirSync(trail, { recursive: true });
  writeFileSync(join(trail, 'a.json.gz'), gzipSync(aws.file(recordsOf(calls.slice(0, 4)))));
  writeFileSync(join(trail, 'b.json'), aws.file(recordsOf(calls.slice(4))));
  writeFileSync(join(folder, 'rogue.json'), aws.file(recordsOf([...calls, rogue])));
  writeFileSync(join(folder, 'damaged.gz'), Uint8Array.of(0x1f, 0x8b, 1, 2, 3));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function run(...args: readonly string[]): Promise<{ status: number; out: string; err: string }> {
  const out: string[] = [];
  const err: string[] = [];
  const at = args.map((arg) => arg.replace('@', folder));
  const status = await main(
    at,
    (text) => out.push(text),
    (text) => err.push(text),
    NOW,
  );
  return { status, out: out.join('\n'), err: err.join('\n') };
}

describe('the command', () => {
  test('reads a folder of packed and plain files, prints a table and gives 0 when all is clean', async () => {
    const { status, out, err } = await run('--ours', '@/ours.jsonl', '--theirs', 'aws:@/trail');
    expect([status, err]).toEqual([0, '']);
    expect(out).toMatch(/^matched +8 +8$/m);
    expect(out).toMatch(/^total +8 +8$/m);
    expect(out).toContain('compared   2026-03-01T10:00:00.000Z to 2026-03-01T10:07:00.000Z');
    expect(out).toContain('Clean for the time that was compared.');
  });

  test('gives 1 and shows the call that has no record of ours', async () => {
    const { status, out } = await run('--ours', '@/ours.jsonl', '--theirs', 'aws:@/rogue.json');
    expect(status).toBe(1);
    expect(out).toMatch(/^ {2}\S+ {2}Decrypt ok {2}arn:aws:kms:\S+ {2}\S+rogue\.json:9 /m);
    expect(out).toContain('Not clean: 1 of theirs without a record of ours.');
  });

  test('gives the whole result as JSON, with the summary that the API takes', async () => {
    const { status, out } = await run('--ours', '@/ours.jsonl', '--theirs', 'aws:@/rogue.json', '--json');
    const { clean, theirs, summary } = JSON.parse(out);
    expect([status, clean, theirs['theirs-only']]).toEqual([1, false, 1]);
    expect(summary).toEqual({
      window: { from: '2026-03-01T10:00:00.000Z', until: '2026-03-01T10:07:00.000Z' },
      gaps: [],
      counts: { ours: expect.any(Object), theirs, malformed: 0 },
      inputs: [
        { side: 'ours', sha256: createHash('sha256').update(OURS).digest('base64'), bytes: OURS.length },
        { side: 'theirs', sha256: expect.any(String), bytes: expect.any(Number) },
      ],
    });
  });

  test('takes statements about the time, gaps, principals and lag', async () => {
    const both = ['--ours', '@/ours.jsonl', '--theirs', 'aws:@/trail'];
    expect((await run(...both, '--gap', '2026-03-01T10:02:00Z/2026-03-01T10:03:00Z')).out).toContain('gap ');
    expect((await run(...both, '--principal', `${aws.principal.slice(0, -7)}*`)).status).toBe(0);
    expect((await run(...both, '--principal', 'nobody')).out).toContain('differs: principal');
    const rest = ['--from', '2026-03-01T10:05:00Z', '--theirs-from', '2026-03-01T09:00:00Z'];
    const half = await run('--ours', '@/ours.jsonl', '--theirs', 'aws:@/trail/2026/03/b.json', ...rest);
    expect([half.status, /^outside +4 +0$/m.test(half.out)]).toEqual([0, true]);
    const early = ['--theirs', 'aws:@/trail/2026/03/a.json.gz', '--lag', '2000'];
    expect((await run('--ours', '@/ours.jsonl', ...early)).out).toContain('4 calls are pending');
  });

  test.each([
    [[]],
    [['--ours', '@/ours.jsonl']],
    [['--ours', '@/ours.jsonl', '--theirs', 'oracle:@/trail']],
    [['--ours', '@/ours.jsonl', '--theirs', 'aws:']],
    [['--ours', '@/ours.jsonl', '--theirs', '@/trail']],
    [['--ours', '@/nowhere', '--theirs', 'aws:@/trail']],
    [['--ours', '@/ours.jsonl', '--theirs', 'aws:@/damaged.gz']],
    [['--ours', '@/ours.jsonl', '--theirs', 'aws:@/trail', '--from', 'yesterday']],
    [['--ours', '@/ours.jsonl', '--theirs', 'aws:@/trail', '--gap', '2026-03-01T10:02:00Z']],
    [['--ours', '@/ours.jsonl', '--theirs', 'aws:@/trail', '--lag', '-5']],
    [['--ours', '@/ours.jsonl', '--theirs', 'aws:@/trail', '--frob']],
    [['--demo', 'nothing']],
    [['--demo', '../http/listen']],
  ])('%j gives 2, says why, and prints no result', async (args) => {
    const { status, out, err } = await run(...args);
    expect([status, out]).toEqual([2, '']);
    expect(err).toMatch(/^reconcile: .+\n\nusage: /s);
  });

  test('tells how it is used', async () => {
    expect(await run('--help')).toMatchObject({ status: 0, out: expect.stringContaining('Exit status:') });
  });
});
