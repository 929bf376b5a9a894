import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { readOurs } from '../../src/reconcile/ours.ts';
import { VENDOR_LOGS } from '../../src/reconcile/vendors.ts';
import { bytesOf, compare } from './compare.ts';
import { type Call, callsOf, leavesOf, SHAPES, type Shape, START } from './scenario.ts';

const COUNT = 12;
const MINUTE = 60_000;

/** What becomes of one call on each side, by chance. */
const fate = fc.record({
  ours: fc.constantFrom('none', 'intent', 'unknown', 'told', 'told', 'told'),
  times: fc.constantFrom(0, 1, 1, 1, 2),
  change: fc.constantFrom('none', 'none', 'none', 'op', 'key', 'outcome', 'stranger', 'copied-id'),
});
const story = fc.record({
  fates: fc.array(fate, { minLength: COUNT, maxLength: COUNT }),
  shape: fc.constantFrom(...SHAPES),
  nowMinutes: fc.integer({ min: 0, max: 30 }),
  gap: fc.option(fc.tuple(fc.integer({ min: 0, max: 15 }), fc.integer({ min: 0, max: 5 }))),
  window: fc.option(fc.tuple(fc.integer({ min: -2, max: 15 }), fc.integer({ min: 0, max: 15 }))),
  order: fc.infiniteStream(fc.nat()),
});
type Fate = typeof fate extends fc.Arbitrary<infer T> ? T : never;

function told(shape: Shape, call: Call, { ours }: Fate): string[] {
  if (ours === 'none') return [];
  if (ours === 'intent') return leavesOf(shape, call);
  return leavesOf(shape, call, ours === 'unknown' ? 'unknown' : call.outcome);
}

function happened(shape: Shape, call: Call, { times, change }: Fate): unknown[] {
  const changed: Call =
    change === 'op'
      ? { ...call, op: call.op === 'wrap' ? 'unwrap' : 'wrap' }
      : change === 'key'
        ? { ...call, key: shape.otherKey }
        : change === 'outcome'
          ? { ...call, outcome: call.outcome === 'ok' ? 'error' : 'ok' }
          : change === 'stranger'
            ? { ...call, cid: '', rid: `s-${call.rid}` }
            : call;
  const records = Array.from({ length: times }, () => shape.write(changed)).flat();
  return change === 'copied-id' ? [...records, ...shape.write({ ...call, rid: `c-${call.rid}` })] : records;
}

function shuffled<T>(values: readonly T[], order: fc.Stream<number>): T[] {
  const keys = [...order.take(values.length)];
  return values
    .map((value, i) => ({ value, key: keys[i] ?? 0, i }))
    .sort((a, b) => a.key - b.key || a.i - b.i)
    .map(({ value }) => value);
}

const sum = (all: Readonly<Record<string, number>>) => Object.values(all).reduce((a, b) => a + b, 0);

describe('any part of any story, in any order', () => {
  test('gives every call and every event one class, and the counts add up', () => {
    const seen = new Set<string>();
    fc.assert(
      fc.property(story, ({ fates, shape, nowMinutes, gap, window, order }) => {
        const calls = callsOf(shape, COUNT);
        const each = <T>(work: (call: Call, fate: Fate) => readonly T[]) =>
          calls.flatMap((call, i) => work(call, fates[i] as Fate));
        const leaves = each((call, one) => told(shape, call, one));
        const records = each((call, one) => happened(shape, call, one));
        const options = {
          now: START + nowMinutes * MINUTE,
          gaps: gap
            ? [{ from: START + gap[0] * MINUTE, until: START + (gap[0] + gap[1]) * MINUTE, reason: 'off' }]
            : [],
          window: window
            ? { from: START + window[0] * MINUTE, until: START + (window[0] + window[1]) * MINUTE }
            : undefined,
        };
        const text = shape.file(records);
        const result = compare(shape, leaves, text, options);

        const ours = readOurs([{ name: 'ours', bytes: bytesOf(leaves.join('\n')) }]).calls;
        const theirs = VENDOR_LOGS[shape.vendor].parse('theirs', bytesOf(text)).events;
        expect([sum(result.ours), sum(result.theirs)]).toEqual([ours.length, theirs.length]);
        const sides = <Side extends 'ours' | 'theirs'>(side: Side) =>
          result.findings.flatMap((one) => (one[side] ? [JSON.stringify(one[side])] : [])).sort();
        expect(sides('ours')).toEqual(ours.map((one) => JSON.stringify(one)).sort());
        expect(sides('theirs')).toEqual(theirs.map((one) => JSON.stringify(one)).sort());

        const again = compare(shape, shuffled(leaves, order), shape.file(shuffled(records, order)), options);
        expect([again.ours, again.theirs, again.clean]).toEqual([result.ours, result.theirs, result.clean]);
        for (const one of result.findings) seen.add(one.class);
      }),
      { numRuns: 400 },
    );
    // A story that never leads to a class proves nothing of it.
    expect([...seen].sort()).toEqual([
      'conflict',
      'duplicate',
      'management',
      'matched',
      'not-coverable',
      'other-keys',
      'ours-only',
      'outside',
      'pending',
      'resolved-unknown',
      'theirs-only',
    ]);
  });

  test('never calls a story clean in which a stranger used the key', () => {
    fc.assert(
      fc.property(story, fc.integer({ min: 0, max: COUNT - 1 }), ({ fates, shape }, place) => {
        const calls = callsOf(shape, COUNT);
        const leaves = calls.flatMap((call, i) => told(shape, call, fates[i] as Fate));
        const records = calls.flatMap((call, i) => happened(shape, call, fates[i] as Fate));
        const known = calls.some((_, i) => fates[i]?.ours !== 'none');
        fc.pre(known);
        const rogue: Call = {
          cid: '',
          rid: 'rogue',
          at: START + place * MINUTE + 7_000,
          op: 'unwrap',
          key: shape.key,
          outcome: 'ok',
        };
        const result = compare(shape, leaves, shape.file([...records, ...shape.write(rogue)]));
        expect(result.clean).toBe(false);
      }),
      { numRuns: 200 },
    );
  });
});
