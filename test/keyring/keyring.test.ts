/** Data keys as services meet them: made when first needed, rotated, raced for by replicas; and what is never handed out. */
import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { type ApiClient, apiClient, expectStatus } from '../../src/api-client.ts';
import type { Replica } from '../../src/assemble.ts';
import type { Database } from '../../src/store/db.ts';
import { openDatabase } from '../../src/store/open.ts';
import { type Customer, type Platform, startPlatform } from '../support/platform.ts';

const DAY_MS = 86_400_000;
const PLAINTEXT = Buffer.from('a value').toString('base64');

let platform: Platform;
let first: Replica;
let second: Replica;
let customer: Customer;
let purposes = 0;

beforeAll(async () => {
  platform = await startPlatform();
  first = await platform.start();
  second = await platform.start();
  customer = await platform.onboard(first, 'A customer');
}, 60_000);
afterAll(() => platform?.stop());
afterEach(() => {
  jest.restoreAllMocks();
  platform.aws.faults.delays = undefined;
});

/** The customer's service at one replica. */
function serviceAt(replica: Replica, token = customer.serviceToken): ApiClient {
  return apiClient(replica.url, token);
}

function freshPurpose(): string {
  purposes += 1;
  return `purpose-${purposes}`;
}

interface Encrypted {
  readonly envelope: string;
  readonly keyId: string;
  readonly keyVersion: number;
}

async function encrypt(purpose: string, replica = first, scope = 'default'): Promise<Encrypted> {
  const body = { plaintext: PLAINTEXT, purpose, scope };
  return expectStatus(await serviceAt(replica).post(`${customer.path}/encrypt`, body), 200);
}

async function decrypt(envelope: string, purpose: string, replica = first): Promise<string> {
  return expectStatus(await serviceAt(replica).post(`${customer.path}/decrypt`, { envelope, purpose }), 200)
    .plaintext;
}

async function leaves(): Promise<
  { typ: string; op?: string; sc?: string; out?: string; req?: string; obj?: { typ: string } }[]
> {
  const all = [];
  for (let from = 0; ; from += 1_000) {
    const { entries } = expectStatus(
      await customer.auditor.get(`${customer.path}/log?from=${from}&limit=1000`),
      200,
    );
    all.push(...entries.map(({ leaf }: { leaf: string }) => JSON.parse(leaf)));
    if (entries.length < 1_000) return all;
  }
}

/** Calls to the customer's KMS so far. */
function kmsCalls(): number {
  return platform.aws.log.filter(({ operation }) => operation === 'Decrypt').length;
}

