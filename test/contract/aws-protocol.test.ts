import { startAwsServer } from '../kms-servers/aws.ts';
import { AWS_SOURCES, awsHarness, HOSTILE_ARNS } from './aws-harness.ts';
import { describeKmsContract } from './kms.ts';

describeKmsContract({
  name: 'AWS KMS, protocol server',
  cannot: {},
  hostile: HOSTILE_ARNS,
  sources: AWS_SOURCES,
  secrets: ['keytether/test/secret/access/key/0000001'],
  async start() {
    const server = await startAwsServer();
    const { url, region, accessKeyId, secretAccessKey, faults, keys } = server;
    return awsHarness({
      url,
      region,
      accessKeyId,
      secretAccessKey,
      unknownKeyRef: `arn:aws:kms:${region}:111122223333:key/00000000-0000-4000-8000-000000000000`,
      extra: {
        denied: (first) => {
          const { denied } = keys.byArn(first);
          denied.add('*');
          return () => denied.clear();
        },
        throttled: () => {
          faults.rate = 0;
          return () => {
            faults.rate = undefined;
          };
        },
        slow: () => {
          faults.latencyMs = 60_000;
          return () => {
            faults.latencyMs = 0;
          };
        },
      },
      calls: () => server.log.length,
      close: () => server.close(),
    });
  },
});
