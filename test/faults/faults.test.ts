/**
 * Every step of one decrypt over HTTP fails in every way: before it took effect, after it took effect, or by silence. Each row says
 * what the caller is told and what the log says. No row lets plaintext out: it is looked for in every byte of
 * the socket, in standard error and in every row of the database.
 */
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { expectStatus } from '../../src/api-client.ts';
import type { Replica } from '../../src/assemble.ts';
import { connectOwner, type OwnerConnection } from '../../src/store/postgres.ts';
import { type AwsServer, startAwsServer } from '../kms-servers/aws.ts';
import { type Customer, type Platform, startPlatform } from '../support/platform.ts';
import { type StallingProxy, startStallingProxy } from '../support/stalling-proxy.ts';
import { type Fault, type FaultyDatabase, faultyDatabase, type Step } from './faulty-database.ts';
import { type RawAnswer, rawPost } from './raw-request.ts';

/** The deadline of a request, and what a busy machine may add to it. */
const DEADLINE_MS = 4_000;
const SLACK_MS = 2_000;

/** Records of one decrypt: of the call's intent and result, of the use, and that a use was not released after all. */
type Records = readonly string[];

interface Row {
  readonly fault: string;
  readonly answer: string;
  readonly retryable?: boolean;
  /** Types and outcomes of the leaves that the decrypt left, in order, repetitions once. */
  readonly records: Records;
}

interface StoreRow extends Row {
  readonly step: Step;
  readonly how: Fault;
}

interface KmsRow extends Row {
  readonly arm: (server: AwsServer, keyRef: string) => void;
}

const DOWN: Fault = { kind: 'refuse', code: 'ECONNREFUSED' };
const LOST: Fault = { kind: 'lose' };
const HANGS: Fault = { kind: 'hang' };
const INTENT = 'kms.intent';
const DONE: Records = [INTENT, 'kms.result ok', 'key.use ok'];

const STORE_ROWS: readonly StoreRow[] = [
  {
    fault: 'who calls: fails',
    step: 'authenticate',
    how: DOWN,
    answer: '503 STORE_UNAVAILABLE',
    retryable: true,
    records: [],
  },
  {
    fault: 'who calls: hangs',
    step: 'authenticate',
    how: HANGS,
    answer: '503 DEADLINE_EXCEEDED',
    retryable: true,
    records: [],
  },
  {
    fault: 'store read: fails',
    step: 'read',
    how: DOWN,
    answer: '503 STORE_UNAVAILABLE',
    retryable: true,
    records: [],
  },
  {
    fault: 'store read: answer lost',
    step: 'read',
    how: LOST,
    answer: '503 STORE_UNAVAILABLE',
    retryable: true,
    records: [],
  },
  {
    fault: 'store read: hangs',
    step: 'read',
    how: HANGS,
    answer: '503 DEADLINE_EXCEEDED',
    retryable: true,
    records: [],
  },
  {
    fault: 'intent append: fails',
    step: 'intent',
    how: DOWN,
    answer: '503 LOG_UNAVAILABLE',
    retryable: true,
    records: [],
  },
  {
    fault: 'intent append: fails once',
    step: 'intent',
    how: { ...DOWN, times: 1 },
    answer: '200',
    records: DONE,
  },
  {
    fault: 'intent append: answer lost',
    step: 'intent',
    how: LOST,
    answer: '503 LOG_UNAVAILABLE',
    retryable: true,
    records: [INTENT],
  },
  {
    fault: 'intent append: answer lost once',
    step: 'intent',
    how: { ...LOST, times: 1 },
    answer: '200',
    records: DONE,
  },
  {
    fault: 'intent append: hangs',
    step: 'intent',
    how: HANGS,
    answer: '503 DEADLINE_EXCEEDED',
    retryable: true,
    records: [],
  },
  {
    fault: 'outcome append: fails',
    step: 'outcome',
    how: DOWN,
    answer: '503 LOG_UNAVAILABLE',
    retryable: true,
    records: [INTENT, 'use.not_released'],
  },
  {
    fault: 'outcome append: fails once',
    step: 'outcome',
    how: { ...DOWN, times: 1 },
    answer: '200',
    records: DONE,
  },
  {
    fault: 'outcome append: answer lost',
    step: 'outcome',
    how: LOST,
    answer: '503 LOG_UNAVAILABLE',
    retryable: true,
    records: [...DONE, 'use.not_released'],
  },
  {
    fault: 'outcome append: answer lost once',
    step: 'outcome',
    how: { ...LOST, times: 1 },
    answer: '200',
    records: DONE,
  },
  {
    fault: 'outcome append: hangs',
    step: 'outcome',
    how: HANGS,
    answer: '503 DEADLINE_EXCEEDED',
    retryable: true,
    records: [INTENT, 'use.not_released'],
  },
  {
    fault: 'database read-only',
    step: 'intent',
    how: { kind: 'refuse', code: '25006' },
    answer: '503 LOG_UNAVAILABLE',
    retryable: true,
    records: [],
  },
  {
    fault: 'database out of disk at the intent',
    step: 'intent',
    how: { kind: 'refuse', code: '53100' },
    answer: '503 LOG_UNAVAILABLE',
    retryable: true,
    records: [],
  },
  {
    fault: 'database out of disk at the outcome',
    step: 'outcome',
    how: { kind: 'refuse', code: '53100' },
    answer: '503 LOG_UNAVAILABLE',
    retryable: true,
    records: [INTENT, 'use.not_released'],
  },
];

