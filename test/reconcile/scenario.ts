/**
 * One story told by both sides: calls with their leaves, what the KMS did with each, and the same faults for every vendor. A vendor's
 * writer turns the KMS's side into the text that the vendor documents.
 */
import type { Vendor } from '../../src/reconcile/event.ts';

export interface Call {
  readonly cid: string;
  readonly rid: string;
  readonly at: number;
  readonly op: 'wrap' | 'unwrap' | 'describe';
  readonly key: string;
  readonly outcome: 'ok' | 'denied' | 'error';
}

export interface Shape {
  readonly vendor: Vendor;
  readonly provider: string;
  /** As our leaves name the key. */
  readonly key: string;
  readonly otherKey: string;
  readonly principal: string;
  /** Whether the answer brings a request id that their log also has. */
  readonly givesRid: boolean;
  /** The lines that the vendor writes for one call. */
  write(call: Call): readonly unknown[];
  /** One file of such records. */
  file(records: readonly unknown[]): string;
}

const MINUTE = 60_000;
export const START = Date.parse('2026-03-01T10:00:00.000Z');
/** Long after every vendor's lag. */
export const NOW = START + 24 * 60 * MINUTE;

const OPS = ['unwrap', 'wrap', 'unwrap', 'describe', 'unwrap'] as const;
const OUTCOMES = ['ok', 'ok', 'denied', 'ok', 'error', 'ok', 'ok'] as const;

/** `count` calls, one a minute, of every operation and outcome. */
export function callsOf(shape: Shape, count: number): Call[] {
  return Array.from({ length: count }, (_, i) => ({
    cid: `0190aaaa-0000-7000-8000-${String(i).padStart(12, '0')}`,
    rid: `aaaaaaaa-bbbb-4ccc-8ddd-${String(i).padStart(12, '0')}`,
    at: START + i * MINUTE,
    op: OPS[i % OPS.length] ?? 'unwrap',
    key: shape.key,
    outcome: OUTCOMES[i % OUTCOMES.length] ?? 'ok',
  }));
}

/** The leaves of one call; `outcome` is what our side saw, without it there is an intent only. */
export function leavesOf(shape: Shape, call: Call, outcome?: Call['outcome'] | 'unknown'): string[] {
  const { cid, rid, at, op, key } = call;
  const kms = { cid, cmk: 'ckey_a', key, prv: shape.provider };
  const common = { svc: { build: 'b', inst: 'i' }, tn: 'ten_a', v: 'keytether.log/1' };
  const intent = { ...common, eid: cid, kms, n: 1, op, t: (at - 40) * 1000, typ: 'kms.intent' };
  if (outcome === undefined) return [JSON.stringify(intent)];
  const known = outcome !== 'unknown' && shape.givesRid && op !== 'describe';
  const result = {
    ...common,
    eid: `r-${cid}`,
    kms: { ...kms, rid: known ? rid : '' },
    kref: cid,
    op,
    out: outcome,
    rsn: { ok: undefined, denied: 'KMS_KEY_DISABLED', error: 'KMS_INTEGRITY', unknown: 'KMS_TIMEOUT' }[
      outcome
    ],
    t: (at + 40) * 1000,
    typ: 'kms.result',
  };
  return [JSON.stringify(intent), JSON.stringify(result)];
}

const time = (at: number) => new Date(at).toISOString();
const seconds = (at: number) => `${time(at).slice(0, 19)}Z`;
const lines = (records: readonly unknown[]) => records.map((one) => `${JSON.stringify(one)}\n`).join('');

const ARN = 'arn:aws:kms:eu-central-1:111122223333:key/';
const aws: Shape = {
  vendor: 'aws',
  provider: 'aws-kms',
  key: `${ARN}11111111-2222-3333-4444-555555555555`,
  otherKey: `${ARN}99999999-2222-3333-4444-555555555555`,
  principal: 'arn:aws:sts::111122223333:assumed-role/keytether/session',
  givesRid: true,
  write: ({ cid, rid, at, op, key, outcome }) => [
    {
      eventVersion: '1.11',
      userIdentity: {
        type: 'AssumedRole',
        principalId: 'EXAMPLE:session',
        arn: aws.principal,
        accountId: '111122223333',
      },
      eventTime: seconds(at),
      eventSource: 'kms.amazonaws.com',
      eventName: { wrap: 'Encrypt', unwrap: 'Decrypt', describe: 'DescribeKey' }[op],
      awsRegion: 'eu-central-1',
      sourceIPAddress: '192.0.2.7',
      userAgent: cid === '' ? 'aws-cli/2.9' : `keytether/1 cid/${cid}`,
      ...(outcome === 'ok'
        ? {}
        : { errorCode: outcome === 'denied' ? 'DisabledException' : 'InvalidCiphertextException' }),
      requestParameters: {
        keyId: key,
        encryptionAlgorithm: 'SYMMETRIC_DEFAULT',
        encryptionContext: { a: 'b' },
      },
      responseElements: null,
      requestID: rid,
      eventID: `event-${rid}`,
      readOnly: true,
      resources: [{ accountId: '111122223333', type: 'AWS::KMS::Key', ARN: key }],
      eventType: 'AwsApiCall',
      managementEvent: true,
      recipientAccountId: '111122223333',
      eventCategory: 'Management',
    },
  ],
  file: (records) => JSON.stringify({ Records: records }),
};

