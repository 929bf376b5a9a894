/** Everything that a decrypt needs, each in processes of its own: PostgreSQL, the service, and the customers' KMS. */
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type ApiClient, apiClient } from '../src/api-client.ts';
import { makeSecrets } from '../src/assemble.ts';
import { migrate } from '../src/store/migrate.ts';
import { connectOwner } from '../src/store/postgres.ts';
import { Child } from '../test/support/child.ts';
import { freePort, type StartedServer, startPostgres } from '../test/support/postgres.ts';
import { type BenchKms, startKms } from './kms.ts';
import type { Measured } from './measure.ts';

export interface Stack {
  readonly port: number;
  readonly operator: ApiClient;
  readonly kms: BenchKms;
  /** What the table accounts for. */
  readonly processes: readonly Measured[];
  /** Connection string of the database's superuser, for PostgreSQL's own statistics. */
  readonly ownerUrl: string;
  stop(): Promise<void>;
}

export interface StackOptions {
  /** Keys of the KMS: one for each tenant. */
  readonly keys: number;
  readonly kmsLatencyMs: number;
  /** Settings of the service beyond those that it needs. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Flags of the service's Node, such as `--cpu-prof`. */
  readonly nodeFlags?: readonly string[];
}

/** The name by which tenants' bindings refer to the KMS credentials. */
export const KMS_SECRET = 'bench-kms';

const START = fileURLToPath(new URL('../src/start.mjs', import.meta.url));
const READY_TIMEOUT_MS = 20_000;
const POLL_MS = 50;

/** Starts all of it, the service in production mode. The caller stops it. */
export async function startStack(options: StackOptions): Promise<Stack> {
  const ends: (() => Promise<unknown>)[] = [];
  const stop = async (): Promise<void> => {
    for (let end = ends.pop(); end !== undefined; end = ends.pop()) await end();
  };
  try {
    const folder = await mkdtemp(join(tmpdir(), 'keytether-bench-'));
    ends.push(() => rm(folder, { recursive: true, force: true }));
    const postgres = await startPostgres();
    ends.push(() => postgres.stop());
    const { serviceUrl, ownerUrl } = await prepareDatabase(postgres);
    const kms = await startKms(options.keys, options.kmsLatencyMs);
    ends.push(() => kms.stop());
    const files = await writeSecrets(folder, kms);
    const port = await freePort();
    const service = new Child({
      command: process.execPath,
      args: [...(options.nodeFlags ?? []), START, 'start'],
      cwd: folder,
      env: {
        KEYTETHER_MODE: 'production',
        KEYTETHER_HOST: '127.0.0.1',
        KEYTETHER_PORT: String(port),
        KEYTETHER_RECORD_KEYS_FILE: files.recordKeysFile,
        KEYTETHER_OPERATOR_TOKEN_FILE: files.operatorTokenFile,
        KEYTETHER_SECRETS_FOLDER: files.secretsFolder,
        KEYTETHER_KMS_ENDPOINTS: kms.url,
        DATABASE_URL: serviceUrl,
        ...options.settings,
      },
    });
    ends.push(() => service.stop());
    const url = `http://127.0.0.1:${port}`;
    await ready(url, service);
    const token = (await readFile(files.operatorTokenFile, 'utf8')).trim();
    return {
      port,
      operator: apiClient(url, token),
      kms,
      processes: [
        { name: 'service', pid: service.pid, tree: true },
        { name: 'PostgreSQL', pid: postgres.pid, tree: true },
        { name: 'KMS', pid: kms.pid, tree: false },
      ],
      ownerUrl,
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** A migrated database, and a plain login role that was granted keytether_app, as in production. */
async function prepareDatabase(
  postgres: StartedServer,
): Promise<{ readonly serviceUrl: string; readonly ownerUrl: string }> {
  const ownerUrl = `${postgres.url}/keytether`;
  const owner = await connectOwner(`${postgres.url}/postgres`);
  try {
    await owner.exec('CREATE DATABASE keytether');
    await migrate(ownerUrl);
    await owner.exec('CREATE ROLE keytether_service LOGIN; GRANT keytether_app TO keytether_service');
  } finally {
    await owner.close();
  }
  return { serviceUrl: ownerUrl.replace('postgres@', 'keytether_service@'), ownerUrl };
}

async function writeSecrets(folder: string, { accessKeyId, secretAccessKey }: BenchKms) {
  const secretsFolder = join(folder, 'secrets');
  const files = {
    recordKeysFile: join(folder, 'record-keys'),
    operatorTokenFile: join(folder, 'operator-token'),
    secretsFolder,
  };
  makeSecrets(files);
  await mkdir(secretsFolder, { mode: 0o700 });
  const secret = JSON.stringify({ accessKeyId, secretAccessKey });
  await writeFile(join(secretsFolder, KMS_SECRET), secret, { mode: 0o600 });
  return files;
}

/** Waits until the service answers. @throws Error when it ends first, or takes too long. */
async function ready(url: string, service: Child): Promise<void> {
  const until = performance.now() + READY_TIMEOUT_MS;
  // The service says nothing on standard output in production, so this settles only when it ends.
  let ended: unknown;
  service
    .line(() => undefined, READY_TIMEOUT_MS)
    .catch((error: unknown) => {
      ended = error;
    });
  while (ended === undefined && performance.now() < until) {
    const answered = await fetch(`${url}/ready`).then(
      (response) => response.ok,
      () => false,
    );
    if (answered) return;
    await new Promise((resume) => setTimeout(resume, POLL_MS));
  }
  throw ended ?? new Error('the service did not start in time');
}