describe('a data key', () => {
  test('is made by the first encrypt of its purpose, with a record of its own, and then used again', async () => {
    const purpose = freshPurpose();
    const before = (await leaves()).length;
    const one = await encrypt(purpose);
    const made = (await leaves()).slice(before).filter(({ typ }) => typ === 'admin.change');
    expect(made.map(({ op, obj }) => [op, obj?.typ])).toEqual([
      ['key.create', 'data-key'],
      ['key.current', 'head'],
    ]);
    const two = await encrypt(purpose, second);
    expect([one.keyVersion, two.keyVersion, two.keyId]).toEqual([1, 1, one.keyId]);
    expect((await leaves()).slice(before).filter(({ op }) => op === 'key.create')).toHaveLength(1);
  });

  test('is not made by a decrypt', async () => {
    const { envelope } = await encrypt(freshPurpose());
    const before = (await leaves()).length;
    const body = { envelope, purpose: freshPurpose() };
    expectStatus(await serviceAt(first).post(`${customer.path}/decrypt`, body), 400);
    expect((await leaves()).slice(before).filter(({ typ }) => typ === 'admin.change')).toEqual([]);
  });

  test('gets its next version at the age of the policy, not before, and what the old one sealed still opens', async () => {
    const purpose = freshPurpose();
    const now = Date.now;
    const old = await encrypt(purpose);
    const later = (ms: number) => jest.spyOn(Date, 'now').mockImplementation(() => now() + ms);
    later(90 * DAY_MS - 60_000);
    expect((await encrypt(purpose)).keyVersion).toBe(1);
    jest.restoreAllMocks();
    later(90 * DAY_MS);
    const fresh = await encrypt(purpose);
    expect(fresh.keyVersion).toBe(2);
    expect(fresh.keyId).not.toBe(old.keyId);
    jest.restoreAllMocks();
    expect(await decrypt(old.envelope, purpose, second)).toBe(PLAINTEXT);
    expect(await decrypt(fresh.envelope, purpose, second)).toBe(PLAINTEXT);
  });

  test('gets its next version after the number of messages of the policy, and every version still opens', async () => {
    const careful = await platform.start({ rotateMessages: 3 });
    const purpose = freshPurpose();
    const sealed: Encrypted[] = [];
    for (let n = 0; n < 8; n += 1) sealed.push(await encrypt(purpose, careful));
    expect(sealed.map(({ keyVersion }) => keyVersion)).toEqual([1, 1, 1, 2, 2, 2, 3, 3]);
    for (const { envelope } of sealed) expect(await decrypt(envelope, purpose)).toBe(PLAINTEXT);
  });

  test('that replicas make at the same time exists once: the loser seals under the winner\u2019s', async () => {
    // Both have read that there is none before either can store one.
    platform.aws.faults.delays = () => ({ before: 0, after: 100 });
    for (let round = 0; round < 5; round += 1) {
      const purpose = freshPurpose();
      const before = (await leaves()).length;
      const both = [first, second].flatMap((replica) => [replica, replica, replica]);
      const sealed = await Promise.all(both.map((replica) => encrypt(purpose, replica)));
      expect(new Set(sealed.map(({ keyId, keyVersion }) => `${keyId}/${keyVersion}`)).size).toBe(1);
      const since = (await leaves()).slice(before);
      expect(since.filter(({ op }) => op === 'key.create')).toHaveLength(1);
      // What the loser had sealed first was never said to be released.
      expect(since.filter(({ op, out }) => op === 'encrypt' && out === 'ok')).toHaveLength(6);
      for (const { envelope } of sealed) expect(await decrypt(envelope, purpose)).toBe(PLAINTEXT);
    }
  });
});

describe('calls to the KMS', () => {
  test('serve all who were waiting together, unless the scope wants one for each use', async () => {
    const path = `${customer.path}/customer-keys/${customer.customerKey}/activate`;
    expectStatus(await customer.admin.post(path, { scope: 'alone', oneFlightPerUse: true }), 200);
    const made = expectStatus(
      await customer.admin.post(`${customer.path}/api-keys`, {
        name: 'all',
        role: 'service',
        scopes: ['*'],
        purposes: ['*'],
      }),
      201,
    );
    const service = serviceAt(first, made.token);
    const callsOf = async (scope: string): Promise<number> => {
      const body = { plaintext: PLAINTEXT, purpose: 'shared', scope };
      expectStatus(await service.post(`${customer.path}/encrypt`, body), 200);
      platform.aws.faults.delays = () => ({ before: 50, after: 0 });
      const before = kmsCalls();
      const answers = await Promise.all(
        Array.from({ length: 20 }, () => service.post(`${customer.path}/encrypt`, body)),
      );
      platform.aws.faults.delays = undefined;
      expect(answers.map(({ status }) => status)).toEqual(Array.from({ length: 20 }, () => 200));
      return kmsCalls() - before;
    };
    expect(await callsOf('alone')).toBe(20);
    expect(await callsOf('default')).toBeLessThan(20);
  });
});

