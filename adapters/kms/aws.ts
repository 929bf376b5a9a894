/**
 * Driver for AWS KMS, symmetric keys. `KeyId` is pinned on every call, the wrap context is the EncryptionContext, our
 * correlation id travels in the user agent, where CloudTrail shows it.
 *
 * With ambient credentials the SDK reads the environment and the instance's metadata; nothing else here does.
 */
import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import { contextMap } from '../../src/kms/context.ts';
import type {
  CallOptions,
  CustomerKeyHandle,
  KeyDescription,
  KmsDriver,
  SetupCheck,
} from '../../src/kms/driver.ts';
import { KmsFailure } from '../../src/kms/driver.ts';
import { classify } from './aws/classify.ts';
import { type ClientSettings, createClient } from './aws/client.ts';
import { type AwsCredentials, ambient, createCredentialSource, readStatic } from './aws/credentials.ts';
import { type Assume, createRole, externalIdCheck } from './aws/role.ts';
import { createTransport, type TransportOptions } from './aws/transport.ts';
import type { SessionSource } from './session.ts';

const REGION = /^[a-z]{2}(-[a-z]+)+-\d$/;
const KEY_ARN =
  /^arn:(aws|aws-cn|aws-us-gov):kms:([a-z0-9-]+):\d{12}:key\/(mrk-[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$/;
const SUFFIX: Readonly<Record<string, string>> = {
  aws: 'amazonaws.com',
  'aws-cn': 'amazonaws.com.cn',
  'aws-us-gov': 'amazonaws.com',
};

const secretId = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/);
const url = z.url({ protocol: /^https?$/ }).max(512);
const access = z.strictObject({
  region: z.string().max(32).regex(REGION),
  /** Another address than AWS's own for the region; the operator must have allowed it. */
  endpoint: url.optional(),
  credentials: z.discriminatedUnion('type', [
    z.strictObject({ type: z.literal('ambient') }),
    z.strictObject({ type: z.literal('static'), secretId }),
    z.strictObject({
      type: z.literal('assume-role'),
      roleArn: z.string().regex(/^arn:(aws|aws-cn|aws-us-gov):iam::\d{12}:role\/[\w+=,.@/-]{1,512}$/),
      externalId: z.string().regex(/^[\w+=,.@:/-]{16,1224}$/),
      /** Credentials that may assume the role; without it the machine's own. */
      sourceSecretId: secretId.optional(),
      stsEndpoint: url.optional(),
    }),
  ]),
});
type Access = z.infer<typeof access>;

export function createAwsKms(options: { readonly now?: () => number } = {}): KmsDriver<Access> {
  const { now = Date.now } = options;
  return {
    provider: 'aws-kms',
    access,
    prepareAccess: withExternalId,
    parseKeyRef(keyRef) {
      const region = KEY_ARN.exec(keyRef)?.[2];
      if (region === undefined || !REGION.test(region)) throw misconfigured('key-ref');
      return keyRef;
    },
    async open(keyRef, { region, endpoint, credentials }, host) {
      const [, partition = '', keyRegion] = KEY_ARN.exec(keyRef) ?? [];
      if (keyRegion !== region) throw misconfigured('region-mismatch');
      const address = (service: string, own: string | undefined): string => {
        if (own === undefined) return `https://${service}.${region}.${SUFFIX[partition]}`;
        if (!host.endpointAllowed(own)) throw misconfigured('endpoint-not-allowed');
        return own;
      };
      const kmsAddress = address('kms', endpoint);
      const stsAddress = credentials.type === 'assume-role' ? address('sts', credentials.stsEndpoint) : '';
      const transport = createTransport();
      const settings = { region, endpoint: kmsAddress, transport };
      const sdk = await import('@aws-sdk/client-kms');
      if (credentials.type === 'assume-role') {
        const assume = await createRole(credentials, host, { ...settings, endpoint: stsAddress });
        const source = createCredentialSource(() => assume(true), now);
        return openHandle({ sdk, keyRef, settings, source, assume });
      }
      const { type } = credentials;
      const fetch = type === 'static' ? () => readStatic(host, credentials.secretId) : await ambient();
      return openHandle({
        sdk,
        keyRef,
        settings,
        source: createCredentialSource(fetch, now),
        assume: undefined,
      });
    },
  };
}

function openHandle(options: {
  readonly sdk: typeof import('@aws-sdk/client-kms');
  readonly keyRef: string;
  readonly settings: ClientSettings;
  readonly source: SessionSource<AwsCredentials>;
  readonly assume: Assume | undefined;
}): CustomerKeyHandle {
  const { sdk, keyRef, settings, source, assume } = options;
  let closed = false;
  let current: AwsCredentials | undefined;
  const { client, outgoing } = createClient(sdk, settings, async () => {
    if (!current) throw misconfigured('credentials');
    return current;
  });

  /** Runs one call with fresh enough credentials; whatever it throws becomes a KmsFailure. */
  const send = async <T>(
    call: CallOptions,
    extra: TransportOptions,
    run: (options: TransportOptions) => Promise<T>,
  ) => {
    if (closed) throw new KmsFailure('transient', 'KMS_CONTRACT_VIOLATION', { detail: 'closed' });
    try {
      current = await source.get(call.signal);
      return await run({
        abortSignal: call.signal,
        userAgent: `keytether/1 cid/${call.correlationId}`,
        ...extra,
      });
    } catch (error) {
      const failure = classify(error);
      if (failure.detail === 'our-credentials') source.drop();
      throw failure;
    }
  };

  const metadata = (call: CallOptions) =>
    send(call, {}, async (sending) => {
      const answer = await client.send(new sdk.DescribeKeyCommand({ KeyId: keyRef }), sending);
      if (!answer.KeyMetadata)
        throw new KmsFailure('transient', 'KMS_CONTRACT_VIOLATION', { detail: 'describe' });
      return answer.KeyMetadata;
    });

  return {
    async describe(call): Promise<KeyDescription> {
      const key = await metadata(call);
      return {
        keyId: key.Arn ?? '',
        state: stateOf(key.KeyState),
        bindsContext: key.KeySpec === 'SYMMETRIC_DEFAULT',
        keyVersion: key.CurrentKeyMaterialId ?? '',
      };
    },
    async wrap(key, context, call) {
      const placeholder = outgoing.placeholderFor(key);
      const answer = await send(call, { secretBody: true }, (sending) =>
        client.send(
          new sdk.EncryptCommand({
            KeyId: keyRef,
            Plaintext: placeholder,
            EncryptionContext: contextMap(context),
          }),
          sending,
        ),
      ).finally(() => outgoing.forget(placeholder));
      return {
        wrapped: answer.CiphertextBlob ?? new Uint8Array(0),
        keyId: answer.KeyId ?? '',
        keyVersion: '',
        algorithm: answer.EncryptionAlgorithm ?? '',
        requestId: answer.$metadata.requestId ?? '',
      };
    },
    async unwrap(wrapped, context, call) {
      let key: Uint8Array | undefined;
      const onPlaintext = (taken: Uint8Array) => {
        key = taken;
      };
      try {
        const answer = await send(call, { onPlaintext }, (sending) =>
          client.send(
            new sdk.DecryptCommand({
              KeyId: keyRef,
              CiphertextBlob: wrapped,
              EncryptionContext: contextMap(context),
            }),
            sending,
          ),
        );
        return {
          key: key ?? new Uint8Array(0),
          keyId: answer.KeyId ?? '',
          requestId: answer.$metadata.requestId ?? '',
        };
      } catch (error) {
        key?.fill(0);
        throw error;
      }
    },
    async checkSetup(call): Promise<readonly SetupCheck[]> {
      const key = await metadata(call);
      const symmetric = key.KeySpec === 'SYMMETRIC_DEFAULT' && key.KeyUsage === 'ENCRYPT_DECRYPT';
      return [
        {
          check: 'symmetric-key',
          ok: symmetric,
          action: symmetric ? '' : 'Choose a symmetric key for encryption and decryption.',
        },
        ...(assume ? [await externalIdCheck(assume)] : []),
      ];
    },
    async close() {
      if (closed) return;
      closed = true;
      current = undefined;
      source.drop();
      client.destroy();
      settings.transport.destroy();
    },
  };
}

function stateOf(state: string | undefined): KeyDescription['state'] {
  // A key that is being updated still serves.
  if (state === 'Enabled' || state === 'Updating') return 'enabled';
  if (state === 'Disabled') return 'disabled';
  return state === 'PendingDeletion' || state === 'PendingReplicaDeletion'
    ? 'pending-deletion'
    : 'unavailable';
}

function misconfigured(detail: string): KmsFailure {
  return new KmsFailure('misconfigured', 'KMS_MISCONFIGURED', { detail });
}

/**
 * The external id is ours: unguessable, and another one for each registration. Who could choose it could name the role of another
 * tenant with that tenant's id (the confused deputy of the IAM User Guide, "Access to AWS accounts owned by third parties").
 */
function withExternalId(submitted: unknown): unknown {
  const credentials = (submitted as { credentials?: { type?: unknown } } | null | undefined)?.credentials;
  if (credentials?.type !== 'assume-role') return submitted;
  if ('externalId' in credentials) throw misconfigured('external-id');
  return {
    ...(submitted as object),
    credentials: { ...credentials, externalId: `keytether-${randomUUID()}` },
  };
}
