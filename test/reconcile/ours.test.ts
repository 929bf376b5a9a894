import { describe, expect, test } from '@jest/globals';
import { readOurs } from '../../src/reconcile/ours.ts';
import { bytesOf, compare, counts } from './compare.ts';
import { callsOf, leavesOf, NOW, SHAPES, type Shape, START } from './scenario.ts';

const MINUTE = 60_000;
const local = SHAPES.find(({ vendor }) => vendor === 'local') as Shape;
const calls = callsOf(local, 6);
const leaves = calls.flatMap((one) => leavesOf(local, one, one.outcome));
const theirs = local.file(calls.flatMap((one) => local.write(one)));

function read(...texts: readonly string[]) {
  return readOurs(texts.map((text, i) => ({ name: `file-${i}`, bytes: bytesOf(text) })));
}

function pageOf(from: number, until: number): string {
  const entries = leaves.slice(from, until).map((leaf, i) => ({ index: from + i, leafHash: '', leaf }));
  return JSON.stringify({ origin: 'o', size: leaves.length, root: '', entries });
}

describe('our side', () => {
  test('leaves a line each and pages of the API give the same calls', () => {
    const said = ({ calls }: ReturnType<typeof read>) => calls.map(({ position: _, ...rest }) => rest);
    const lines = read(leaves.join('\n'));
    expect(lines.calls).toHaveLength(6);
    expect(said(read(pageOf(0, 5), pageOf(5, 12)))).toEqual(said(lines));
    expect(said(read(`${pageOf(5, 12)}\n${pageOf(0, 5)}`))).toEqual(said(lines));
    expect(said(read(JSON.stringify(JSON.parse(pageOf(0, 12)), null, 2)))).toEqual(said(lines));
  });

  test('a result of another file joins its intent; a result alone is a call too', () => {
    const [intent = '', result = ''] = leaves;
    expect(read(result, intent).calls).toMatchObject([{ outcome: 'ok', at: START - 40 }]);
    expect(read(intent).calls).toMatchObject([{ outcome: 'unknown', rid: undefined }]);
    expect(read(result).calls).toMatchObject([{ outcome: 'ok', cid: calls[0]?.cid }]);
  });

  test('pages that overlap count a call once, and the copy as a duplicate', () => {
    const log = read(pageOf(0, 8), pageOf(6, 12));
    expect([log.calls.length, log.leaves, log.duplicates.length, log.gaps]).toEqual([6, 12, 1, []]);
    const result = compare(local, [pageOf(0, 8), pageOf(6, 12)], theirs);
    expect(counts(result).ours).toEqual({ matched: 6, duplicate: 1 });
    expect(result.clean).toBe(true);
  });

  test('pages that leave records out are a gap: what happened meanwhile is not called theirs-only', () => {
    const result = compare(local, [pageOf(0, 4), pageOf(8, 12)], theirs);
    expect(counts(result)).toEqual({ ours: { matched: 4 }, theirs: { matched: 4, 'not-coverable': 2 } });
    expect(result.clean).toBe(false);
    expect(result.coverage[0]?.gaps).toEqual([
      {
        from: START + MINUTE + 40,
        until: START + 4 * MINUTE - 40,
        reason: 'records 4 to 7 of our log are not here',
      },
    ]);
  });

  test('uses are counted with the call that served them, and only those that succeeded', () => {
    const use = (eid: string, out: string, kref?: string) =>
      JSON.stringify({
        v: 'keytether.log/1',
        typ: 'key.use',
        eid,
        t: START * 1000,
        tn: 'ten_a',
        n: 3,
        out,
        kref,
      });
    const cid = calls[1]?.cid ?? '';
    const result = compare(
      local,
      [...leaves, use('a', 'ok', cid), use('b', 'ok', cid), use('c', 'error', cid), use('d', 'ok')],
      theirs,
    );
    expect(result.uses).toBe(6);
  });

  test('what is no leaf of this format is malformed, other types of leaf are not', () => {
    const other = JSON.stringify({
      v: 'keytether.log/1',
      typ: 'log.genesis',
      eid: 'g',
      t: 1,
      tn: 'ten_a',
      origin: 'o',
    });
    const broken = [
      '{"v":"keytether.log/2","typ":"kms.intent","eid":"x","t":1,"tn":"a"}',
      '{"v":"keytether.log/1","typ":"kms.intent","eid":"y","t":1,"tn":"a"}',
      'nonsense',
      '{"entries":[{"index":0,"leaf":"not json"}]}',
    ];
    const log = read([other, ...broken].join('\n'));
    expect(log.malformed.map(({ position }) => position.record).sort()).toEqual([2, 3, 4, 5]);
    expect([log.calls.length, log.leaves]).toEqual([0, 2]);
  });

  test('calls to a KMS whose log was not given cannot be covered', () => {
    const result = compare({ vendor: 'vault' }, leaves, '');
    expect(counts(result).ours).toEqual({ 'not-coverable': 6 });
    expect(result.findings[0]?.reason).toBe('no log of local was given');
    expect(result.clean).toBe(false);
  });

  test('only the time that was asked for is judged', () => {
    const window = { from: START + 2 * MINUTE, until: START + 4 * MINUTE };
    const kept = local.file(calls.slice(2).flatMap((one) => local.write(one)));
    const result = compare(local, leaves, kept, { window, theirsFrom: START - MINUTE });
    expect(counts(result).ours).toEqual({ matched: 4, outside: 2 });
    expect(result.clean).toBe(true);
    expect(compare(local, leaves, kept, { now: NOW, theirsFrom: START - MINUTE }).clean).toBe(false);
  });
});
