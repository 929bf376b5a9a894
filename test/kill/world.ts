/**
 * The world of a run, each part a process of its own: PostgreSQL, the AWS KMS protocol server, one service replica in production
 * mode, and the clients. The parent only listens, kills and restarts.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { apiClient } from '../../src/api-client.ts';
import { makeSecrets } from '../../src/assemble.ts';
import { onboard } from '../../src/onboard.ts';
import { migrate } from '../../src/store/migrate.ts';
import { connectOwner } from '../../src/store/postgres.ts';
import { Child } from '../support/child.ts';
import { SERVICE_ROLE } from '../support/database.ts';
import { freePort, type StartedServer, startPostgres } from '../support/postgres.ts';
import type { Line, Orders, Told, Verified } from './client.ts';
import type { StoredLog } from './ledger.ts';
import { readLog } from './log.ts';

const REPOSITORY = join(import.meta.dirname, '../..');
const LEASH = join(import.meta.dirname, 'leash.ts');
const DATABASE = 'keytether_kill';
const KMS_LATENCY_MS = 2;
const START_MS = 30_000;
const VERIFY_MS = 600_000;

export interface WorldOptions {
  readonly tenants: number;
  readonly clients: number;
  readonly lanes: number;
  /** The tree whose `src/main.ts` is the service: this one, or a copy with a planted fault. */
  readonly tree?: string;
  /** SQL for the superuser, once the tenants are there and before the traffic. */
  readonly sabotage?: string;
  /** Hears of each request when it has ended. */
  told(line: Told): void;
  /** Hears of each answer of the KMS to a Decrypt, a moment after it left. `at`: milliseconds of the machine's clock. */
  answered(cid: string, at: number): void;
  /** Hears of a process that ended although nobody killed it. */
  ended(who: string, why: string): void;
}

export interface World {
  /** Sends SIGKILL at once. Restart it before the next kill. */
  killService(): void;
  killPostgres(): void;
  restartService(): Promise<void>;
  restartPostgres(): Promise<void>;
  /** Ends the traffic; every request has been told then. */
  stopTraffic(): Promise<void>;
  /** After that: has the clients open every envelope that was released to them. */
  verify(): Promise<{ opened: number; unopened: number }>;
  readonly tenants: readonly string[];
  /** The log of one tenant as it stands in the database. */
  readLog(tenant: string): Promise<StoredLog>;
  close(): Promise<void>;
}

type Stop = () => Promise<unknown>;

export async function startWorld(options: WorldOptions): Promise<World> {
  const stops: Stop[] = [];
  const close = async () => {
    for (const stop of stops.splice(0).reverse()) await stop();
  };
  try {
    return await build(options, stops, close);
  } catch (error) {
    await close();
    throw error;
  }
}

async function build(options: WorldOptions, stops: Stop[], close: Stop): Promise<World> {
  const folder = mkdtempSync(join(tmpdir(), 'keytether-kill-'));
  const remove = () => rmSync(folder, { recursive: true, force: true });
  process.once('exit', remove);
  stops.push(async () => {
    process.off('exit', remove);
    remove();
  });
  const postgres = await startPostgres();
  stops.push(postgres.stop);
  await prepareDatabase(postgres);
  const kms = await startKms(options);
  stops.push(() => kms.child.stop());
  const service = serviceOf(options, { folder, postgres, kms: kms.ready });
  await service.start();
  stops.push(service.stop);
  const tenants = await onboardTenants(options, service, kms.ready);
  const ownerUrl = `${postgres.url}/${DATABASE}`;
  if (options.sabotage !== undefined) await asOwner(ownerUrl, options.sabotage);
  const clients = startClients(options, service.url, tenants);
  stops.push(() => Promise.all(clients.map((client) => client.stop())));

  return {
    killService: service.kill,
    killPostgres: () => postgres.kill(),
    restartService: service.start,
    restartPostgres: () => postgres.restart(),
    async stopTraffic() {
      for (const client of clients) client.tell('stop');
      await Promise.all(clients.map((client) => client.line(stoppedOf, START_MS)));
    },
    async verify() {
      for (const client of clients) client.tell('verify');
      const ends = await Promise.all(clients.map((client) => client.line(verifiedOf, VERIFY_MS)));
      const sum = (field: (end: Verified) => number) => ends.reduce((total, end) => total + field(end), 0);
      return { opened: sum((end) => end.opened), unopened: sum((end) => end.unopened) };
    },
    tenants: tenants.map(({ id }) => id),
    readLog: (tenant) => readLog(ownerUrl, tenant),
    close: async () => void (await close()),
  };
}

async function prepareDatabase(postgres: StartedServer): Promise<void> {
  await asOwner(`${postgres.url}/postgres`, `CREATE DATABASE ${DATABASE}`);
  await migrate(`${postgres.url}/${DATABASE}`);
  await asOwner(
    `${postgres.url}/${DATABASE}`,
    `CREATE ROLE ${SERVICE_ROLE} LOGIN; GRANT keytether_app TO ${SERVICE_ROLE}`,
  );
}

async function asOwner(url: string, sql: string): Promise<void> {
  const owner = await connectOwner(url);
  try {
    for (const statement of sql.split(';\n')) await owner.exec(statement);
  } finally {
    await owner.close();
  }
}

