import { describe, expect, test } from '@jest/globals';
import type { Row } from '../../bench/row.ts';
import { cpuRatio, rateRatio, render, target } from '../../bench/table.ts';

function row(over: Partial<Row>, load: Partial<Row['load']> = {}): Row {
  return {
    name: 'decrypt, 10 tenants',
    itemsPerRequest: 1,
    cpu: { load: 12.3, service: 80 },
    othersCores: 0,
    kmsCallsPerSecond: 460,
    load: {
      connections: 1000,
      seconds: 4,
      answered: 40_000,
      perSecond: 10_000,
      p50Ms: 40.04,
      p99Ms: 67,
      maxMs: 90,
      errors: {},
      errorCount: 0,
      reconnects: 0,
      unanswered: 0,
      cpuSeconds: 1,
      ...load,
    },
    ...over,
  };
}

const EMPTY = { heading: ['title'], ratios: [], rows: [], skipped: [], excluded: [] };

describe('report', () => {
  test('ratios come before runs, and what is left out comes last', () => {
    const text = render({
      ...EMPTY,
      ratios: [
        rateRatio('ours / theirs', row({}), row({}, { perSecond: 4_000 })),
        rateRatio('ours / nobody', row({}), undefined),
      ],
      rows: [row({})],
      skipped: ['Vault: Go is not installed'],
      excluded: ['TLS'],
    });
    const places = ['title', 'ours / theirs', '2.50 ×', 'not measured', '10,000', 'Go is not', 'TLS'].map(
      (part) => text.indexOf(part),
    );
    expect(places).not.toContain(-1);
    expect(places).toEqual(places.toSorted((a, b) => a - b));
  });

  test('columns end at the same place whatever the width of the cells', () => {
    const text = render({ ...EMPTY, rows: [row({}), row({ name: 'x' }, { perSecond: 7, p50Ms: 1000 })] });
    const lines = text.split('\n').filter((line) => /^(decrypt|x) /.test(line));
    expect(new Set(lines.map((line) => line.length)).size).toBe(1);
  });

  test('a batch row counts items', () => {
    expect(render({ ...EMPTY, rows: [row({ itemsPerRequest: 100 })] })).toContain('1,000,000');
  });

  test('a CPU ratio is per item and leaves the load generator out', () => {
    const batch = row({ cpu: { service: 300, KMS: 100, load: 1_000 }, itemsPerRequest: 100 });
    expect(cpuRatio('batch / single', batch, row({})).value).toBeCloseTo(4 / 80);
    expect(cpuRatio('no figures', row({ cpu: { load: 3 } }), row({})).value).toBeUndefined();
  });

  test('a ratio of a disturbed row is marked', () => {
    const ratios = [rateRatio('ours / theirs', row({}), row({ othersCores: 1 }))];
    expect(render({ ...EMPTY, ratios })).toContain('ours / theirs *');
  });

  test('a target is met, missed or not measured', () => {
    const slow = row({}, { perSecond: 4_000 });
    const ratios = [
      target(2.5, rateRatio('just', row({}), slow)),
      target(2.6, rateRatio('almost', row({}), slow)),
      target(1, rateRatio('nothing', row({}), undefined)),
    ];
    const lines = render({ ...EMPTY, ratios }).split('\n');
    expect(lines.find((line) => line.includes('just'))).toMatch(/target at least 2.5 ×: met$/);
    expect(lines.find((line) => line.includes('almost'))).toMatch(/target at least 2.6 ×: MISSED$/);
    expect(lines.find((line) => line.includes('nothing'))).toMatch(/target at least 1 ×: not measured$/);
  });

  test('failures are spelled out by row', () => {
    const failing = row(
      {},
      { errors: { '503 KMS_THROTTLED': 1234 }, errorCount: 1234, unanswered: 2, reconnects: 1 },
    );
    expect(render({ ...EMPTY, rows: [failing] })).toContain(
      'decrypt, 10 tenants: 503 KMS_THROTTLED × 1,234, no answer × 2, reconnects × 1',
    );
  });

  test('a row that others disturbed is marked', () => {
    const text = render({ ...EMPTY, rows: [row({ othersCores: 1.1 })] });
    expect(text).toContain('decrypt, 10 tenants *');
    expect(text).toContain('up to 1.1 processors');
  });
});
