/**
 * CloudTrail: delivered files (`{"Records": […]}`, gzip) and single events as JSON lines.
 *
 * Sources: AWS KMS Developer Guide, "Logging AWS KMS API calls with AWS CloudTrail" and its log entry examples (Decrypt, Encrypt,
 * DescribeKey, RotateKey); CloudTrail User Guide, "CloudTrail record contents", "AWS service events" and "CloudTrail
 * log file examples". CloudTrail delivers "typically within an average of about 5 minutes", not guaranteed: 15 minutes are pending.
 */
import { z } from 'zod';
import { type KmsEvent, type LoggingChange, markedId, type Operation, type VendorLog } from './event.ts';
import { eachRecord, momentOf, readRecords } from './records.ts';

const text = z.string().max(2_048);
const record = z.looseObject({
  eventTime: z
    .string()
    .max(40)
    .refine((time) => momentOf(time) !== undefined),
  eventSource: z.string().max(128),
  eventName: z.string().max(128),
  eventType: z.string().max(64).optional(),
  eventID: text.optional(),
  requestID: text.nullish(),
  sharedEventID: text.nullish(),
  userAgent: text.nullish(),
  errorCode: text.nullish(),
  userIdentity: z
    .looseObject({ arn: text.nullish(), principalId: text.nullish(), invokedBy: text.nullish() })
    .nullish(),
  requestParameters: z.looseObject({ keyId: z.unknown() }).nullish(),
  resources: z
    .array(z.looseObject({ ARN: text.nullish(), type: text.nullish() }))
    .max(64)
    .nullish(),
});
type CloudTrailRecord = z.infer<typeof record>;

/** Acts of AWS itself; only with event type AwsServiceEvent. */
const PROVIDER = new Set(['RotateKey', 'DeleteKey', 'DeleteExpiredKeyMaterial', 'SynchronizeMultiRegionKey']);
/** Operations without key material. Whatever is not here counts as a use of the key. */
const MANAGE =
  /^(?:Cancel|Connect|Create|Delete|Disable|Disconnect|Enable|Get|Import|List|Put|Replicate|Retire|Revoke|RotateKeyOnDemand|Schedule|Tag|Untag|Update)/;
const DENIED = new Set([
  'AccessDenied',
  'AccessDeniedException',
  'NotAuthorized',
  'DisabledException',
  'DisabledKeyException',
  'KMSInvalidStateException',
  'NotFoundException',
]);

export const awsLog: VendorLog = {
  vendor: 'aws',
  provider: 'aws-kms',
  lagMs: 15 * 60_000,
  synchronous: false,
  denialsMayBeElsewhere: true,
  // A refused call names its key as it was asked for, which may be the bare id.
  sameKey: (ours, theirs) => theirs !== '' && (ours === theirs || ours.endsWith(`:key/${theirs}`)),
  parse(input, bytes) {
    const events: KmsEvent[] = [];
    const logging: LoggingChange[] = [];
    let unrelated = 0;
    const { malformed } = eachRecord(readRecords(input, bytes, 'Records'), record, (one, position) => {
      const at = momentOf(one.eventTime) ?? 0;
      if (one.eventSource === 'cloudtrail.amazonaws.com') {
        const change = loggingOf(one, at);
        if (change === undefined) unrelated += 1;
        else logging.push(change);
        return;
      }
      if (one.eventSource !== 'kms.amazonaws.com') {
        unrelated += 1;
        return;
      }
      events.push({
        vendor: 'aws',
        at,
        id: one.eventID ?? '',
        cid: markedId(one.userAgent ?? undefined),
        rid: one.requestID ?? undefined,
        key: keyOf(one),
        op: operationOf(one),
        name: one.eventName,
        principal: one.userIdentity?.arn ?? one.userIdentity?.invokedBy ?? undefined,
        outcome: outcomeOf(one.errorCode),
        items: 1,
        position,
      });
    });
    return { events, malformed, unrelated, logging };
  },
};

function loggingOf({ eventName, errorCode }: CloudTrailRecord, at: number): LoggingChange | undefined {
  if (errorCode) return undefined;
  if (eventName === 'StopLogging' || eventName === 'DeleteTrail') return { at, on: false, name: eventName };
  return eventName === 'StartLogging' ? { at, on: true, name: eventName } : undefined;
}

/** The key that answered; of a refused call the one that was asked for, which may be an alias or a bare id. */
function keyOf(one: CloudTrailRecord): string {
  const arn = one.resources?.find(({ ARN }) => ARN?.includes(':key/'))?.ARN;
  const asked = one.requestParameters?.keyId;
  return arn ?? (typeof asked === 'string' ? asked : '');
}

function operationOf({ eventName, eventType }: CloudTrailRecord): Operation {
  if (eventType === 'AwsServiceEvent' && PROVIDER.has(eventName)) return 'provider';
  if (eventName === 'Encrypt') return 'wrap';
  if (eventName === 'Decrypt') return 'unwrap';
  if (eventName === 'DescribeKey') return 'describe';
  return MANAGE.test(eventName) ? 'manage' : 'use';
}

function outcomeOf(code: string | null | undefined): KmsEvent['outcome'] {
  if (!code) return 'ok';
  return DENIED.has(code) ? 'denied' : 'error';
}
