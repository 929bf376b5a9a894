/** Every vendor's documented shape, with the same faults. */
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from '@jest/globals';
import { createDrivers } from '../../adapters/index.ts';
import { VENDOR_LOGS } from '../../src/reconcile/vendors.ts';
import { bytesOf, compare, counts } from './compare.ts';
import { type Call, callsOf, leavesOf, NOW, SHAPES, type Shape, START } from './scenario.ts';

const MINUTE = 60_000;
const COUNT = 20;

describe.each(SHAPES.map((shape) => [shape.vendor, shape] as const))('%s', (_vendor, shape: Shape) => {
  const calls = callsOf(shape, COUNT);
  const call = (i: number): Call => {
    const found = calls[i];
    if (found === undefined) throw new Error('no such call');
    return found;
  };
  const leaves = calls.flatMap((one) => leavesOf(shape, one, one.outcome));
  const file = (told: readonly Call[], more: readonly unknown[] = []) =>
    shape.file([...told.flatMap((one) => shape.write(one)), ...more]);
  const without = (i: number) => calls.filter((_, at) => at !== i);
  const rogue: Call = { ...call(10), cid: '', rid: 'rogue-1', op: 'unwrap', outcome: 'ok' };

  test('two faithful logs match, call by call, and are clean', () => {
    const result = compare(shape, leaves, file(calls));
    expect(counts(result)).toEqual({ ours: { matched: COUNT }, theirs: { matched: COUNT } });
    expect([result.clean, result.suggestions, result.malformed]).toEqual([true, [], []]);
  });

  test('gzip makes no difference', () => {
    expect(compare(shape, leaves, gzipSync(file(calls))).clean).toBe(true);
  });

  test('a decrypt with stolen credentials is theirs-only', () => {
    const result = compare(shape, leaves, file([...calls, rogue]));
    expect(counts(result).theirs).toEqual({ matched: COUNT, 'theirs-only': 1 });
    const found = result.findings.filter((one) => one.class === 'theirs-only');
    expect(found).toMatchObject([
      { reason: 'bears no correlation id of ours', theirs: { op: 'unwrap', outcome: 'ok' } },
    ]);
    expect(result.clean).toBe(false);
  });

  test('a thief who copies the correlation id of a real call is theirs-only', () => {
    const copied: Call = { ...rogue, cid: call(10).cid, at: call(10).at + 1_000 };
    const result = compare(shape, leaves, file([...calls, copied]));
    expect(counts(result)).toEqual({
      ours: { matched: COUNT },
      theirs: { matched: COUNT, 'theirs-only': 1 },
    });
    expect(result.findings.find((one) => one.class === 'theirs-only')?.reason).toBe(
      'bears the correlation id of another call',
    );
  });

  test('a denied attempt with the id of a call, before or after it, belongs to that call', () => {
    for (const shift of [-300, 300]) {
      const denied: Call = { ...call(10), rid: 'denied-1', outcome: 'denied', at: call(10).at + shift };
      const result = compare(shape, leaves, file([...calls, denied]));
      expect(call(10).outcome).toBe('ok');
      expect(counts(result)).toEqual({ ours: { matched: COUNT }, theirs: { matched: COUNT + 1 } });
    }
  });

  test('a use of another key is no matter of ours', () => {
    const result = compare(shape, leaves, file([...calls, { ...rogue, key: shape.otherKey }]));
    expect(counts(result).theirs).toEqual({ matched: COUNT, 'other-keys': 1 });
    expect(result.clean).toBe(true);
  });

  test('a lost answer and an intent without a result are resolved by what their log says', () => {
    const ours = calls.flatMap((one, i) =>
      leavesOf(shape, one, i === 5 ? 'unknown' : i === 7 ? undefined : one.outcome),
    );
    const result = compare(shape, ours, file(calls));
    expect(counts(result).ours).toEqual({ matched: COUNT - 2, 'resolved-unknown': 2 });
    const told = result.findings
      .filter((one) => one.class === 'resolved-unknown')
      .map(({ reason }) => reason);
    expect(told).toEqual([`their log says ${call(5).outcome}`, `their log says ${call(7).outcome}`]);
    expect(result.clean).toBe(true);
  });

  test('a lost call that never arrived is resolved as absent', () => {
    const ours = calls.flatMap((one, i) => leavesOf(shape, one, i === 5 ? 'unknown' : one.outcome));
    const result = compare(shape, ours, file(without(5)));
    expect(counts(result).ours).toEqual({ matched: COUNT - 1, 'resolved-unknown': 1 });
    expect(result.findings.find((one) => one.class === 'resolved-unknown')?.theirs).toBeUndefined();
  });

  test('a record that their log lacks is ours-only', () => {
    const result = compare(shape, leaves, file(without(5)));
    expect(counts(result).ours).toEqual({ matched: COUNT - 1, 'ours-only': 1 });
    expect(result.clean).toBe(false);
  });

  test('a record delivered twice is a duplicate and no finding', () => {
    const result = compare(shape, leaves, file([...calls, call(3)]));
    expect(counts(result).theirs).toEqual({ matched: COUNT, duplicate: 1 });
    expect(result.clean).toBe(true);
  });

  test('a call younger than the lag is pending', () => {
    const last = call(COUNT - 1);
    const options = { now: last.at + 30_000, lagMs: MINUTE };
    const result = compare(shape, leaves, file(without(COUNT - 1)), options);
    expect(counts(result).ours).toEqual({ matched: COUNT - 1, pending: 1 });
    expect(result.clean).toBe(true);
  });

  test('absence inside a gap is not coverable, and a gap is never clean', () => {
    const gaps = [{ from: START + 4.5 * MINUTE, until: START + 8.5 * MINUTE, reason: 'logging was off' }];
    const kept = calls.filter((_, i) => i < 5 || i > 8);
    const lost = compare(shape, leaves, file(kept), { gaps });
    expect(counts(lost).ours).toEqual({ matched: COUNT - 4, 'not-coverable': 4 });
    expect(lost.clean).toBe(false);

    const complete = compare(shape, leaves, file(calls), { gaps });
    expect(counts(complete).ours).toEqual({ matched: COUNT });
    expect([complete.clean, complete.coverage[0]?.gaps]).toEqual([false, gaps]);
  });

  test('what lies before their first record is not coverable, unless it is said that they cover it', () => {
    const kept = calls.slice(2);
    const told = counts(compare(shape, leaves, file(kept)));
    expect(told.ours).toEqual({ matched: COUNT - 2, 'not-coverable': 2 });
    const stated = compare(shape, leaves, file(kept), { theirsFrom: START - MINUTE });
    expect(counts(stated).ours).toEqual({ matched: COUNT - 2, 'ours-only': 2 });
  });

  test('what lies after our leaves were read is not coverable', () => {
    const half = calls.slice(0, 10).flatMap((one) => leavesOf(shape, one, one.outcome));
    const result = compare(shape, half, file(calls), { oursUntil: call(9).at + 5_000 });
    expect(counts(result).theirs).toEqual({ matched: 10, 'not-coverable': 10 });
  });

  test('an answer that we tell otherwise is a conflict, above all a success that we call an error', () => {
    const hidden = calls.flatMap((one, i) => leavesOf(shape, one, i === 5 ? 'error' : one.outcome));
    expect(call(5).outcome).toBe('ok');
    const result = compare(shape, hidden, file(calls));
    expect(counts(result)).toEqual({
      ours: { matched: COUNT - 1, conflict: 1 },
      theirs: { matched: COUNT - 1, conflict: 1 },
    });
    expect(result.findings.find((one) => one.class === 'conflict')?.differs).toEqual(['outcome']);
  });

  test('another key, operation or principal under our id is a conflict', () => {
    const differing = (change: Partial<Call>) =>
      compare(
        shape,
        leaves,
        file(calls.map((one, i) => (i === 5 ? { ...one, ...change } : one))),
      ).findings.find((one) => one.class === 'conflict')?.differs;
    expect(call(5).op).toBe('unwrap');
    expect(differing({ key: shape.otherKey })).toEqual(['key']);
    expect(differing({ op: 'wrap' })).toEqual(['op']);
    expect(differing({ at: call(5).at + 10 * MINUTE })).toEqual(['time']);

    const same = compare(shape, leaves, file(calls), { principals: [`${shape.principal.slice(0, 5)}*`] });
    expect(counts(same).ours).toEqual({ matched: COUNT });
    const other = compare(shape, leaves, file(calls), { principals: ['somebody else'] });
    expect(counts(other).ours).toEqual({ conflict: COUNT });
    expect(other.findings[0]?.differs).toEqual(['principal']);
  });

  test('without any id, principal, key, operation and time suggest a pair and change no class', () => {
    const bare: Call = { ...call(5), cid: '', rid: 'another' };
    const result = compare(shape, leaves, file([...without(5), bare]));
    expect(counts(result)).toEqual({
      ours: { matched: COUNT - 1, 'ours-only': 1 },
      theirs: { matched: COUNT - 1, 'theirs-only': 1 },
    });
    expect(result.suggestions).toMatchObject([{ ours: { cid: call(5).cid }, theirs: { cid: undefined } }]);
  });

  test('fields that the vendor adds are no matter, records that lack theirs are reported with their place', () => {
    const records = calls.flatMap((one) => shape.write(one));
    const added = records.map((one) => ({ ...(one as object), newField: { deep: [1] } }));
    expect(compare(shape, leaves, shape.file(added)).clean).toBe(true);

    const broken = [...records, { hello: 'world' }, 'text', null, 17];
    const result = compare(shape, leaves, shape.file(broken));
    expect(counts(result).ours).toEqual({ matched: COUNT });
    expect(result.malformed).toHaveLength(4);
    expect(result.malformed[0]?.position).toEqual({ input: 'theirs', record: records.length + 1 });
    expect(result.clean).toBe(false);
  });

  test('a describe by somebody else, without our id, uses no key and is counted apart', () => {
    const console: Call = { ...call(10), cid: '', rid: 'console', op: 'describe', outcome: 'ok' };
    const result = compare(shape, leaves, file([...calls, console]));
    expect(counts(result).theirs).toEqual({ matched: COUNT, management: 1 });
    expect(result.clean).toBe(true);
  });

  test('an empty file covers nothing', () => {
    const result = compare(shape, leaves, '');
    expect(counts(result).ours).toEqual({ 'not-coverable': COUNT });
    expect(result.clean).toBe(false);
  });
});