const UNKNOWN: Records = [INTENT, 'kms.result unknown', 'key.use unknown'];
const DENIED: Records = [INTENT, 'kms.result denied', 'key.use denied'];
const disabled = (state: 'Disabled' | 'PendingDeletion') => (server: AwsServer, keyRef: string) =>
  server.keys.setState(server.keys.byArn(keyRef), state);

const KMS_ROWS: readonly KmsRow[] = [
  {
    fault: 'KMS: cannot be reached',
    arm: (server) => void server.close(),
    answer: '503 KMS_UNREACHABLE',
    retryable: true,
    records: UNKNOWN,
  },
  {
    fault: 'KMS: reset in the middle of its answer',
    arm: ({ faults }) => {
      faults.wire = 'reset';
    },
    answer: '503 KMS_UNREACHABLE',
    retryable: true,
    records: UNKNOWN,
  },
  {
    fault: 'KMS: black hole',
    arm: ({ faults }) => {
      faults.wire = 'black-hole';
    },
    answer: '503 KMS_TIMEOUT',
    retryable: true,
    records: UNKNOWN,
  },
  {
    fault: 'KMS: slower than an attempt',
    arm: ({ faults }) => {
      faults.latencyMs = 1_800;
    },
    answer: '503 KMS_TIMEOUT',
    retryable: true,
    records: UNKNOWN,
  },
  {
    fault: 'KMS: answers in 1.1 s',
    arm: ({ faults }) => {
      faults.latencyMs = 1_100;
    },
    answer: '200',
    records: DONE,
  },
  {
    fault: 'KMS: throttles',
    arm: ({ faults }) => {
      faults.rate = 0;
    },
    answer: '503 KMS_THROTTLED',
    retryable: true,
    records: UNKNOWN,
  },
  {
    fault: 'KMS: 500',
    arm: ({ faults }) => {
      faults.error = { type: 'KMSInternalException', message: '', status: 500 };
    },
    answer: '503 KMS_UNAVAILABLE',
    retryable: true,
    records: UNKNOWN,
  },
  {
    fault: "KMS: a proxy's page",
    arm: ({ faults }) => {
      faults.wire = 'html';
    },
    answer: '503 KMS_UNAVAILABLE',
    retryable: true,
    records: UNKNOWN,
  },
  {
    fault: 'KMS: another key than was wrapped',
    arm: ({ faults }) => {
      faults.rewrite = (operation, output) =>
        operation === 'Decrypt' ? { ...output, Plaintext: randomBytes(32).toString('base64') } : output;
    },
    answer: '424 KMS_INTEGRITY',
    retryable: false,
    records: [INTENT, 'kms.result error', 'key.use error'],
  },
  {
    fault: 'KMS: key disabled',
    arm: disabled('Disabled'),
    answer: '424 KMS_KEY_DISABLED',
    retryable: false,
    records: DENIED,
  },
  {
    fault: 'KMS: key pending deletion',
    arm: disabled('PendingDeletion'),
    answer: '424 KMS_KEY_PENDING_DELETION',
    retryable: false,
    records: DENIED,
  },
  {
    fault: 'KMS: access denied',
    arm: (server, keyRef) => void server.keys.byArn(keyRef).denied.add('*'),
    answer: '424 KMS_ACCESS_DENIED',
    retryable: false,
    records: DENIED,
  },
];

interface Prepared {
  readonly customer: Customer;
  readonly replica: Replica;
  readonly canary: string;
  readonly envelope: string;
  readonly leavesBefore: number;
}

