/** Harness for anything that speaks the AWS KMS protocol. Conditions are brought about with the vendor's own admin calls. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { KMS } from '@aws-sdk/client-kms';
import { createAwsKms } from '../../adapters/kms/aws.ts';
import type { KmsHarness } from './kms.ts';

/** Texts that AWS would understand or that look like it, and that we refuse: aliases, ids, other services, other shapes. */
export const HOSTILE_ARNS = [
  'alias/mine',
  'arn:aws:kms:eu-central-1:111122223333:alias/mine',
  '11111111-2222-3333-4444-555555555555',
  'mrk-11111111222233334444555555555555',
  'arn:aws:kms:eu-central-1:111122223333:key/11111111-2222-3333-4444-55555555555',
  'arn:aws:kms:eu-central-1:111122223333:key/11111111-2222-3333-4444-555555555555 ',
  'arn:aws:kms::111122223333:key/11111111-2222-3333-4444-555555555555',
  'arn:aws:kms:eu-central-1@evil.example:111122223333:key/11111111-2222-3333-4444-555555555555',
  'arn:aws:kms:evil.example/x:111122223333:key/11111111-2222-3333-4444-555555555555',
  'arn:aws-evil:kms:eu-central-1:111122223333:key/11111111-2222-3333-4444-555555555555',
  'arn:aws:s3:eu-central-1:111122223333:key/11111111-2222-3333-4444-555555555555',
  'ARN:AWS:KMS:eu-central-1:111122223333:key/11111111-2222-3333-4444-555555555555',
];

export const AWS_SOURCES = [
  'aws',
  'aws/classify',
  'aws/client',
  'aws/credentials',
  'aws/role',
  'aws/transport',
  'http',
  'secret-json',
  'session',
].map((part) => `adapters/kms/${part}.ts`);

export interface AwsTarget {
  readonly url: string;
  readonly region: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  /** Of a key that does not exist, in an account that does. */
  readonly unknownKeyRef: string;
  /** Conditions for which the vendor has no admin call. */
  readonly extra?: Partial<Record<'denied' | 'throttled' | 'slow', (firstKey: string) => () => void>>;
  calls?(): number;
  close(): Promise<void>;
}

export async function awsHarness(target: AwsTarget): Promise<KmsHarness> {
  const { url, region, accessKeyId, secretAccessKey } = target;
  const admin = new KMS({ region, endpoint: url, credentials: { accessKeyId, secretAccessKey } });
  const create = async () => (await admin.createKey({})).KeyMetadata?.Arn ?? '';
  const [first, second] = [await create(), await create()];
  const id = { KeyId: first };
  let adminCalls = 0;
  const run = async (...acts: (() => Promise<unknown>)[]) => {
    for (const act of acts) {
      await act();
      adminCalls += 1;
    }
  };
  const enter = {
    disabled: () => run(() => admin.disableKey(id)),
    'pending-deletion': () => run(() => admin.scheduleKeyDeletion({ ...id, PendingWindowInDays: 7 })),
    rotated: () => run(() => admin.rotateKeyOnDemand(id)),
  };
  const leave = {
    disabled: () => run(() => admin.enableKey(id)),
    'pending-deletion': () =>
      run(
        () => admin.cancelKeyDeletion(id),
        () => admin.enableKey(id),
      ),
    rotated: async () => {},
  };
  const access = { region, endpoint: url, credentials: { type: 'static', secretId: 'aws' } };
  const closedPort = await unusedPort();
  return {
    driver: createAwsKms(),
    host: {
      secret: async () => new TextEncoder().encode(JSON.stringify({ accessKeyId, secretAccessKey })),
      endpointAllowed: (address) => address === url || address === closedPort,
    },
    access,
    keyRefs: [first, second],
    unknownKeyRef: target.unknownKeyRef,
    unreachable: async () => ({ access: { ...access, endpoint: closedPort }, restore: async () => {} }),
    async enter(condition) {
      if (condition === 'disabled' || condition === 'pending-deletion' || condition === 'rotated') {
        await enter[condition]();
        return leave[condition];
      }
      const undo = target.extra?.[condition]?.(first);
      if (!undo) throw new Error(`the harness cannot bring about: ${condition}`);
      return async () => undo();
    },
    calls: () => (target.calls?.() ?? 0) - adminCalls,
    async close() {
      admin.destroy();
      await target.close();
    },
  };
}

async function unusedPort(): Promise<string> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return `http://127.0.0.1:${port}`;
}