interface Kms {
  readonly url: string;
  readonly region: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly keys: readonly string[];
}

async function startKms({ tenants, answered }: WorldOptions): Promise<{ child: Child; ready: Kms }> {
  const child = new Child({
    command: process.execPath,
    args: [
      ...['--import', LEASH, join(REPOSITORY, 'test/kms-servers/aws.ts'), '--announce', '--log-limit', '0'],
      ...['--keys', String(tenants), '--latency-ms', String(KMS_LATENCY_MS)],
    ],
    onLine(line) {
      const [, at, cid] = /^answered ([0-9.]+) Decrypt \S+ cid\/(\S+)$/.exec(line) ?? [];
      if (cid !== undefined) answered(cid, Number(at));
    },
  });
  const ready = await child.line(
    (line) => (line.startsWith('{') ? (JSON.parse(line) as Kms) : undefined),
    START_MS,
  );
  return { child, ready };
}

/** The replica: the shipped program with the settings that an operator gives it. */
function serviceOf(
  { tree = REPOSITORY, ended }: WorldOptions,
  { folder, postgres, kms }: { folder: string; postgres: StartedServer; kms: Kms },
) {
  const secrets = join(folder, 'secrets');
  mkdirSync(secrets);
  const { accessKeyId, secretAccessKey } = kms;
  writeFileSync(join(secrets, 'aws'), JSON.stringify({ accessKeyId, secretAccessKey }), { mode: 0o600 });
  const files = {
    recordKeysFile: join(folder, 'record-keys'),
    operatorTokenFile: join(folder, 'operator-token'),
  };
  makeSecrets(files);
  let running: { child: Child; killed: boolean } | undefined;
  let url = '';
  let port = 0;

  async function start(): Promise<void> {
    await running?.child.exited;
    if (port === 0) port = await freePort();
    url = `http://127.0.0.1:${port}`;
    const child = new Child({
      command: process.execPath,
      args: ['--import', LEASH, join(tree, 'src/main.ts'), 'start'],
      env: {
        KEYTETHER_MODE: 'production',
        DATABASE_URL: `${postgres.url}/${DATABASE}`.replace('postgres@', `${SERVICE_ROLE}@`),
        KEYTETHER_HOST: '127.0.0.1',
        KEYTETHER_PORT: String(port),
        KEYTETHER_RECORD_KEYS_FILE: files.recordKeysFile,
        KEYTETHER_OPERATOR_TOKEN_FILE: files.operatorTokenFile,
        KEYTETHER_SECRETS_FOLDER: secrets,
        KEYTETHER_KMS_ENDPOINTS: kms.url,
        // New versions of data keys all the time.
        KEYTETHER_ROTATE_MESSAGES: '20',
      },
    });
    const current = { child, killed: false };
    running = current;
    child
      .line(() => undefined, 2 ** 31 - 1)
      .catch((error: Error) => {
        if (!current.killed) ended('service', error.message);
      });
  }

  return {
    get url() {
      return url;
    },
    operatorTokenFile: files.operatorTokenFile,
    start,
    kill() {
      if (running === undefined) return;
      running.killed = true;
      process.kill(running.child.pid, 'SIGKILL');
    },
    async stop() {
      if (running === undefined) return;
      running.killed = true;
      await running.child.stop();
    },
  };
}

async function onboardTenants(
  options: WorldOptions,
  service: { readonly url: string; readonly operatorTokenFile: string },
  kms: Kms,
): Promise<Orders['tenants']> {
  const token = readFileSync(service.operatorTokenFile, 'utf8').trim();
  await answering(service.url);
  const access = {
    region: kms.region,
    endpoint: kms.url,
    credentials: { type: 'static', secretId: 'aws' },
  };
  const tenants: { id: string; token: string }[] = [];
  for (const keyRef of kms.keys.slice(0, options.tenants)) {
    const done = await onboard(apiClient(service.url, token), {
      name: `Tenant ${tenants.length}`,
      provider: 'aws-kms',
      keyRef,
      access,
    });
    tenants.push({ id: done.tenant, token: done.serviceToken });
  }
  return tenants;
}

async function answering(url: string): Promise<void> {
  const end = performance.now() + START_MS;
  for (;;) {
    const ready = await fetch(`${url}/ready`).catch(() => undefined);
    if (ready?.status === 200) return;
    if (performance.now() > end) throw new Error('the service does not come up');
    await new Promise((resume) => setTimeout(resume, 50));
  }
}

function startClients(options: WorldOptions, url: string, tenants: Orders['tenants']): Child[] {
  return Array.from({ length: options.clients }, (_, client) => {
    const own = tenants.filter((_, i) => i % options.clients === client);
    const child = new Child({
      command: process.execPath,
      args: [join(import.meta.dirname, 'client.ts')],
      onLine(line) {
        const told: Line = JSON.parse(line);
        if (told.kind === 'request') options.told(told);
      },
    });
    const orders: Orders = { url, tenants: own, lanes: options.lanes };
    child.tell(JSON.stringify(orders));
    return child;
  });
}

function verifiedOf(line: string): Verified | undefined {
  const told: Line = JSON.parse(line);
  return told.kind === 'verified' ? told : undefined;
}

function stoppedOf(line: string): true | undefined {
  return (JSON.parse(line) as Line).kind === 'stopped' ? true : undefined;
}
