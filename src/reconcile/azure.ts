/**
 * Azure Key Vault and Managed HSM: AuditEvent records of a diagnostic setting, `{"records": […]}` or one record a line.
 *
 * Sources: Microsoft Learn, "Azure Key Vault logging" (record, field names, operation names, "10 minutes (at most)"),
 * "Azure Monitor Logs reference: AZKVAuditLogs". `correlationId` is the `x-ms-request-id` of the answer; the client's own id is not
 * logged, so `clientInfo` (the user agent) carries ours. A 401 is the challenge that precedes a token: no key was used.
 */
import { z } from 'zod';
import { type KmsEvent, markedId, type Operation, sameOrBelow, type VendorLog } from './event.ts';
import { eachRecord, momentOf, readRecords } from './records.ts';

const text = z.string().max(4_096);
const OID = 'http://schemas.microsoft.com/identity/claims/objectidentifier';
const record = z.looseObject({
  time: z
    .string()
    .max(40)
    .refine((time) => momentOf(time) !== undefined),
  category: text.default(''),
  operationName: text,
  resultType: text.nullish(),
  resultSignature: z.union([text, z.number()]).nullish(),
  correlationId: text.nullish(),
  identity: z.looseObject({ claim: z.record(z.string(), z.unknown()).nullish() }).nullish(),
  properties: z
    .looseObject({
      id: text.nullish(),
      requestUri: text.nullish(),
      clientInfo: text.nullish(),
      httpStatusCode: z.int().nullish(),
    })
    .nullish(),
});
type AuditRecord = z.infer<typeof record>;

const MANAGE =
  /^Key(?:Backup|Create|Delete|Get|Import|List|NearExpiry|Expired|Purge|Recover|Restore|Rotate|Update)/;
const PROVIDER = /EventGridNotification$|^KeyAutoRotate/;

export const azureLog: VendorLog = {
  vendor: 'azure',
  provider: 'azure-key-vault',
  lagMs: 10 * 60_000,
  synchronous: false,
  denialsMayBeElsewhere: false,
  sameKey: (ours, theirs) => sameOrBelow(keyName(ours), keyName(theirs)),
  parse(input, bytes) {
    const events: KmsEvent[] = [];
    let unrelated = 0;
    const { malformed } = eachRecord(readRecords(input, bytes, 'records'), record, (one, position) => {
      if (one.category !== 'AuditEvent' || !/^Key[A-Z]/.test(one.operationName)) {
        unrelated += 1;
        return;
      }
      const { id, requestUri, clientInfo } = one.properties ?? {};
      events.push({
        vendor: 'azure',
        at: momentOf(one.time) ?? 0,
        id: '',
        cid: markedId(clientInfo ?? undefined),
        rid: one.correlationId || undefined,
        key: [id, requestUri].map((uri) => keyName(uri ?? '')).find((name) => name !== '') ?? '',
        op: operationOf(one),
        name: one.operationName,
        principal: principalOf(one),
        outcome: outcomeOf(one),
        items: 1,
        position,
      });
    });
    return { events, malformed, unrelated, logging: [] };
  },
};

/** `https://host/keys/name[/version]` in lower case, as vault and key names are not case-sensitive; empty for any other address. */
function keyName(uri: string): string {
  const match = /^(https:\/\/[^/?#]+)\/+keys\/([^/?#]+)(?:\/([^/?#]+))?/.exec(uri.toLowerCase());
  if (!match) return '';
  const [, host = '', name = '', version] = match;
  const verb = version === undefined || !/^[0-9a-f]{32}$/.test(version);
  return `${host}/keys/${name}${verb ? '' : `/${version}`}`;
}

function operationOf(one: AuditRecord): Operation {
  const { operationName } = one;
  if (PROVIDER.test(operationName)) return 'provider';
  if (statusOf(one) === 401) return 'manage';
  if (operationName === 'KeyWrap' || operationName === 'KeyEncrypt') return 'wrap';
  if (operationName === 'KeyUnwrap' || operationName === 'KeyDecrypt') return 'unwrap';
  if (operationName === 'KeyGet') return 'describe';
  return MANAGE.test(operationName) ? 'manage' : 'use';
}

function principalOf({ identity }: AuditRecord): string | undefined {
  const claim = identity?.claim ?? {};
  const found = [claim.oid, claim[OID], claim.appid].find((each) => typeof each === 'string');
  return typeof found === 'string' ? found : undefined;
}

function statusOf({ properties }: AuditRecord): number | undefined {
  return properties?.httpStatusCode ?? undefined;
}

function outcomeOf(one: AuditRecord): KmsEvent['outcome'] {
  const status = statusOf(one);
  if (status === undefined) {
    if (one.resultType) return one.resultType === 'Success' ? 'ok' : 'error';
    return 'unknown';
  }
  if (status >= 200 && status < 300) return 'ok';
  return status === 401 || status === 403 || status === 404 ? 'denied' : 'error';
}
