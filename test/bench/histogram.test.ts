import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { Histogram } from '../../bench/load/histogram.ts';

describe('latency histogram', () => {
  test('a quantile is never below the exact one and at most 1.6 % above it', () => {
    const values = fc.array(fc.integer({ min: 0, max: 100_000_000 }), { minLength: 1, maxLength: 300 });
    fc.assert(
      fc.property(values, fc.constantFrom(0.01, 0.5, 0.9, 0.99, 1), (micros, share) => {
        const histogram = new Histogram();
        for (const value of micros) histogram.record(value);
        const sorted = micros.toSorted((a, b) => a - b);
        const exact = sorted[Math.max(1, Math.ceil(share * sorted.length)) - 1] ?? 0;
        const found = histogram.quantile(share);
        expect(found).toBeGreaterThanOrEqual(exact);
        expect(found).toBeLessThanOrEqual(exact + exact / 64);
      }),
    );
  });

  test('times out of range are kept at the edges and counted', () => {
    const histogram = new Histogram();
    histogram.record(-5);
    histogram.record(1e12);
    expect(histogram.count).toBe(2);
    expect(histogram.quantile(0.5)).toBe(0);
    expect(histogram.quantile(1)).toBe(2 ** 27 - 1);
  });

  test('an empty histogram has zero quantiles', () => {
    expect(new Histogram().quantile(0.99)).toBe(0);
  });
});
