/** The development KMS: `usage.jsonl`, one line a call, as `adapters/kms/local/keystore.ts` describes it. */
import { z } from 'zod';
import type { KmsEvent, Operation, VendorLog } from './event.ts';
import { wholeId } from './event.ts';
import { eachRecord, momentOf, readRecords } from './records.ts';

const text = z.string().max(1_024);
const record = z.looseObject({
  time: z
    .string()
    .max(40)
    .refine((time) => momentOf(time) !== undefined),
  request_id: text,
  correlation_id: text.default(''),
  principal: text.default(''),
  operation: text,
  key: text,
  outcome: text,
});

const OPERATIONS: Readonly<Record<string, Operation>> = {
  Encrypt: 'wrap',
  Decrypt: 'unwrap',
  DescribeKey: 'describe',
};
const DENIED = new Set(['AccessDenied', 'KeyDisabled', 'KeyPendingDeletion', 'KeyNotFound']);

export const localLog: VendorLog = {
  vendor: 'local',
  provider: 'local',
  lagMs: 0,
  synchronous: true,
  denialsMayBeElsewhere: false,
  sameKey: (ours, theirs) => ours !== '' && ours === theirs,
  parse(input, bytes) {
    const events: KmsEvent[] = [];
    const { malformed } = eachRecord(readRecords(input, bytes), record, (one, position) => {
      events.push({
        vendor: 'local',
        at: momentOf(one.time) ?? 0,
        id: one.request_id,
        cid: wholeId(one.correlation_id),
        rid: one.request_id,
        key: one.key,
        op: OPERATIONS[one.operation] ?? 'use',
        name: one.operation,
        principal: one.principal || undefined,
        outcome: one.outcome === 'ok' ? 'ok' : DENIED.has(one.outcome) ? 'denied' : 'error',
        items: 1,
        position,
      });
    });
    return { events, malformed, unrelated: 0, logging: [] };
  },
};