let platform: Platform;
let usual: Replica;
let owner: OwnerConnection;
let healthy: Prepared;
const servers: AwsServer[] = [];
const proxies: StallingProxy[] = [];
const canaries: string[] = [];
const stderr: string[] = [];
const results = new Map<string, { row: Row; answer: RawAnswer; records: Records; canary: string }>();
/** Decrypts of a healthy tenant that began and ended while a black hole held another one's. */
let besideTheDead = 0;

async function sql(
  text: string,
  ...params: unknown[]
): Promise<readonly Readonly<Record<string, unknown>>[]> {
  return owner.query(text, params.length === 0 ? undefined : params);
}

async function prepare(replica: Replica, name: string, server?: AwsServer): Promise<Prepared> {
  const customer = await platform.onboard(usual, name, server);
  const canary = `canary ${randomBytes(24).toString('hex')}`;
  canaries.push(canary);
  const plaintext = Buffer.from(canary).toString('base64');
  const sealed = await customer.service.post(`${customer.path}/encrypt`, { plaintext, purpose: 'invoices' });
  const { envelope } = expectStatus(sealed, 200);
  return { customer, replica, canary, envelope, leavesBefore: (await leavesOf(customer.tenant)).length };
}

function decrypt({ customer, replica, envelope }: Prepared): Promise<RawAnswer> {
  const body = { envelope, purpose: 'invoices' };
  return rawPost(`${replica.url}${customer.path}/decrypt`, customer.serviceToken, body);
}

async function leavesOf(tenant: string): Promise<string[]> {
  const rows = await sql(
    `SELECT convert_from(leaf, 'UTF8') AS leaf FROM keytether.log_leaf WHERE tenant_id = $1 ORDER BY leaf_index`,
    tenant,
  );
  const leaves = rows.map(({ leaf }) => JSON.parse(String(leaf)) as { typ: string; out?: string });
  // The signer's key comes into every tree by itself, at a moment of its own.
  return leaves
    .filter(({ typ }) => typ !== 'log.key')
    .map(({ typ, out }) => (out === undefined ? typ : `${typ} ${out}`));
}

/** The records of the decrypt, once there are as many as the row wants; those that come after the answer may take a moment. */
async function recordsOf({ customer, leavesBefore }: Prepared, wanted: Records): Promise<Records> {
  for (let tries = 0; ; tries += 1) {
    const found = [...new Set((await leavesOf(customer.tenant)).slice(leavesBefore))];
    if (found.length >= wanted.length || tries === 50) return found;
    await new Promise((resume) => setTimeout(resume, 100));
  }
}

async function runStore(row: StoreRow, database: FaultyDatabase): Promise<void> {
  const replica = await platform.start({ connections: 2 }, { openDatabase: database.open });
  const prepared = await prepare(replica, row.fault);
  database.arm(row.step, row.how);
  const answer = await decrypt(prepared);
  database.heal();
  results.set(row.fault, {
    row,
    answer,
    records: await recordsOf(prepared, row.records),
    canary: prepared.canary,
  });
}

async function runKms(row: KmsRow, server: AwsServer): Promise<void> {
  const prepared = await prepare(usual, row.fault, server);
  row.arm(server, prepared.customer.keyRef);
  const pending = decrypt(prepared);
  if (row.fault === 'KMS: black hole') besideTheDead = await decryptsBefore(pending);
  const answer = await pending;
  results.set(row.fault, {
    row,
    answer,
    records: await recordsOf(prepared, row.records),
    canary: prepared.canary,
  });
}

async function decryptsBefore(pending: Promise<unknown>): Promise<number> {
  let over = false;
  pending.then(() => {
    over = true;
  });
  for (let done = 0; ; done += 1) {
    const answer = await decrypt(healthy);
    if (over) return done;
    expect(answer.status).toBe(200);
  }
}

async function throughProxy(fault: string, act: (proxy: StallingProxy) => Promise<void> | void) {
  const url = new URL(platform.database.url);
  const proxy = await startStallingProxy(Number(url.port));
  proxies.push(proxy);
  url.port = String(proxy.port);
  const replica = await platform.start({ databaseUrl: url.href, connections: 2 });
  const prepared = await prepare(replica, fault);
  await act(proxy);
  const answer = await decrypt(prepared);
  const row: Row = {
    fault,
    answer: '503 STORE_UNAVAILABLE',
    retryable: true,
    records: [],
  };
  results.set(fault, { row, answer, records: await recordsOf(prepared, []), canary: prepared.canary });
}

