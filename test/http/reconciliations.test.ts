/** What POST …/log/reconciliations takes, and what it refuses without a call into the services. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { OWN } from './fake-services.ts';
import { type Listening, listen } from './listen.ts';
import { RECONCILED } from './reconciled.ts';

const PATH = `/v1/tenants/${OWN}/log/reconciliations`;
const [INPUT] = RECONCILED.inputs;
const [GAP] = RECONCILED.gaps;

let http: Listening;
let token: string;
beforeAll(async () => {
  http = await listen();
  token = http.services.addPrincipal('auditor', OWN);
});
beforeEach(() => {
  http.services.calls.length = 0;
});
afterAll(() => http.server.stop(1_000));

const times = <T>(count: number, value: T): T[] => Array.from({ length: count }, () => value);

describe('the result of a reconciliation', () => {
  test('is answered with its receipt, in the body and the header', async () => {
    const reply = await http.send('POST', PATH, { token, json: RECONCILED });
    expect(reply.status).toBe(201);
    expect(reply.json).toEqual({ receipt: expect.objectContaining({ index: 41 }) });
    expect(reply.headers.get('keytether-receipt')).toContain('41');
    expect(http.services.calls).toContain('recordReconciliation');
  });

  test('may have 32 inputs and gaps', async () => {
    const json = { ...RECONCILED, inputs: times(32, INPUT), gaps: times(32, GAP) };
    expect((await http.send('POST', PATH, { token, json })).status).toBe(201);
  });

  test.each<[string, object]>([
    ['an unknown field', { ...RECONCILED, verdict: 'clean' }],
    [
      'an unknown class',
      { ...RECONCILED, counts: { ...RECONCILED.counts, ours: { ...RECONCILED.counts.ours, fine: 1 } } },
    ],
    ['a class that is missing', { ...RECONCILED, counts: { ...RECONCILED.counts, theirs: { matched: 1 } } }],
    ['a count below zero', { ...RECONCILED, counts: { ...RECONCILED.counts, malformed: -1 } }],
    ['a count that is no integer', { ...RECONCILED, counts: { ...RECONCILED.counts, malformed: 0.5 } }],
    ['no input', { ...RECONCILED, inputs: [] }],
    ['too many inputs', { ...RECONCILED, inputs: times(33, INPUT) }],
    ['too many gaps', { ...RECONCILED, gaps: times(33, GAP) }],
    [
      'a hash of 31 bytes',
      { ...RECONCILED, inputs: [{ ...INPUT, sha256: Buffer.alloc(31).toString('base64') }] },
    ],
    ['a hash in hexadecimal', { ...RECONCILED, inputs: [{ ...INPUT, sha256: 'a'.repeat(64) }] }],
    ['an input of a third side', { ...RECONCILED, inputs: [{ ...INPUT, side: 'mine' }] }],
    ['a name of a file', { ...RECONCILED, inputs: [{ ...INPUT, name: 'trail.json' }] }],
    [
      'a window that ends before it begins',
      { ...RECONCILED, window: { from: GAP?.until, until: GAP?.from } },
    ],
    [
      'a time that no integer holds',
      { ...RECONCILED, window: { from: GAP?.from, until: '9999-01-01T00:00:00Z' } },
    ],
    ['a time before 1970', { ...RECONCILED, window: { from: '1969-01-01T00:00:00Z', until: GAP?.until } }],
    ['a time without a zone', { ...RECONCILED, window: { from: '2026-01-02T03:00:00', until: GAP?.until } }],
  ])('is refused with %s', async (_name, json) => {
    const reply = await http.send('POST', PATH, { token, json });
    expect([reply.status, reply.json.code]).toEqual([400, 'REQUEST_INVALID']);
    expect(http.services.calls).toEqual([]);
  });
});