describe('a batch', () => {
  test('of all kinds of items is one call, and each item has its own outcome and a record that says so', async () => {
    const [a, b] = [freshPurpose(), freshPurpose()];
    const [one, two] = [await encrypt(a), await encrypt(b)];
    const damaged = Buffer.from(one.envelope, 'base64');
    damaged[damaged.length - 1] = (damaged.at(-1) ?? 0) ^ 1;
    const items = [
      { reference: 'good', envelope: one.envelope, purpose: a },
      { reference: 'tag', envelope: damaged.toString('base64'), purpose: a },
      { reference: 'other', envelope: two.envelope, purpose: b },
      { reference: 'purpose', envelope: two.envelope, purpose: a },
    ];
    const calls = kmsCalls();
    const before = (await leaves()).length;
    const answer = expectStatus(
      await serviceAt(first).post(`${customer.path}/decrypt/batch`, { items }),
      200,
    );
    expect(kmsCalls() - calls).toBe(1);
    expect(
      answer.items.map(
        (item: { plaintext?: string; error?: { code: string } }) => item.plaintext ?? item.error?.code,
      ),
    ).toEqual([PLAINTEXT, 'DECRYPT_FAILED', PLAINTEXT, 'DECRYPT_FAILED']);
    const uses = (await leaves()).slice(before).filter(({ typ }) => typ === 'key.use');
    expect(uses.map(({ out }) => out).sort()).toEqual(['error', 'error', 'ok', 'ok']);
  });
});

describe('what is not in the log is not handed out', () => {
  /** A database whose log can be made to refuse outcomes, in the way in which a full queue or a dead server does. */
  async function replicaThat(onOutcome: () => Promise<'refuse' | 'pass'>): Promise<Replica> {
    return platform.start(
      {},
      {
        openDatabase: async (...args): Promise<Database> => {
          const database = await openDatabase(...args);
          return {
            ...database,
            async query(text, params, name) {
              const outcome = name === 'log_append' && String(params?.[6]).includes('2');
              if (outcome && (await onOutcome()) === 'refuse') throw new Error('the log refuses');
              return database.query(text, params, name);
            },
          };
        },
      },
    );
  }

  test('an envelope whose record the log refuses is answered with LOG_UNAVAILABLE, and its key does not exist', async () => {
    let refuses = true;
    const replica = await replicaThat(async () => (refuses ? 'refuse' : 'pass'));
    const purpose = freshPurpose();
    const body = { plaintext: PLAINTEXT, purpose };
    const answer = await serviceAt(replica).post(`${customer.path}/encrypt`, body);
    expect([answer.status, answer.body.code]).toEqual([503, 'LOG_UNAVAILABLE']);
    expect(answer.body.envelope).toBeUndefined();
    refuses = false;
    expect((await encrypt(purpose, replica)).keyVersion).toBe(1);
  });

  test('a caller who is revoked between his authentication and the commit is not served', async () => {
    const made = expectStatus(
      await customer.admin.post(`${customer.path}/api-keys`, {
        name: 'short',
        role: 'service',
        purposes: ['*'],
      }),
      201,
    );
    const admin = expectStatus(
      await customer.admin.post(`${customer.path}/api-keys`, { name: 'admin', role: 'tenant-admin' }),
      201,
    );
    const { envelope } = await encrypt('revoked');
    let revocations = 0;
    const replica = await replicaThat(async () => {
      revocations += 1;
      if (revocations > 1) return 'pass';
      const answer = await fetch(`${second.url}${customer.path}/api-keys/${made.apiKey.id}`, {
        method: 'DELETE',
        headers: { authorization: `Bearer ${admin.token}` },
      });
      expect(answer.status).toBe(204);
      return 'pass';
    });
    const before = (await leaves()).length;
    const body = { envelope, purpose: 'revoked' };
    const answer = await serviceAt(replica, made.token).post(`${customer.path}/decrypt`, body);
    expect(revocations).toBe(1);
    expect([answer.status, answer.body.code]).toEqual([401, 'UNAUTHENTICATED']);
    expect(
      (await leaves()).slice(before).filter(({ typ, out }) => typ === 'key.use' && out === 'ok'),
    ).toEqual([]);
  });
});
