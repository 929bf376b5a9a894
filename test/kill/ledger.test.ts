import { createHash } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import { checkTenant, merkleRoot, type Released, type StoredLog, sumOf } from './ledger.ts';
import { type Asked, killsInWindow } from './window.ts';

const ORIGIN = 'log.example/ten_a';
const hashOf = (leaf: Uint8Array) => createHash('sha256').update(Uint8Array.of(0)).update(leaf).digest();
const envelopeOf = (request: number) => `envelope-${request}`;

/** A log with one flight, then `uses` decrypts that it served. */
function logOf(uses: number): StoredLog {
  const bodies: object[] = [
    { typ: 'log.genesis', eid: 'g', origin: ORIGIN },
    { typ: 'kms.intent', eid: 'i', kms: { cid: 'i' } },
    { typ: 'kms.result', eid: 'k', kref: 'i', kms: { cid: 'i' } },
    ...Array.from({ length: uses }, (_, i) => ({
      typ: 'key.use',
      eid: `e${i}`,
      op: 'decrypt',
      req: `r${i}`,
      out: 'ok',
      env: [envelopeOf(i)],
      kref: 'i',
    })),
  ];
  return logWith(bodies);
}

function logWith(bodies: readonly object[]): StoredLog {
  const leaves = bodies.map((body, index) => {
    const leaf = new TextEncoder().encode(JSON.stringify(body));
    return { index, leaf, leafHash: hashOf(leaf) };
  });
  return { tenant: 'ten_a', size: leaves.length, root: rootOf(leaves), leaves };
}

const rootOf = (leaves: StoredLog['leaves']) => merkleRoot(leaves.map(({ leaf }) => hashOf(leaf)));

function releasedOf(log: StoredLog, request: number): Released {
  const index = request + 3;
  return {
    tenant: log.tenant,
    requestId: `r${request}`,
    operation: 'decrypt',
    origin: ORIGIN,
    index,
    leafHash: Buffer.from(log.leaves[index]?.leafHash ?? []).toString('base64'),
    envelope: envelopeOf(request),
    arrivedAt: 100 + request,
  };
}

const all = (log: StoredLog, uses: number) => Array.from({ length: uses }, (_, i) => releasedOf(log, i));
const NOTHING = { lost: 0, withoutRecord: 0, treeErrors: 0, allowedTwice: 0, overReported: 0 };

