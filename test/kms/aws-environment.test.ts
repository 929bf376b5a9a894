import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, test } from '@jest/globals';
import { startAwsServer } from '../kms-servers/aws.ts';

const run = promisify(execFile);

test('nothing in the environment or a profile changes where and how often AWS is called', async () => {
  const server = await startAwsServer();
  const { url, region, accessKeyId, secretAccessKey } = server;
  const key = server.keys.create(region).arn;
  const child = run(
    process.execPath,
    [
      'test/kms/residue/child.ts',
      JSON.stringify({
        provider: 'aws-kms',
        key,
        access: { region, endpoint: url, credentials: { type: 'static', secretId: 'aws' } },
        secret: JSON.stringify({ accessKeyId, secretAccessKey }),
        allowed: url,
      }),
      'unwrap',
      '3',
    ],
    {
      env: {
        PATH: process.env.PATH,
        AWS_ENDPOINT_URL: 'http://127.0.0.1:1',
        AWS_ENDPOINT_URL_KMS: 'http://127.0.0.1:1',
        AWS_REGION: 'us-east-1',
        AWS_ACCESS_KEY_ID: 'AKIAFROMENVIRONMENT1',
        AWS_SECRET_ACCESS_KEY: 'other',
        AWS_PROFILE: 'nobody',
        AWS_CONFIG_FILE: '/nowhere/config',
        AWS_MAX_ATTEMPTS: 'many',
        AWS_RETRY_MODE: 'sometimes',
        AWS_USE_FIPS_ENDPOINT: 'perhaps',
        HTTP_PROXY: 'http://127.0.0.1:1',
        HTTPS_PROXY: 'http://127.0.0.1:1',
      },
    },
  );
  child.child.stdin?.end('done\n');
  expect(JSON.parse((await child).stdout.split('\n')[0] ?? '')).toMatchObject({ phase: 'before' });
  expect(server.log.map((line) => [line.operation, line.errorCode])).toEqual([
    ['Encrypt', ''],
    ['Decrypt', ''],
    ['Decrypt', ''],
    ['Decrypt', ''],
  ]);
  await server.close();
});
