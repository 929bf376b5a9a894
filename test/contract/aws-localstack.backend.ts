/** The contract through the real SDK against LocalStack. `npm run test:localstack` starts it and runs this file. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import { createAwsKms } from '../../adapters/kms/aws.ts';
import { AWS_SOURCES, awsHarness, HOSTILE_ARNS } from './aws-harness.ts';
import { describeKmsContract, type HarnessPlan, unprovenClauses } from './kms.ts';

const url = process.env.LOCALSTACK_URL ?? '';
const REGION = 'us-east-1';

const plan: HarnessPlan = {
  name: 'AWS KMS, LocalStack 4.10.0',
  cannot: {
    denied: 'key policies, grants and IAM are stored and not enforced',
    throttled: 'the emulator has no quota',
    slow: 'the emulator has no switch for latency',
    version: 'DescribeKey names no key material',
    counted: 'the emulator keeps no log of calls',
  },
  hostile: HOSTILE_ARNS,
  sources: AWS_SOURCES,
  secrets: [],
  start: () =>
    awsHarness({
      url,
      region: REGION,
      accessKeyId: 'LSIAKEYTETHERTEST001',
      secretAccessKey: 'test',
      unknownKeyRef: `arn:aws:kms:${REGION}:000000000000:key/00000000-0000-4000-8000-000000000000`,
      close: async () => {},
    }),
};

describeKmsContract(plan);

describe('LocalStack', () => {
  test('leaves unproven what its README says, and nothing more', () => {
    const listed = readFileSync('localstack/README.md', 'utf8').match(/^- K\d+ .*$/gm) ?? [];
    expect(listed.map((line) => line.slice(2))).toEqual(unprovenClauses(plan));
  });

  test('has the keys of init-kms.sh in their states', async () => {
    const keys = JSON.parse(process.env.LOCALSTACK_KEYS ?? '{}') as Record<string, string>;
    const driver = createAwsKms();
    const secret = JSON.stringify({ accessKeyId: 'LSIAKEYTETHERTEST001', secretAccessKey: 'test' });
    const host = { secret: async () => new TextEncoder().encode(secret), endpointAllowed: () => true };
    const access = driver.access.parse({
      region: REGION,
      endpoint: url,
      credentials: { type: 'static', secretId: 'aws' },
    });
    expect(Object.keys(keys)).toEqual(['enabled', 'disabled', 'pending-deletion']);
    for (const [state, keyRef] of Object.entries(keys)) {
      const handle = await driver.open(driver.parseKeyRef(keyRef), access, host);
      const described = await handle.describe({ signal: new AbortController().signal, correlationId: 'cid' });
      await handle.close();
      expect(described.state).toBe(state);
    }
  });
});
