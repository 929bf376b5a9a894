/** A whole service for one test file: replicas on one real database, and an AWS KMS of its own that customers keep their keys in. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ApiClient, apiClient } from '../../src/api-client.ts';
import { makeSecrets, type Parts, type Replica, startReplica } from '../../src/assemble.ts';
import { type Config, readConfig } from '../../src/config.ts';
import { type Onboarded, onboard } from '../../src/onboard.ts';
import { type AwsServer, startAwsServer } from '../kms-servers/aws.ts';
import { openTestPostgres, type TestPostgres } from './database.ts';

export interface Customer extends Onboarded {
  /** ARN of the customer key. */
  readonly keyRef: string;
  /** `/v1/tenants/<id>` */
  readonly path: string;
}

export interface Platform {
  readonly database: TestPostgres;
  readonly aws: AwsServer;
  readonly config: Config;
  readonly operatorToken: string;
  /** One more replica, which {@link Platform.stop} stops. */
  start(changes?: Partial<Config>, parts?: Partial<Parts>): Promise<Replica>;
  /** A tenant whose key is in `aws`, or in another server of the same protocol, set up through `replica`. */
  onboard(replica: Replica, name: string, aws?: AwsServer): Promise<Customer>;
  stop(): Promise<void>;
}

/** Servers besides the platform's own that tenants may name go into `others`. */
export async function startPlatform(others: readonly AwsServer[] = []): Promise<Platform> {
  const database = await openTestPostgres();
  const aws = await startAwsServer();
  const folder = mkdtempSync(join(tmpdir(), 'keytether-platform-'));
  const secretsFolder = join(folder, 'secrets');
  mkdirSync(secretsFolder);
  const { accessKeyId, secretAccessKey } = aws;
  writeFileSync(join(secretsFolder, 'aws'), JSON.stringify({ accessKeyId, secretAccessKey }));
  const config: Config = {
    ...readConfig({ KEYTETHER_MODE: 'development', DATABASE_URL: database.url, KEYTETHER_FOLDER: folder }),
    port: 0,
    connections: 6,
    secretsFolder,
    kmsEndpoints: [aws.url, ...others.map(({ url }) => url)],
  };
  const replicas: Replica[] = [];
  makeSecrets(config);
  const operatorToken = readFileSync(config.operatorTokenFile, 'utf8').trim();
  return {
    database,
    aws,
    config,
    operatorToken,
    async start(changes = {}, parts = {}) {
      const replica = await startReplica({ ...config, ...changes }, parts);
      replicas.push(replica);
      return replica;
    },
    async onboard(replica, name, server = aws) {
      const keyRef = server.keys.create(server.region).arn;
      const access = {
        region: server.region,
        endpoint: server.url,
        credentials: { type: 'static', secretId: 'aws' },
      };
      const operator: ApiClient = apiClient(replica.url, operatorToken);
      const made = await onboard(operator, { name, provider: 'aws-kms', keyRef, access });
      return { ...made, keyRef, path: `/v1/tenants/${made.tenant}` };
    },
    async stop() {
      await Promise.all(replicas.map((replica) => replica.stop(1_000)));
      await aws.close();
      await database.drop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