describe('ledger of released answers', () => {
  test('a log that holds every released answer has no findings', () => {
    const log = logOf(5);
    const found = checkTenant(all(log, 5), log);
    expect(found).toMatchObject({ ...NOTHING, released: 5, leaves: 8, examples: [] });
    expect(found.flights.get('i')).toEqual({
      tenant: 'ten_a',
      ended: true,
      allowed: 5,
      released: [100, 101, 102, 103, 104],
    });
  });

  test('the root of known leaves is the one of the published test tree', () => {
    // Certificate Transparency's reference test data (google/certificate-transparency, merkle_tree_test.cc; Apache-2.0).
    const inputs = [
      '',
      '00',
      '10',
      '2021',
      '3031',
      '40414243',
      '5051525354555657',
      '606162636465666768696a6b6c6d6e6f',
    ];
    const root = merkleRoot(inputs.map((hex) => hashOf(Buffer.from(hex, 'hex'))));
    expect(root.toString('hex')).toBe('5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328');
    expect(merkleRoot([]).toString('hex')).toBe(createHash('sha256').digest('hex'));
  });

  test('a record that was cut off with the tail of the log is found', () => {
    const whole = logOf(5);
    const found = checkTenant(all(whole, 5), logOf(4));
    expect(found).toMatchObject({ ...NOTHING, lost: 1, withoutRecord: 1 });
    expect(found.examples[0]).toContain('r4');
  });

  test('a receipt whose hash is not the one at its index is found', () => {
    const log = logOf(3);
    const [first, ...rest] = all(log, 3);
    const other = Buffer.alloc(32).toString('base64');
    const found = checkTenant(first === undefined ? [] : [{ ...first, leafHash: other }, ...rest], log);
    expect(found).toMatchObject({ ...NOTHING, lost: 1 });
  });

  test('a receipt that names another index or another log is found', () => {
    const log = logOf(3);
    const [a, b, c] = all(log, 3);
    if (a === undefined || b === undefined || c === undefined) throw new Error('three answers');
    const moved = { ...a, index: b.index, leafHash: b.leafHash };
    expect(checkTenant([moved, b, { ...c, origin: 'log.example/ten_b' }], log)).toMatchObject({
      ...NOTHING,
      lost: 2,
    });
  });

  test('a record of another operation or envelope allows nothing', () => {
    const log = logOf(2);
    const [a, b] = all(log, 2);
    if (a === undefined || b === undefined) throw new Error('two answers');
    const found = checkTenant(
      [
        { ...a, operation: 'encrypt' },
        { ...b, envelope: envelopeOf(9) },
      ],
      log,
    );
    expect(found).toMatchObject({ ...NOTHING, withoutRecord: 2 });
  });

  test('a record that is not ok allows nothing', () => {
    const log = logOf(1);
    const refused = logWith([
      { typ: 'log.genesis', eid: 'g', origin: ORIGIN },
      { typ: 'kms.intent', eid: 'i', kms: { cid: 'i' } },
      { typ: 'key.use', eid: 'e', op: 'decrypt', req: 'r0', out: 'error', env: [envelopeOf(0)] },
    ]);
    expect(checkTenant(all(log, 1), refused)).toMatchObject({ lost: 1, withoutRecord: 1 });
  });

  test('a gap in the indices is a tree error, and so is a second leaf with an index', () => {
    const log = logOf(3);
    const gap = log.leaves.filter(({ index }) => index !== 4);
    expect(checkTenant([], { ...log, leaves: gap }).treeErrors).toBeGreaterThan(0);
    const twice = [...log.leaves, ...log.leaves.slice(-1)];
    expect(checkTenant([], { ...log, leaves: twice, size: twice.length }).treeErrors).toBeGreaterThan(0);
    const filled = { ...log, leaves: gap, size: gap.length, root: rootOf(gap) };
    expect(checkTenant([], filled).treeErrors).toBe(1);
  });

  test('a stored hash, a size and a root that are not those of the leaves are tree errors, each by itself', () => {
    const log = logOf(3);
    const spoiled = log.leaves.map((leaf) =>
      leaf.index === 2 ? { ...leaf, leafHash: new Uint8Array(32) } : leaf,
    );
    expect(checkTenant([], { ...log, leaves: spoiled }).treeErrors).toBe(1);
    expect(checkTenant([], { ...log, size: 7 }).treeErrors).toBe(1);
    expect(checkTenant([], { ...log, root: new Uint8Array(32) }).treeErrors).toBe(1);
  });

  test('a record without a release is over-reported, and told apart when the log says so', () => {
    const log = logWith([
      ...logOf(3).leaves.map(({ leaf }) => JSON.parse(new TextDecoder().decode(leaf))),
      { typ: 'use.not_released', eid: 'n', ref: 'e2' },
    ]);
    const found = checkTenant([releasedOf(log, 0)], log);
    expect(found).toMatchObject({ ...NOTHING, overReported: 2, overReportedAndSaid: 1 });
  });

  test('two records for one request are found', () => {
    const log = logOf(1);
    const bodies = log.leaves.map(({ leaf }) => JSON.parse(new TextDecoder().decode(leaf)));
    expect(checkTenant([], logWith([...bodies, bodies.at(-1)])).allowedTwice).toBe(1);
  });

  test('findings of several tenants add up', () => {
    const log = logOf(3);
    const sum = sumOf([checkTenant(all(log, 3), logOf(2)), checkTenant(all(log, 3), log)]);
    expect(sum).toMatchObject({ released: 6, lost: 1, withoutRecord: 1, leaves: 11 });
  });
});

describe('kills between the answer of the KMS and the reveal', () => {
  const flights = (released: number[], ended = true) =>
    new Map([['i', { tenant: 'ten_a', ended, allowed: ended ? 2 : 0, released }]]);
  const kill = { at: 100, upSince: 0 };
  const answer = { cid: 'i', at: 98 };
  const waiting: Asked = { tenant: 'ten_a', from: 90, to: 101 };

  test('a kill counts while a use of an answered flight has not arrived', () => {
    expect(killsInWindow([kill], [answer], [waiting], flights([]))).toBe(1);
    expect(killsInWindow([kill], [answer], [waiting], flights([99]))).toBe(1);
  });

  test('a kill counts when the end of the flight never came into the log', () => {
    expect(killsInWindow([kill], [answer], [waiting], flights([], false))).toBe(1);
  });

  test('a kill before the answer, or after everything has arrived, does not count', () => {
    expect(killsInWindow([{ ...kill, at: 97 }], [answer], [waiting], flights([]))).toBe(0);
    expect(killsInWindow([kill], [answer], [waiting], flights([99, 99.5]))).toBe(0);
    expect(killsInWindow([kill], [answer], [{ ...waiting, to: 99 }], flights([]))).toBe(0);
  });

  test('neither a request sent after the answer nor one of another tenant makes a kill count', () => {
    expect(killsInWindow([kill], [answer], [{ ...waiting, from: 99 }], flights([]))).toBe(0);
    expect(killsInWindow([kill], [answer], [{ ...waiting, tenant: 'ten_b' }], flights([]))).toBe(0);
  });

  test('an answer from before the last restart, an old one and one that the log does not know do not count', () => {
    expect(killsInWindow([{ ...kill, upSince: 99 }], [answer], [waiting], flights([]))).toBe(0);
    const long = { ...waiting, from: -1_000 };
    expect(killsInWindow([{ ...kill, upSince: -1_000 }], [{ cid: 'i', at: -300 }], [long], flights([]))).toBe(
      0,
    );
    expect(killsInWindow([kill], [{ cid: 'x', at: 98 }], [waiting], flights([]))).toBe(0);
  });
});
