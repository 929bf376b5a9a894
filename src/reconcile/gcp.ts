/**
 * Google Cloud audit logs of Cloud KMS: `LogEntry` objects as JSON lines (a sink) or as one list (`gcloud logging read`).
 *
 * Sources: Cloud KMS docs, "Cloud Key Management Service audit logging" (methods, permission types, logs); Cloud Logging
 * reference, "LogEntry" and "AuditLog" (protoPayload, requestMetadata, status); google.rpc.Code. Data Access logs are off by
 * default, no delay is stated (10 minutes are taken as pending) and no request id is logged, so `cid` is what joins.
 */
import { z } from 'zod';
import { type KmsEvent, markedId, type Operation, sameOrBelow, type VendorLog, wholeId } from './event.ts';
import { eachRecord, momentOf, readRecords } from './records.ts';

const text = z.string().max(2_048);
const record = z.looseObject({
  logName: text.default(''),
  insertId: text.default(''),
  timestamp: z
    .string()
    .max(40)
    .refine((time) => momentOf(time) !== undefined),
  protoPayload: z
    .looseObject({
      serviceName: text.default(''),
      methodName: text,
      resourceName: text.default(''),
      status: z.looseObject({ code: z.int().optional() }).nullish(),
      authenticationInfo: z
        .looseObject({ principalEmail: text.nullish(), principalSubject: text.nullish() })
        .nullish(),
      requestMetadata: z
        .looseObject({
          callerSuppliedUserAgent: text.nullish(),
          requestAttributes: z.looseObject({ reason: text.nullish() }).nullish(),
        })
        .nullish(),
    })
    .optional(),
});
type Payload = NonNullable<z.infer<typeof record>['protoPayload']>;

const DESCRIBE = new Set(['GetCryptoKey', 'GetCryptoKeyVersion', 'GetPublicKey']);
const MANAGE =
  /^(?:Create|Destroy|Get|Import|List|Restore|Set|Show|Test|Update|Verify(?:Connectivity)$|Autokey)/;
/** PERMISSION_DENIED, NOT_FOUND, FAILED_PRECONDITION (disabled, destroyed), UNAUTHENTICATED. */
const DENIED = new Set([7, 5, 9, 16]);

export const gcpLog: VendorLog = {
  vendor: 'gcp',
  provider: 'gcp-kms',
  lagMs: 10 * 60_000,
  synchronous: false,
  denialsMayBeElsewhere: false,
  sameKey: sameOrBelow,
  parse(input, bytes) {
    const events: KmsEvent[] = [];
    let unrelated = 0;
    const { malformed } = eachRecord(readRecords(input, bytes), record, (one, position) => {
      const payload = one.protoPayload;
      if (payload?.serviceName !== 'cloudkms.googleapis.com') {
        unrelated += 1;
        return;
      }
      const metadata = payload.requestMetadata;
      const code = payload.status?.code ?? 0;
      events.push({
        vendor: 'gcp',
        at: momentOf(one.timestamp) ?? 0,
        id: one.insertId,
        cid:
          wholeId(metadata?.requestAttributes?.reason ?? undefined) ??
          markedId(metadata?.callerSuppliedUserAgent ?? undefined),
        rid: undefined,
        key: payload.resourceName.replace(/^\/\/cloudkms\.googleapis\.com\//, ''),
        op: operationOf(one.logName, payload),
        name: payload.methodName,
        principal:
          payload.authenticationInfo?.principalEmail ??
          payload.authenticationInfo?.principalSubject ??
          undefined,
        outcome: code === 0 ? 'ok' : DENIED.has(code) ? 'denied' : 'error',
        items: 1,
        position,
      });
    });
    return { events, malformed, unrelated, logging: [] };
  },
};

function operationOf(logName: string, { methodName }: Payload): Operation {
  if (logName.includes('system_event')) return 'provider';
  const name = methodName.slice(methodName.lastIndexOf('.') + 1);
  if (name === 'Encrypt' || name === 'RawEncrypt') return 'wrap';
  if (name === 'Decrypt' || name === 'RawDecrypt' || name === 'AsymmetricDecrypt') return 'unwrap';
  if (DESCRIBE.has(name)) return 'describe';
  return MANAGE.test(name) ? 'manage' : 'use';
}