const RING = 'projects/p/locations/europe-west3/keyRings/r/cryptoKeys/';
const gcp: Shape = {
  vendor: 'gcp',
  provider: 'gcp-kms',
  key: `${RING}acme`,
  otherKey: `${RING}acme-two`,
  principal: 'keytether@p.iam.gserviceaccount.com',
  givesRid: false,
  write: ({ cid, rid, at, op, key, outcome }) => [
    {
      protoPayload: {
        '@type': 'type.googleapis.com/google.cloud.audit.AuditLog',
        status: outcome === 'ok' ? {} : { code: outcome === 'denied' ? 9 : 3, message: 'no' },
        authenticationInfo: { principalEmail: gcp.principal },
        requestMetadata: {
          callerIp: '192.0.2.7',
          callerSuppliedUserAgent: 'gl-node/24',
          requestAttributes: {
            time: time(at),
            auth: {},
            ...(cid === '' ? {} : { reason: `keytether/1 cid/${cid}` }),
          },
          destinationAttributes: {},
        },
        serviceName: 'cloudkms.googleapis.com',
        methodName: { wrap: 'Encrypt', unwrap: 'Decrypt', describe: 'GetCryptoKey' }[op],
        resourceName: op === 'describe' ? key : `${key}/cryptoKeyVersions/1`,
        request: { '@type': 'type.googleapis.com/google.cloud.kms.v1.DecryptRequest', name: key },
      },
      insertId: `insert-${rid}`,
      resource: { type: 'cloudkms_cryptokey', labels: { project_id: 'p' } },
      timestamp: `${time(at).slice(0, -1)}123456Z`,
      severity: outcome === 'ok' ? 'INFO' : 'ERROR',
      logName: 'projects/p/logs/cloudaudit.googleapis.com%2Fdata_access',
      receiveTimestamp: time(at + 900),
    },
  ],
  file: (records) => JSON.stringify(records, null, 2),
};

const azure: Shape = {
  vendor: 'azure',
  provider: 'azure-key-vault',
  key: 'https://acme.vault.azure.net/keys/Master/0123456789abcdef0123456789abcdef',
  otherKey: 'https://acme.vault.azure.net/keys/Other/0123456789abcdef0123456789abcdef',
  principal: 'd9da5048-2737-4770-bd64-000000000001',
  givesRid: true,
  write: ({ cid, rid, at, op, key, outcome }) => [
    {
      time: `${time(at).slice(0, -1)}1234Z`,
      resourceId: '/SUBSCRIPTIONS/S/RESOURCEGROUPS/G/PROVIDERS/MICROSOFT.KEYVAULT/VAULTS/ACME',
      operationName: { wrap: 'KeyWrap', unwrap: 'KeyUnwrap', describe: 'KeyGet' }[op],
      operationVersion: '7.4',
      category: 'AuditEvent',
      resultType: outcome === 'ok' ? 'Success' : 'Failed',
      resultSignature: outcome === 'ok' ? 'OK' : outcome === 'denied' ? 'Forbidden' : 'Bad Request',
      resultDescription: '',
      durationMs: '8',
      callerIpAddress: '192.0.2.7',
      correlationId: rid,
      identity: { claim: { oid: azure.principal, appid: 'app' } },
      properties: {
        clientInfo: cid === '' ? 'curl/8' : `keytether/1 cid/${cid}`,
        ...(outcome === 'ok' ? { id: key } : {}),
        requestUri: `${key}/${{ wrap: 'wrapkey', unwrap: 'unwrapkey', describe: '' }[op]}?api-version=7.4`,
        httpStatusCode: { ok: 200, denied: 403, error: 400 }[outcome],
      },
    },
  ],
  file: (records) => lines([{ records: records.slice(0, 2) }, ...records.slice(2)]),
};

const vault: Shape = {
  vendor: 'vault',
  provider: 'vault',
  key: 'https://vault.example:8200/v1/transit/keys/acme',
  otherKey: 'https://vault.example:8200/v1/transit/keys/acme-two',
  principal: 'entity-1',
  givesRid: true,
  write: ({ cid, rid, at, op, key, outcome }) => {
    const name = key.slice(key.lastIndexOf('/') + 1);
    const request = {
      id: rid,
      operation: op === 'describe' ? 'read' : 'update',
      mount_type: 'transit',
      mount_point: 'transit/',
      client_token: 'hmac-sha256:aa',
      namespace: { id: 'root' },
      path: `transit/${{ wrap: 'encrypt', unwrap: 'decrypt', describe: 'keys' }[op]}/${name}`,
      ...(cid === '' ? {} : { headers: { 'x-correlation-id': [cid] } }),
      data: { ciphertext: 'hmac-sha256:bb' },
      remote_address: '192.0.2.7',
    };
    const auth = {
      accessor: 'hmac-sha256:cc',
      display_name: 'approle',
      entity_id: vault.principal,
      token_type: 'service',
    };
    const error = {
      ok: {},
      denied: { error: '1 error occurred:\n\t* permission denied\n\n' },
      error: { error: 'invalid ciphertext' },
    }[outcome];
    const refused = outcome === 'denied' ? error : {};
    return [
      { time: time(at - 1), type: 'request', auth, request, ...refused },
      { time: time(at), type: 'response', auth, request, response: { mount_type: 'transit' }, ...error },
    ];
  },
  file: lines,
};

const local: Shape = {
  vendor: 'local',
  provider: 'local',
  key: 'local-kms://keys/acme',
  otherKey: 'local-kms://keys/acme-two',
  principal: 'keytether',
  givesRid: true,
  write: ({ cid, rid, at, op, key, outcome }) => [
    {
      time: time(at),
      request_id: rid,
      correlation_id: cid,
      principal: local.principal,
      operation: { wrap: 'Encrypt', unwrap: 'Decrypt', describe: 'DescribeKey' }[op],
      key,
      encryption_context: {},
      outcome: { ok: 'ok', denied: 'KeyDisabled', error: 'InvalidCiphertext' }[outcome],
    },
  ],
  file: lines,
};

export const SHAPES: readonly Shape[] = [aws, gcp, azure, vault, local];
