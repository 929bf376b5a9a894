import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { encodeLeaf, eventIdText, type LeafBody, newEventId } from '../../src/audit/leaf.ts';

const writer = { id: newEventId(), build: 'keytether/test' };
const tenant = 'ten_a';

const use: LeafBody = {
  typ: 'key.use',
  op: 'decrypt',
  act: { id: 'prn_a', role: 'service' },
  req: 'a-request',
  sc: 'default',
  pu: 'invoices',
  key: { id: 'key_a', ver: 3 },
  env: ['AAAA', 'BBBB'],
  n: 2,
  kref: 'an-intent',
  out: 'ok',
  rsn: undefined,
  dtl: undefined,
};

const BODIES: readonly LeafBody[] = [
  { typ: 'log.genesis', origin: 'keytether.local/log/ten_a' },
  { typ: 'writer.start', durability: 'durable' },
  {
    typ: 'kms.intent',
    op: 'unwrap',
    kms: { cid: 'c', cmk: 'ckey_a', key: 'arn', prv: 'aws-kms' },
    key: { id: 'key_r', ver: 1 },
    sc: 'default',
    n: 1,
  },
  {
    typ: 'kms.result',
    op: 'unwrap',
    kms: { cid: 'c', cmk: 'ckey_a', key: 'arn', prv: 'aws-kms', rid: 'r' },
    key: undefined,
    kref: 'i',
    out: 'denied',
    rsn: 'KMS_KEY_DISABLED',
  },
  use,
  { ...use, key: undefined, kref: undefined, out: 'error', rsn: 'DECRYPT_FAILED', dtl: 'commitment' },
  { typ: 'use.not_released', ref: 'e', kref: 'i', rsn: 'RELEASE_EXPIRED' },
  { typ: 'access.denied', op: 'log.read', act: undefined, req: undefined, n: 7, rsn: 'FORBIDDEN' },
  {
    typ: 'admin.change',
    op: 'key.create',
    act: undefined,
    req: undefined,
    sc: 'default',
    obj: { typ: 'root', id: 'key_r', h: 'AAAA' },
  },
  {
    typ: 'recon.result',
    act: { id: 'prn_a', role: 'auditor' },
    req: 'r',
    win: { from: 1_700_000_000_000_000, until: 1_700_000_000_000_001 },
    gaps: [{ from: 1_700_000_000_000_000, until: 1_700_000_000_000_000 }],
    n: { ours: { matched: 3, 'ours-only': 0 }, theirs: { matched: 3, 'theirs-only': 1 }, malformed: 0 },
    src: [{ side: 'theirs', h: 'AAAA', len: 17 }],
  },
];

/** RFC 8785 for the values that a leaf may hold: names in the order of their UTF-16 units, no white space. */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const fields = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${fields.map(([name, field]) => `${JSON.stringify(name)}:${canonical(field)}`).join(',')}}`;
}

function everyValue(value: unknown, visit: (value: unknown) => void): void {
  visit(value);
  if (typeof value === 'object' && value !== null)
    for (const field of Object.values(value)) everyValue(field, visit);
}

describe('a leaf', () => {
  test.each(BODIES.map((body) => [body.typ, body] as const))(
    'of type %s is canonical JSON without null or fractions',
    (_, body) => {
      const { bytes } = encodeLeaf(writer, tenant, body);
      const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
      const value = JSON.parse(text);
      expect(text).toBe(canonical(value));
      everyValue(value, (each) => {
        expect(each).not.toBeNull();
        if (typeof each === 'number') expect(Number.isSafeInteger(each)).toBe(true);
      });
    },
  );

  test('carries version, event id, tenant, type, time and writer', () => {
    const before = Date.now() * 1000;
    const { eid, bytes } = encodeLeaf(writer, tenant, use);
    const value = JSON.parse(new TextDecoder().decode(bytes));
    expect(value).toMatchObject({ v: 'keytether.log/1', eid: eventIdText(eid), tn: tenant, typ: 'key.use' });
    expect(value.svc).toEqual({ build: writer.build, inst: eventIdText(writer.id) });
    expect(value.t).toBeGreaterThanOrEqual(before);
  });

  test('leaves out what has no value', () => {
    const { bytes } = encodeLeaf(writer, tenant, use);
    const value = JSON.parse(new TextDecoder().decode(bytes));
    expect(Object.keys(value)).not.toContain('rsn');
    expect(Object.keys(value)).not.toContain('dtl');
  });

  test('of the largest batch that the API takes stays within 16 KiB', () => {
    const env = Array.from({ length: 256 }, () => 'x'.repeat(44));
    const long = 'p'.repeat(64);
    const { bytes } = encodeLeaf(writer, `ten_${'a'.repeat(26)}`, {
      ...use,
      sc: long,
      pu: long,
      env,
      n: 256,
    });
    expect(bytes.length).toBeLessThanOrEqual(16_384);
  });
});

describe('an event id', () => {
  test('is a UUIDv7 of its millisecond', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 48 - 1 }), (nowMs) => {
        const text = eventIdText(newEventId(nowMs));
        expect(text).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
        expect(Number.parseInt(text.slice(0, 8) + text.slice(9, 13), 16)).toBe(nowMs);
      }),
    );
  });
});