test('every KMS that this build can reach has a reader of its log, under the provider name of our leaves', () => {
  const providers = [...createDrivers({ production: false, localFolder: 'unused' }).keys()];
  const readable = Object.values(VENDOR_LOGS).map(({ provider }) => provider);
  expect(readable).toEqual(expect.arrayContaining(providers));
});

describe('what each vendor adds', () => {
  const shapeOf = (vendor: string): Shape => {
    const found = SHAPES.find((one) => one.vendor === vendor);
    if (!found) throw new Error(vendor);
    return found;
  };
  const leavesFor = (shape: Shape, count: number) =>
    callsOf(shape, count).flatMap((one) => leavesOf(shape, one, one.outcome));
  const recordsFor = (shape: Shape, count: number) =>
    callsOf(shape, count).flatMap((one) => shape.write(one));

  test('CloudTrail: a rotation by AWS, acts of the customer and other services are counted apart', () => {
    const aws = shapeOf('aws');
    const at = {
      eventTime: '2026-03-01T10:01:00Z',
      eventSource: 'kms.amazonaws.com',
      resources: [{ ARN: aws.key }],
    };
    const more = [
      {
        ...at,
        eventName: 'RotateKey',
        eventType: 'AwsServiceEvent',
        eventID: 'r',
        userAgent: 'AWS Internal',
        requestParameters: null,
      },
      { ...at, eventName: 'PutKeyPolicy', eventType: 'AwsApiCall', eventID: 'p' },
      { ...at, eventSource: 's3.amazonaws.com', eventName: 'GetObject', eventID: 's' },
    ];
    const result = compare(aws, leavesFor(aws, 5), aws.file([...recordsFor(aws, 5), ...more]));
    expect(counts(result).theirs).toEqual({ matched: 5, provider: 1, management: 1 });
    expect(result.clean).toBe(true);
  });

  test('CloudTrail: a name of AWS’s own events on an ordinary call, and an operation nobody knows, are uses', () => {
    const aws = shapeOf('aws');
    const at = {
      eventTime: '2026-03-01T10:01:00Z',
      eventSource: 'kms.amazonaws.com',
      resources: [{ ARN: aws.key }],
    };
    const more = [
      { ...at, eventName: 'RotateKey', eventType: 'AwsApiCall', eventID: '1' },
      { ...at, eventName: 'GenerateDataKey', eventType: 'AwsApiCall', eventID: '2' },
      { ...at, eventName: 'NewThing', eventType: 'AwsApiCall', eventID: '3' },
    ];
    const result = compare(aws, leavesFor(aws, 5), aws.file([...recordsFor(aws, 5), ...more]));
    expect(counts(result).theirs).toEqual({ matched: 5, 'theirs-only': 3 });
  });

  test('CloudTrail: a trail that is stopped and started again leaves a gap', () => {
    const aws = shapeOf('aws');
    const change = (eventName: string, minute: string) => ({
      eventTime: `2026-03-01T10:${minute}:30Z`,
      eventSource: 'cloudtrail.amazonaws.com',
      eventName,
      eventID: eventName,
    });
    const kept = callsOf(aws, 10).filter((_, i) => i !== 4);
    const text = aws.file([
      ...kept.flatMap((one) => aws.write(one)),
      change('StopLogging', '03'),
      change('StartLogging', '05'),
    ]);
    const result = compare(aws, leavesFor(aws, 10), text);
    expect(counts(result).ours).toEqual({ matched: 9, 'not-coverable': 1 });
    expect(result.coverage[0]?.gaps).toMatchObject([{ reason: 'their log was switched off: StopLogging' }]);
  });

  test('CloudTrail: a denial that their log lacks may be in the caller’s own account', () => {
    const aws = shapeOf('aws');
    const calls = callsOf(aws, 5);
    expect(calls[2]?.outcome).toBe('denied');
    const text = aws.file(calls.filter((_, i) => i !== 2).flatMap((one) => aws.write(one)));
    expect(counts(compare(aws, leavesFor(aws, 5), text)).ours).toEqual({ matched: 4, 'not-coverable': 1 });
  });

  test('CloudTrail: one id with two contents is a conflict', () => {
    const aws = shapeOf('aws');
    const [first, ...rest] = recordsFor(aws, 5);
    const text = aws.file([first, ...rest, { ...(first as object), eventName: 'Encrypt' }]);
    const result = compare(aws, leavesFor(aws, 5), text);
    expect(counts(result).theirs).toEqual({ matched: 5, conflict: 1 });
  });

  test('Azure: the challenge before a token is no use of the key', () => {
    const azure = shapeOf('azure');
    const [first] = callsOf(azure, 1);
    if (!first) throw new Error('no call');
    const record = azure.write(first)[0] as { properties: object };
    const challenge = {
      ...record,
      correlationId: 'c',
      properties: { ...record.properties, httpStatusCode: 401 },
    };
    const result = compare(azure, leavesFor(azure, 5), azure.file([challenge, ...recordsFor(azure, 5)]));
    expect(counts(result).theirs).toEqual({ matched: 5, management: 1 });
  });

  test('GCP: events of the system are the provider’s', () => {
    const gcp = shapeOf('gcp');
    const rotation = {
      logName: 'projects/p/logs/cloudaudit.googleapis.com%2Fsystem_event',
      insertId: 'x',
      timestamp: '2026-03-01T10:01:00Z',
      protoPayload: {
        serviceName: 'cloudkms.googleapis.com',
        methodName: 'CreateCryptoKeyVersion',
        resourceName: gcp.key,
      },
    };
    const result = compare(gcp, leavesFor(gcp, 5), gcp.file([...recordsFor(gcp, 5), rotation]));
    expect(counts(result).theirs).toEqual({ matched: 5, provider: 1 });
  });

  test('Vault: a mount that only ends alike is another key', () => {
    const vault = shapeOf('vault');
    const text = (mount: string) =>
      vault.file(recordsFor(vault, 1)).replaceAll('"path":"transit/', `"path":"${mount}/`);
    expect(compare(vault, leavesFor(vault, 1), text('eu/transit')).findings[0]?.differs).toEqual(['key']);
    expect(compare(vault, leavesFor(vault, 1), text('transit')).findings[0]?.differs).toEqual([]);
  });

  test('Vault: a batch under one id is a conflict, since one call of ours carries one key', () => {
    const vault = shapeOf('vault');
    const records = recordsFor(vault, 1).map((one) => {
      const entry = one as { request: object };
      return { ...entry, request: { ...entry.request, data: { batch_input: [{}, {}, {}] } } };
    });
    const result = compare(vault, leavesFor(vault, 1), vault.file(records));
    expect(result.findings).toMatchObject([{ class: 'conflict', differs: ['items'] }]);
  });

  test('Vault: a request without a response does not say how it ended, and contradicts nothing', () => {
    const vault = shapeOf('vault');
    const [request] = recordsFor(vault, 1);
    expect(counts(compare(vault, leavesFor(vault, 1), vault.file([request]))).ours).toEqual({ matched: 1 });
  });

  test('Vault: a correlation header that is logged as a hash leaves the request id', () => {
    const vault = shapeOf('vault');
    const records = recordsFor(vault, 1).map((one) => {
      const entry = one as { request: object };
      return { ...entry, request: { ...entry.request, headers: { 'X-Correlation-Id': ['hmac-sha256:00'] } } };
    });
    expect(counts(compare(vault, leavesFor(vault, 1), vault.file(records))).ours).toEqual({ matched: 1 });
  });

  test('Vault: a device that is taken away ends what its file covers', () => {
    const vault = shapeOf('vault');
    const disable = {
      time: '2026-03-01T10:04:30Z',
      type: 'request',
      request: { id: 'd', operation: 'delete', path: 'sys/audit/file' },
    };
    const result = compare(vault, leavesFor(vault, 8), vault.file([...recordsFor(vault, 5), disable]));
    expect(counts(result).ours).toEqual({ matched: 5, 'not-coverable': 3 });
  });

  test('a log without lag covers to now, one with lag to its last record', () => {
    const until = (vendor: string) => {
      const shape = shapeOf(vendor);
      return compare(shape, leavesFor(shape, 5), shape.file(recordsFor(shape, 5))).coverage[0]?.theirs.until;
    };
    expect([until('vault'), until('local')]).toEqual([NOW, NOW]);
    expect(until('aws')).toBe(START + 4 * MINUTE);
  });

  test('lines that are cut, not UTF-8 or too deep are malformed, each with its line', () => {
    const local = shapeOf('local');
    const good = local.file(recordsFor(local, 1));
    const deep = `${'['.repeat(40)}${']'.repeat(40)}`;
    const bytes = Buffer.concat([
      bytesOf(`${good}{"cut":\n${deep}\n`),
      Uint8Array.of(0x22, 0xff, 0x22, 0x0a),
      bytesOf(good),
    ]);
    const parsed = VENDOR_LOGS.local.parse('x', new Uint8Array(bytes));
    expect(parsed.malformed.map(({ position }) => position.record)).toEqual([2, 3, 4]);
    expect(parsed.events).toHaveLength(2);
  });
});