beforeAll(async () => {
  for (const _ of KMS_ROWS) servers.push(await startAwsServer());
  platform = await startPlatform(servers);
  owner = await connectOwner(platform.database.ownerUrl);
  jest.spyOn(process.stderr, 'write').mockImplementation((chunk) => stderr.push(String(chunk)) > 0);
  usual = await platform.start();
  healthy = await prepare(usual, 'healthy');
  const databases = STORE_ROWS.map(() => faultyDatabase());
  // Each row has a tenant of its own, and what it breaks is its own as well: they all wait at the same time.
  const work = await Promise.allSettled([
    ...STORE_ROWS.map((row, i) => runStore(row, databases[i] ?? faultyDatabase())),
    ...KMS_ROWS.map((row, i) => runKms(row, servers[i] ?? platform.aws)),
    throughProxy('database down', async (proxy) => {
      proxy.reset();
      await proxy.close();
    }),
    throughProxy('database frozen', (proxy) => proxy.stall()),
  ]);
  for (const each of work) if (each.status === 'rejected') throw each.reason;
}, 120_000);

afterAll(async () => {
  jest.restoreAllMocks();
  const rows = [...results.values()].map(({ row, answer, records }) => {
    const code = `${answer.status} ${answer.body.code ?? ''}`;
    return `  ${row.fault.padEnd(40)} → ${code.padEnd(30)} ${(answer.tookMs / 1_000).toFixed(1)} s  ${records.join(', ')}`;
  });
  process.stdout.write(
    `faults of one decrypt over HTTP:\n${rows.join('\n')}\n  decrypts of a healthy tenant beside a black hole: ${besideTheDead}\n`,
  );
  await owner?.close();
  await platform?.stop();
  await Promise.all([...servers, ...proxies].map((each) => each.close()));
}, 60_000);

const FAULTS = [...STORE_ROWS, ...KMS_ROWS]
  .map(({ fault }) => fault)
  .concat('database down', 'database frozen');

test.each(FAULTS)('%s: the answer, the records, no plaintext and no wait past the deadline', (fault) => {
  const result = results.get(fault);
  expect(result).toBeDefined();
  if (result === undefined) return;
  const { row, answer, records, canary } = result;
  const { code, retryable, plaintext } = answer.body;
  // A statement on a frozen server is given up at the same moment as the request: either may be first.
  const both = fault === 'database frozen' && code === 'DEADLINE_EXCEEDED';
  const told = both ? row.answer : [answer.status, code].filter((part) => part !== undefined).join(' ');
  expect(told).toBe(row.answer);
  expect(retryable).toBe(row.retryable);
  expect(records).toEqual(row.records);
  expect(plaintext).toBe(row.answer === '200' ? Buffer.from(canary).toString('base64') : undefined);
  expect(answer.tookMs).toBeLessThan(DEADLINE_MS + SLACK_MS);
});

describe('the plaintext', () => {
  const spellings = (canary: string): string[] =>
    (['latin1', 'base64', 'hex'] as const)
      .map((encoding) => Buffer.from(canary.slice(7)).toString(encoding).slice(0, 40))
      .concat(Buffer.from(canary).toString('base64'));

  test('is on no socket but those that were answered with 200', () => {
    for (const { answer, canary } of results.values()) {
      const found = spellings(canary).some((spelling) => answer.bytes.includes(spelling));
      expect(found).toBe(answer.status === 200);
    }
  });

  test('is neither on standard error nor in any row of the database', async () => {
    const written = stderr.join('');
    expect(written).toContain('LOG_UNAVAILABLE');
    const tables = await sql(
      `SELECT relname FROM pg_class WHERE relnamespace = 'keytether'::regnamespace AND relkind = 'r'`,
    );
    expect(tables.length).toBeGreaterThan(8);
    const rows = [];
    for (const { relname } of tables)
      rows.push(...(await sql(`SELECT t::text AS row FROM keytether.${relname} t`)));
    const leaves = await sql(`SELECT convert_from(leaf, 'UTF8') AS row FROM keytether.log_leaf`);
    const stored = [...rows, ...leaves].map(({ row }) => String(row)).join('\n');
    for (const spelling of canaries.flatMap(spellings)) {
      expect(written.includes(spelling)).toBe(false);
      expect(stored.includes(spelling)).toBe(false);
    }
  });
});

test("one tenant's black hole does not hold up another tenant", () => {
  expect(besideTheDead).toBeGreaterThan(2);
});
