import { expect, test } from '@jest/globals';
import { complaints, fuzz } from './fuzz.ts';

test('30,000 damaged inputs are all refused, each refusal is met, and enough get past header and commitment', () => {
  expect(complaints(fuzz(1, 30_000), 5)).toEqual([]);
});

test('the same seed tries the same inputs', () => {
  expect([...fuzz(7, 2000).refusals]).toEqual([...fuzz(7, 2000).refusals]);
});

test('a report that accepts, surprises or misses something is complained about', () => {
  const report = fuzz(3, 500);
  const bad = {
    ...report,
    accepted: new Map([['head', 1]]),
    unexpected: new Map([['TypeError', 'x']]),
    pastHeader: 0.1,
  };
  expect(complaints(bad, 0).length).toBe(3);
  expect(complaints(report, 10_000).length).toBe(report.refusals.size);
});
