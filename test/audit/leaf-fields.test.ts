import { describe, expect, test } from '@jest/globals';
import { encodeLeaf, eventIdText, type LeafBody, newEventId } from '../../src/audit/leaf.ts';

const WRITER = { id: new Uint8Array(16).fill(7), build: 'test/1' };
const ACT = { role: 'service', id: 'prn_a' };
const KEY = { ver: 3, id: 'key_a' };
const KMS = { rid: 'r', prv: 'aws-kms', key: 'arn', cmk: 'ckey_a', cid: 'c' };

/** One body of each type with every field that it can have, in no particular order. */
const BODIES: readonly LeafBody[] = [
  { typ: 'log.genesis', origin: 'o' },
  { typ: 'writer.start', durability: 'durable' },
  { typ: 'kms.intent', op: 'unwrap', kms: KMS, key: KEY, sc: 'default', n: 2 },
  { typ: 'kms.result', op: 'unwrap', kms: KMS, key: KEY, kref: 'k', out: 'denied', rsn: 'KMS_KEY_DISABLED' },
  {
    typ: 'key.use',
    op: 'decrypt',
    act: ACT,
    req: 'q',
    sc: 'default',
    pu: 'p',
    key: KEY,
    env: ['b', 'a'],
    n: 2,
    kref: 'k',
    out: 'error',
    rsn: 'DECRYPT_FAILED',
    dtl: 'tag',
  },
  { typ: 'use.not_released', ref: 'r', kref: 'k', rsn: 'RELEASE_EXPIRED' },
  { typ: 'access.denied', op: 'log.read', act: ACT, req: 'q', n: 1, rsn: 'FORBIDDEN' },
  {
    typ: 'admin.change',
    op: 'key.create',
    act: ACT,
    req: 'q',
    sc: 's',
    obj: { typ: 'head', id: 'i', h: 'h' },
    dtl: 'd',
  },
];

/** The definition: names sorted at every level, what has no value left out, no white space. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  const fields = Object.entries(value).filter(([, field]) => field !== undefined);
  return Object.fromEntries(
    fields.sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, of]) => [name, sorted(of)]),
  );
}

describe('records as bytes', () => {
  test.each(BODIES.map((body) => [body.typ, body] as const))(
    '%s has every field of its body, sorted at every level',
    (_, body) => {
      const eid = newEventId();
      const text = new TextDecoder().decode(encodeLeaf(WRITER, 'ten_a', body, eid).bytes);
      const { t, ...rest } = JSON.parse(text);
      const svc = { build: 'test/1', inst: eventIdText(WRITER.id) };
      expect(rest).toEqual({ ...body, eid: eventIdText(eid), svc, tn: 'ten_a', v: 'keytether.log/1' });
      expect(Number.isSafeInteger(t)).toBe(true);
      expect(text).toBe(JSON.stringify(sorted(JSON.parse(text))));
    },
  );

  test('a field without a value is left out', () => {
    const bytes = encodeLeaf(WRITER, 'ten_a', {
      typ: 'access.denied',
      op: 'authenticate',
      act: undefined,
      req: undefined,
      n: 4,
      rsn: 'UNAUTHENTICATED',
    }).bytes;
    expect(Object.keys(JSON.parse(new TextDecoder().decode(bytes)))).toEqual([
      'eid',
      'n',
      'op',
      'rsn',
      'svc',
      't',
      'tn',
      'typ',
      'v',
    ]);
  });
});

describe('event ids', () => {
  test('an id is a UUIDv7 of its time', () => {
    const text = eventIdText(newEventId(0x0123456789ab));
    expect(text).toMatch(/^01234567-89ab-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  });

  test('every bit that is not time, version or variant varies', () => {
    const seen = new Uint8Array(16);
    const first = newEventId(0);
    for (let i = 0; i < 200; i++) {
      for (const [at, byte] of newEventId(0).entries())
        seen[at] = (seen[at] ?? 0) | (byte ^ (first[at] ?? 0));
    }
    expect(Buffer.from(seen).toString('hex')).toBe('0000000000000fff3fffffffffffffff');
  });
});
