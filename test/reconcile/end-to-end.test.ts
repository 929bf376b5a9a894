/** A replica, real traffic, and the log that the KMS itself wrote. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { createAwsKms } from '../../adapters/kms/aws.ts';
import { keyRefOf, openLocalKeystore } from '../../adapters/kms/local/keystore.ts';
import { type ApiClient, apiClient, expectStatus } from '../../src/api-client.ts';
import { type Replica, startReplica } from '../../src/assemble.ts';
import { readConfig } from '../../src/config.ts';
import { onboard } from '../../src/onboard.ts';
import { readLog, rogueUnwrap, runDemo } from '../../src/reconcile/demo.ts';
import { summaryOf } from '../../src/reconcile/summary.ts';
import { tour } from '../../src/tour.ts';
import { type AwsLogLine, type AwsServer, startAwsServer } from '../kms-servers/aws.ts';
import { compare, counts } from './compare.ts';

let folder: string;
let replica: Replica;
let operator: ApiClient;
let aws: AwsServer;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'keytether-reconcile-'));
  aws = await startAwsServer();
  const { accessKeyId, secretAccessKey } = aws;
  const secretsFolder = join(folder, 'secrets');
  mkdirSync(secretsFolder);
  writeFileSync(join(secretsFolder, 'aws'), JSON.stringify({ accessKeyId, secretAccessKey }));
  const config = {
    ...readConfig({ KEYTETHER_FOLDER: folder }),
    port: 0,
    secretsFolder,
    kmsEndpoints: [aws.url],
  };
  replica = await startReplica(config);
  operator = apiClient(replica.url, readFileSync(config.operatorTokenFile, 'utf8').trim());
});

afterAll(async () => {
  await replica.stop();
  await aws.close();
  rmSync(folder, { recursive: true, force: true });
});

async function pagesOf(auditor: ApiClient, tenant: string): Promise<string[]> {
  return [new TextDecoder().decode(await readLog(auditor, tenant))];
}

describe('with the development KMS', () => {
  test('the tour matches call by call, then one decrypt past the service is the one finding, and the result becomes a record', async () => {
    const kmsFolder = join(folder, 'kms');
    const keystore = openLocalKeystore(kmsFolder);
    const keyRef = keystore.createKey('acme');
    const { tenant, auditor, service } = await tour(
      operator,
      {
        provider: 'local',
        keyRef: keyRefOf('acme'),
        access: {},
        switchOff: () => keystore.disable(keyRef),
        switchOn: () => keystore.enable(keyRef),
        log: () => keystore.usage().map((line) => line.correlation_id),
      },
      () => {},
    );
    const usage = () => readFileSync(join(kmsFolder, 'usage.jsonl'), 'utf8');
    const now = () => ({ now: Date.now() });

    const faithful = compare({ vendor: 'local' }, await pagesOf(auditor, tenant), usage(), now());
    const calls = usage().trim().split('\n').length;
    expect(calls).toBeGreaterThan(8);
    expect(counts(faithful)).toEqual({ ours: { matched: calls }, theirs: { matched: calls } });
    expect([faithful.clean, faithful.uses]).toEqual([true, 3]);
    const denied = faithful.findings.filter(({ ours }) => ours?.outcome === 'denied');
    expect(denied).toMatchObject([{ class: 'matched', theirs: { outcome: 'denied' } }]);

    await rogueUnwrap(kmsFolder, keyRef);
    const result = compare({ vendor: 'local' }, await pagesOf(auditor, tenant), usage(), now());
    expect(counts(result)).toEqual({
      ours: { matched: calls },
      theirs: { matched: calls, 'theirs-only': 1 },
    });
    expect(result.findings.find((one) => one.class === 'theirs-only')?.theirs).toMatchObject({
      op: 'unwrap',
      outcome: 'ok',
      position: { record: calls + 1 },
    });

    const input = {
      side: 'theirs',
      sha256: Buffer.alloc(32, 7).toString('base64'),
      bytes: usage().length,
    } as const;
    const path = `/v1/tenants/${tenant}/log`;
    const summary = summaryOf(result, [input]);
    const { receipt } = expectStatus(await auditor.post(`${path}/reconciliations`, summary), 201);
    const page = expectStatus(await auditor.get(`${path}?from=${receipt.index}&limit=1`), 200);
    expect(page.entries[0].leafHash).toBe(receipt.leafHash);
    expect(JSON.parse(page.entries[0].leaf)).toMatchObject({
      typ: 'recon.result',
      act: { role: 'auditor' },
      n: { ours: { matched: calls }, theirs: { matched: calls, 'theirs-only': 1 }, malformed: 0 },
      src: [{ side: 'theirs', h: input.sha256, len: input.bytes }],
      win: { from: Math.floor(Date.parse(summary?.window.from ?? '')) * 1000 },
    });
    expectStatus(await service.post(`${path}/reconciliations`, summary), 403);
  });

  test('the demonstration finds exactly its rogue call', async () => {
    const told: string[] = [];
    expect(await runDemo('local', (line) => told.push(line))).toBe(0);
    expect(told.join('\n')).toMatch(/theirs-only +1\n/);
  });
});

describe('with the AWS protocol server, its requests told as CloudTrail tells them', () => {
  test('traffic with refusals and lost answers matches, and a call past the service is found', async () => {
    const { url, region } = aws;
    const key = aws.keys.create(region);
    const access = { region, endpoint: url, credentials: { type: 'static', secretId: 'aws' } };
    const { tenant, service, auditor } = await onboard(operator, {
      name: 'Acme',
      provider: 'aws-kms',
      keyRef: key.arn,
      access,
    });
    const path = `/v1/tenants/${tenant}`;
    const binding = { purpose: 'notes' };
    const { envelope } = expectStatus(
      await service.post(`${path}/encrypt`, { plaintext: 'aGk=', ...binding }),
      200,
    );
    const decrypt = () => service.post(`${path}/decrypt`, { envelope, ...binding });
    expectStatus(await decrypt(), 200);
    aws.keys.setState(key, 'Disabled');
    expectStatus(await decrypt(), 424);
    aws.keys.setState(key, 'Enabled');
    aws.faults.wire = 'reset';
    const lost = await decrypt();
    aws.faults.wire = undefined;
    expectStatus(lost, 503);
    expectStatus(await decrypt(), 200);

    const trail = () => JSON.stringify({ Records: aws.log.map(recordOf) });
    const unknown = JSON.parse((await pagesOf(auditor, tenant))[0] ?? '').entries.filter(
      ({ leaf }: { leaf: string }) => leaf.includes('"typ":"kms.result"') && leaf.includes('"out":"unknown"'),
    ).length;
    expect(unknown).toBeGreaterThan(0);
    const options = { now: Date.now(), lagMs: 0, principals: ['arn:aws:iam::111122223333:user/keytether'] };
    const faithful = compare({ vendor: 'aws' }, await pagesOf(auditor, tenant), trail(), options);
    const matched = aws.log.length - unknown;
    expect(counts(faithful)).toEqual({
      ours: { matched, 'resolved-unknown': unknown },
      theirs: { matched, 'resolved-unknown': unknown },
    });
    expect(faithful.clean).toBe(true);
    const resolved = faithful.findings.filter((one) => one.class === 'resolved-unknown');
    expect(resolved.map(({ theirs }) => theirs?.outcome)).toEqual(resolved.map(() => 'ok'));

    const before = aws.log.length;
    await rogueCall(key.arn, access);
    expect(aws.log).toHaveLength(before + 1);
    const result = compare({ vendor: 'aws' }, await pagesOf(auditor, tenant), trail(), {
      ...options,
      now: Date.now(),
    });
    expect(counts(result).theirs).toEqual({ matched, 'resolved-unknown': unknown, 'theirs-only': 1 });
  });

  async function rogueCall(keyRef: string, access: object): Promise<void> {
    const driver = createAwsKms();
    const { accessKeyId, secretAccessKey } = aws;
    const handle = await driver.open(keyRef, driver.access.parse(access), {
      secret: async () => new TextEncoder().encode(JSON.stringify({ accessKeyId, secretAccessKey })),
      endpointAllowed: () => true,
    });
    const call = { signal: new AbortController().signal, correlationId: 'thief' };
    await handle.wrap(new Uint8Array(32), { tenant: 't', scope: 's', key: 'k' }, call);
    await handle.close();
  }

  /** A record as the CloudTrail examples of the KMS Developer Guide have it: times in whole seconds. */
  function recordOf(line: AwsLogLine): object {
    return {
      eventVersion: '1.11',
      userIdentity: { type: 'IAMUser', arn: line.principal, accountId: '111122223333' },
      eventTime: `${line.time.slice(0, 19)}Z`,
      eventSource: 'kms.amazonaws.com',
      eventName: line.operation,
      awsRegion: aws.region,
      userAgent: line.userAgent,
      ...(line.errorCode === '' ? {} : { errorCode: line.errorCode, errorMessage: 'no' }),
      requestParameters: { keyId: line.keyId, encryptionContext: line.encryptionContext },
      responseElements: null,
      requestID: line.requestId,
      eventID: `event-${line.requestId}`,
      resources: line.errorCode === '' ? [{ type: 'AWS::KMS::Key', ARN: line.keyId }] : undefined,
      eventType: 'AwsApiCall',
      eventCategory: 'Management',
    };
  }
});
