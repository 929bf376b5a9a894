/**
 * Somebody who can write every row of the database, but has no record key: each edit, swap, move, insertion, deletion and
 * replay that he can make, what the service then answers, and what he gains. His own KMS key is never called, and no
 * plaintext leaves that the customer's key and an authentic grant did not let out.
 */
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type ApiClient, apiClient, expectStatus } from '../../src/api-client.ts';
import type { Replica } from '../../src/assemble.ts';
import { createKey } from '../../src/crypto/keys.ts';
import {
  authenticateBinding,
  authenticateHead,
  authenticateKeyRecord,
  parseBinding,
  principalMac,
  type RecordKeys,
} from '../../src/crypto/records.ts';
import { mintToken } from '../../src/service/token.ts';
import { connectOwner, type OwnerConnection } from '../../src/store/postgres.ts';
import { type Customer, type Platform, startPlatform } from '../support/platform.ts';

const PLAINTEXT = Buffer.from('what the customer wrote').toString('base64');
const TABLES = ['binding', 'key_record', 'head', 'principal'] as const;

let platform: Platform;
let replica: Replica;
/** Rotates with every encrypt. */
let rotating: Replica;
let owner: OwnerConnection;
let victim: Customer;
/** A tenant of the writer's own, whose objects are authentic. */
let accomplice: Customer;
/** The victim's service for all scopes, its token, and its principal's id. */
let service: ApiClient;
let serviceToken: string;
let servicePrincipal: string;
let invoice: string;
let salary: string;
let hisKey: string;
const gains: [edit: string, gain: string][] = [];

/** Keys of the writer's own making: the right id, other bytes. */
function forgedKeys(id = 'rk1'): RecordKeys {
  const key = new Uint8Array(randomBytes(32));
  return { signing: { id, key }, find: () => ({ key }) };
}

async function sql(
  text: string,
  ...params: unknown[]
): Promise<readonly Readonly<Record<string, unknown>>[]> {
  return owner.query(text, params.length === 0 ? undefined : params);
}

beforeAll(async () => {
  platform = await startPlatform();
  replica = await platform.start();
  rotating = await platform.start({ rotateDays: 0 });
  [victim, accomplice] = await Promise.all([
    platform.onboard(replica, 'Victim'),
    platform.onboard(replica, 'Accomplice'),
  ]);
  hisKey = platform.aws.keys.create(platform.aws.region).arn;
  expectStatus(
    await victim.admin.post(`${victim.path}/customer-keys/${victim.customerKey}/activate`, {
      scope: 'second',
    }),
    200,
  );
  const made = expectStatus(
    await victim.admin.post(`${victim.path}/api-keys`, {
      name: 'all',
      role: 'service',
      scopes: ['*'],
      purposes: ['*'],
    }),
    201,
  );
  service = victim.service.as(made.token);
  serviceToken = made.token;
  servicePrincipal = made.apiKey.id;
  invoice = (await sealed('invoices')).envelope;
  salary = (await sealed('salaries')).envelope;
  await sealed('invoices', 'second');
  owner = await connectOwner(platform.database.ownerUrl);
  await keep();
}, 60_000);

afterAll(async () => {
  const width = Math.max(...gains.map(([edit]) => edit.length));
  const lines = gains.map(([edit, gain]) => `  ${edit.padEnd(width)} → ${gain}`);
  process.stdout.write(`a database writer without the record key:\n${lines.join('\n')}\n`);
  await owner?.close();
  await platform?.stop();
});

async function sealed(purpose: string, scope = 'default'): Promise<{ envelope: string; keyVersion: number }> {
  const body = { plaintext: PLAINTEXT, purpose, scope };
  return expectStatus(await service.post(`${victim.path}/encrypt`, body), 200);
}

/** Copies of all rows, which {@link putBack} restores. */
async function keep(): Promise<void> {
  await sql('DROP SCHEMA IF EXISTS kept CASCADE');
  await sql('CREATE SCHEMA kept');
  for (const table of [...TABLES, 'tenant']) {
    await sql(`CREATE TABLE kept.${table} AS SELECT * FROM keytether.${table}`);
  }
}

async function putBack(): Promise<void> {
  for (const table of TABLES) {
    await sql(`DELETE FROM keytether.${table}`);
    await sql(`INSERT INTO keytether.${table} SELECT * FROM kept.${table}`);
  }
  await sql(
    'UPDATE keytether.tenant t SET state = k.state, state_version = greatest(t.state_version, k.state_version) FROM kept.tenant k WHERE k.tenant_id = t.tenant_id',
  );
}

type Outcome = string;

function outcomeOf({
  status,
  body,
}: {
  status: number;
  body: { code?: string; plaintext?: string };
}): Outcome {
  if (status !== 200) return `${status} ${body.code}`;
  if (body.plaintext !== undefined) expect(body.plaintext).toBe(PLAINTEXT);
  return 'ok';
}

async function decrypt(envelope = invoice, purpose = 'invoices', scope = 'default'): Promise<Outcome> {
  return outcomeOf(await service.post(`${victim.path}/decrypt`, { envelope, purpose, scope }));
}

async function encrypt(purpose = 'invoices', scope = 'default'): Promise<Outcome> {
  return outcomeOf(await service.post(`${victim.path}/encrypt`, { plaintext: PLAINTEXT, purpose, scope }));
}

const TAMPERED = '500 KEY_RECORD_TAMPERED';
const NO_RECORD_KEY = '503 RECORD_KEY_UNAVAILABLE';
const FAILED = '400 DECRYPT_FAILED';
const SHUT = 'denial of service';

interface Case {
  readonly edit: string;
  /** A statement in which $1 is the victim's id, or what does several. */
  readonly apply: string | (() => Promise<unknown>);
  readonly decrypt?: Outcome;
  readonly encrypt?: Outcome;
  readonly gain?: string;
}

function flip(column: string, at: number): string {
  return `${column} = set_byte(${column}, ${at}, get_byte(${column}, ${at}) # 1)`;
}

const VICTIM_ROOT = `tenant_id = $1 AND kind = 1 AND scope = 'default'`;
const VICTIM_DATA = `tenant_id = $1 AND kind = 2 AND scope = 'default' AND purpose = 'invoices'`;
const VICTIM_ROOT_HEAD = `tenant_id = $1 AND scope = 'default' AND purpose = ''`;
const VICTIM_DATA_HEAD = `tenant_id = $1 AND scope = 'default' AND purpose = 'invoices'`;

const EDITS: readonly Case[] = [
  {
    edit: 'binding: row version raised',
    apply: 'UPDATE keytether.binding SET version = version + 1 WHERE tenant_id = $1',
  },
  {
    edit: 'binding: another id',
    apply: `UPDATE keytether.binding SET ${flip('binding_id', 0)} WHERE tenant_id = $1`,
  },
  { edit: 'binding: deleted', apply: 'DELETE FROM keytether.binding WHERE tenant_id = $1' },
  {
    edit: 'root: row generation raised',
    apply: `UPDATE keytether.key_record SET generation = 2 WHERE ${VICTIM_ROOT}`,
  },
  {
    edit: 'root: row generation rewound',
    apply: `UPDATE keytether.key_record SET generation = 0 WHERE ${VICTIM_ROOT}`,
  },
  {
    edit: 'root: another id',
    apply: `UPDATE keytether.key_record SET ${flip('key_id', 0)} WHERE ${VICTIM_ROOT}`,
  },
  {
    edit: 'root: row says that another binding wraps it',
    apply: `UPDATE keytether.key_record SET wrapper_ids = '{}' WHERE ${VICTIM_ROOT}`,
  },
  {
    edit: 'root: row says another scope',
    apply: `UPDATE keytether.key_record SET scope = 'third' WHERE ${VICTIM_ROOT}`,
    decrypt: 'ok',
    encrypt: 'ok',
    gain: 'nothing: the column is not believed',
  },
  {
    edit: 'root: row says another key version',
    apply: `UPDATE keytether.key_record SET key_version = 7 WHERE ${VICTIM_ROOT}`,
    decrypt: 'ok',
    encrypt: 'ok',
    gain: 'nothing: the column is not believed',
  },
  {
    edit: 'root: row says data key',
    apply: `UPDATE keytether.key_record SET kind = 2, purpose = 'x' WHERE ${VICTIM_ROOT}`,
  },
  { edit: 'root: deleted', apply: `DELETE FROM keytether.key_record WHERE ${VICTIM_ROOT}` },
  {
    edit: 'data key: row generation raised',
    apply: `UPDATE keytether.key_record SET generation = 2 WHERE ${VICTIM_DATA}`,
  },
  {
    edit: 'data key: row says another purpose',
    apply: `UPDATE keytether.key_record SET purpose = 'other' WHERE ${VICTIM_DATA}`,
    decrypt: 'ok',
    encrypt: 'ok',
    gain: 'nothing: the column is not believed',
  },
  {
    edit: 'data key: row says another scope',
    apply: `UPDATE keytether.key_record SET scope = 'third' WHERE ${VICTIM_DATA}`,
    decrypt: 'ok',
    encrypt: 'ok',
    gain: 'nothing: the column is not believed',
  },
  {
    edit: 'data key: row says another root',
    apply: `UPDATE keytether.key_record SET wrapper_ids = '{}' WHERE ${VICTIM_DATA}`,
    decrypt: 'ok',
    encrypt: 'ok',
    gain: 'nothing: the column is not believed',
  },
  {
    edit: 'data key: sealed_count to 0',
    apply: `UPDATE keytether.key_record SET sealed_count = 0 WHERE ${VICTIM_DATA}`,
    decrypt: 'ok',
    encrypt: 'ok',
    gain: 'more than 2^32 messages under one key',
  },
  {
    edit: 'data key: sealed_count to 2^32',
    apply: `UPDATE keytether.key_record SET sealed_count = 4294967296 WHERE ${VICTIM_DATA}`,
    decrypt: 'ok',
    encrypt: 'ok',
    gain: 'nothing: the next version of the key',
  },
  {
    edit: 'data key: sealed_count below 0',
    apply: `UPDATE keytether.key_record SET sealed_count = -9000 WHERE ${VICTIM_DATA}`,
    decrypt: 'ok',
    encrypt: 'ok',
    gain: 'more than 2^32 messages under one key',
  },
  {
    edit: 'data key: deleted',
    apply: `DELETE FROM keytether.key_record WHERE ${VICTIM_DATA}`,
    decrypt: FAILED,
  },
  {
    edit: 'data key: deleted with its head',
    apply: () => deleteKeyAndHead(),
    decrypt: FAILED,
    encrypt: 'ok',
    gain: 'nothing: what was sealed is lost',
  },
  {
    edit: 'root head: row generation raised',
    apply: `UPDATE keytether.head SET generation = 2 WHERE ${VICTIM_ROOT_HEAD}`,
  },
  {
    edit: 'root head: row generation rewound',
    apply: `UPDATE keytether.head SET generation = 0 WHERE ${VICTIM_ROOT_HEAD}`,
  },
  {
    edit: 'root head: row says another key',
    apply: `UPDATE keytether.head SET current_key = (SELECT key_id FROM keytether.key_record WHERE tenant_id = $1 AND kind = 1 AND scope = 'second') WHERE ${VICTIM_ROOT_HEAD}`,
  },
  { edit: 'root head: deleted', apply: `DELETE FROM keytether.head WHERE ${VICTIM_ROOT_HEAD}` },
  {
    edit: 'data-key head: row generation raised',
    apply: `UPDATE keytether.head SET generation = 2 WHERE ${VICTIM_DATA_HEAD}`,
    decrypt: 'ok',
  },
  {
    edit: 'data-key head: row says another key',
    apply: `UPDATE keytether.head SET current_key = '\\x00000000000000000000000000000000' WHERE ${VICTIM_DATA_HEAD}`,
    decrypt: 'ok',
  },
  {
    edit: 'data-key head: moved to another purpose',
    apply: `UPDATE keytether.head SET purpose = 'fresh' WHERE ${VICTIM_DATA_HEAD}`,
    decrypt: 'ok',
  },
  {
    edit: 'data-key head: deleted',
    apply: `DELETE FROM keytether.head WHERE ${VICTIM_DATA_HEAD}`,
    decrypt: 'ok',
  },
  {
    edit: 'data keys of two purposes swapped',
    apply: () => swap('key_record', ['immutable', 'mutable'], `kind = 2 AND scope = 'default'`),
  },
  {
    edit: 'mutable parts of two data keys swapped',
    apply: () => swap('key_record', ['mutable'], `kind = 2 AND scope = 'default'`),
  },
  {
    edit: 'roots of two scopes swapped',
    apply: () => swap('key_record', ['immutable', 'mutable'], 'kind = 1'),
  },
  {
    edit: 'root heads of two scopes swapped',
    apply: () => swap('head', ['current_key', 'generation', 'object'], `purpose = ''`),
  },
  {
    edit: 'data-key heads of two purposes swapped',
    apply: () => swap('head', ['current_key', 'generation', 'object'], `scope = 'default' AND purpose <> ''`),
    decrypt: 'ok',
  },
  {
    edit: 'all keys of the victim moved to another tenant',
    apply: () =>
      sql(
        'UPDATE keytether.key_record SET tenant_id = $2 WHERE tenant_id = $1',
        victim.tenant,
        accomplice.tenant,
      ),
    decrypt: TAMPERED,
  },
  { edit: 'binding: points at his KMS key, signed by a key of his', apply: () => ownBinding(forgedKeys()) },
  {
    edit: 'binding: points at his KMS key, signed under an id of his',
    apply: () => ownBinding(forgedKeys('mine')),
    decrypt: NO_RECORD_KEY,
    encrypt: NO_RECORD_KEY,
  },
  { edit: 'binding: points at his KMS key, old signature', apply: () => ownBinding(undefined) },
  {
    edit: 'binding, root and head of his own, all consistent, wrapped by his KMS key',
    apply: () => ownChain(),
  },
  { edit: 'binding, root and head of his own tenant, all authentic', apply: () => authenticChain() },
  {
    edit: 'binding of his own tenant under the id of the victim\u2019s',
    apply: () =>
      sql(
        `UPDATE keytether.binding b SET (version, object) = (SELECT version, object FROM keytether.binding WHERE tenant_id = $2) WHERE b.tenant_id = $1`,
        victim.tenant,
        accomplice.tenant,
      ),
  },
  {
    edit: 'tenant: state version raised',
    apply: 'UPDATE keytether.tenant SET state_version = state_version + 10 WHERE tenant_id = $1',
    decrypt: 'ok',
    encrypt: 'ok',
    gain: 'nothing',
  },
  {
    edit: 'tenant: state version rewound',
    apply: 'UPDATE keytether.tenant SET state_version = 1 WHERE tenant_id = $1',
    decrypt: 'ok',
    encrypt: 'ok',
    gain: 'stated rollback: a use in flight may be served in a state that ended beside it',
  },
  {
    edit: 'tenant: suspended',
    apply: `UPDATE keytether.tenant SET state = 'suspended' WHERE tenant_id = $1`,
    decrypt: '403 TENANT_SUSPENDED',
    encrypt: '403 TENANT_SUSPENDED',
  },
  ...['tenant_id = $2', `principal_id = 'prn_aaaaaaaaaaaaaaaaaaaaaaaaaa'`].map(
    (change): Case => ({
      edit: `principal: ${change.startsWith('tenant') ? 'moved to another tenant' : 'another id'}`,
      apply: () => principal(change),
      decrypt: change.startsWith('tenant') ? TAMPERED : '401 UNAUTHENTICATED',
      encrypt: change.startsWith('tenant') ? TAMPERED : '401 UNAUTHENTICATED',
    }),
  ),
  ...[
    ['role raised', `role = 'tenant-admin'`],
    ['scopes widened', `scopes = '{*,second}'`],
    ['purposes widened', `purposes = '{*,salaries}'`],
    ['expiry taken', 'expires_ms = 9999999999999'],
    ['revoked', `state = 'revoked'`],
    ['another secret', flip('secret_sha256', 0)],
    ['another mac', flip('mac', 0)],
  ].map(([what, change]): Case => ({ edit: `principal: ${what}`, apply: () => principal(change ?? '') })),
  {
    edit: 'principal: unknown record key',
    apply: () => principal(`auth_id = 'mine'`),
    decrypt: NO_RECORD_KEY,
    encrypt: NO_RECORD_KEY,
  },
  {
    edit: 'principal: another name',
    apply: () => principal(`name = 'trusted', created_ms = 1`),
    decrypt: 'ok',
    encrypt: 'ok',
    gain: 'nothing: name and time are for people',
  },
  {
    edit: 'principal: deleted',
    apply: () => sql('DELETE FROM keytether.principal WHERE principal_id = $1', servicePrincipal),
    decrypt: '401 UNAUTHENTICATED',
    encrypt: '401 UNAUTHENTICATED',
  },
];

function principal(change: string): Promise<unknown> {
  const params = change.includes('$2') ? [servicePrincipal, accomplice.tenant] : [servicePrincipal];
  return sql(`UPDATE keytether.principal SET ${change} WHERE principal_id = $1`, ...params);
}

async function deleteKeyAndHead(): Promise<void> {
  await sql(`DELETE FROM keytether.key_record WHERE ${VICTIM_DATA}`, victim.tenant);
  await sql(`DELETE FROM keytether.head WHERE ${VICTIM_DATA_HEAD}`, victim.tenant);
}

/** Exchanges these columns between the two rows of the victim that the condition finds. */
async function swap(table: string, columns: readonly string[], where: string): Promise<void> {
  const rows = await sql(
    `SELECT ctid::text FROM keytether.${table} WHERE tenant_id = $1 AND ${where}`,
    victim.tenant,
  );
  expect(rows).toHaveLength(2);
  const list = columns.join(', ');
  await sql(
    `UPDATE keytether.${table} a SET (${list}) = (SELECT ${list} FROM keytether.${table} b
       WHERE b.tenant_id = $1 AND b.${where} AND b.ctid <> a.ctid) WHERE tenant_id = $1 AND ${where}`,
    victim.tenant,
  );
}

async function bindingOf(tenant: string) {
  const [row] = await sql('SELECT object FROM keytether.binding WHERE tenant_id = $1', tenant);
  return parseBinding(row?.object as Uint8Array);
}

/** The victim's binding with the writer's key in it; without keys the old authenticator stays. */
async function ownBinding(keys: RecordKeys | undefined): Promise<void> {
  const binding = await bindingOf(victim.tenant);
  const object = authenticateBinding({ ...binding, keyRef: hisKey }, keys ?? forgedKeys());
  if (keys === undefined) object.set(binding.mac, object.length - 32);
  await sql('UPDATE keytether.binding SET object = $2 WHERE tenant_id = $1', victim.tenant, object);
}

/** A binding, a root that his KMS really wraps and whose commitment is right, and a head that names both. */
async function ownChain(): Promise<void> {
  const keys = forgedKeys();
  const { tenant } = victim;
  const before = await bindingOf(tenant);
  const bindingId = new Uint8Array(randomBytes(16));
  const binding = authenticateBinding({ ...before, bindingId, version: 1, keyRef: hisKey }, keys);
  const root = createKey({
    kind: 'root',
    keyVersion: 1,
    createdMs: Date.now(),
    tenant,
    scope: 'default',
    purpose: '',
  });
  const wrap = {
    wrapperId: bindingId,
    kmsKeyVersion: '',
    wrapAlg: 'SYMMETRIC_DEFAULT',
    wrapped: await wrappedByHim(root.secret),
  };
  const object = authenticateKeyRecord(
    root.immutable,
    { generation: 1, state: 'active', mode: 'one', wraps: [wrap] },
    keys,
  );
  const head = authenticateHead(
    { tenant, scope: 'default', purpose: '', keyId: root.keyId, keyVersion: 1, bindingId, generation: 2 },
    keys,
  );
  await sql('INSERT INTO keytether.binding VALUES ($1, $2, 1, $3)', tenant, bindingId, binding);
  await sql(
    `INSERT INTO keytether.key_record (tenant_id, key_id, scope, purpose, kind, key_version, generation, wrapper_ids, immutable, mutable)
     VALUES ($1, $2, 'default', '', 1, 1, 1, ARRAY[$3::bytea], $4, $5)`,
    tenant,
    root.keyId,
    bindingId,
    root.immutable,
    object.subarray(root.immutable.length),
  );
  await sql(
    `UPDATE keytether.head SET current_key = $2, generation = 2, object = $3 WHERE ${VICTIM_ROOT_HEAD}`,
    tenant,
    root.keyId,
    head,
  );
}

/** What Encrypt of his own KMS key answers for these 32 bytes. */
async function wrappedByHim(secret: Uint8Array): Promise<Uint8Array> {
  const { url, region, accessKeyId } = platform.aws;
  const response = await fetch(url, {
    method: 'POST',
    headers: {
      authorization: `AWS4-HMAC-SHA256 Credential=${accessKeyId}/20260101/${region}/kms/aws4_request, SignedHeaders=host;x-amz-date, Signature=${'0'.repeat(64)}`,
      'content-type': 'application/x-amz-json-1.1',
      'x-amz-date': '20260101T000000Z',
      'x-amz-target': 'TrentService.Encrypt',
    },
    body: JSON.stringify({ KeyId: hisKey, Plaintext: Buffer.from(secret).toString('base64') }),
  });
  const { CiphertextBlob } = (await response.json()) as { CiphertextBlob: string };
  return new Uint8Array(Buffer.from(CiphertextBlob, 'base64'));
}

/** Copies of his own tenant's authentic rows in the place of the victim's. */
async function authenticChain(): Promise<void> {
  const of = [victim.tenant, accomplice.tenant];
  await sql('DELETE FROM keytether.head WHERE tenant_id = $1', victim.tenant);
  await sql(
    'INSERT INTO keytether.binding SELECT $1, binding_id, version, object FROM keytether.binding WHERE tenant_id = $2',
    ...of,
  );
  await sql(
    `INSERT INTO keytether.key_record SELECT $1, key_id, scope, purpose, kind, key_version, generation, sealed_count, wrapper_ids, immutable, mutable
     FROM keytether.key_record WHERE tenant_id = $2 AND kind = 1`,
    ...of,
  );
  await sql(
    'INSERT INTO keytether.head SELECT $1, scope, purpose, current_key, generation, object FROM keytether.head WHERE tenant_id = $2',
    ...of,
  );
}

/** Calls that his key got from the service; his own Encrypt has no wrap context. */
function callsOnHisKey(): number {
  return platform.aws.log.filter((line) => line.keyId === hisKey && line.encryptionContext !== undefined)
    .length;
}

describe('an edit', () => {
  test.each(EDITS)('$edit', async (one) => {
    const before = platform.aws.log.length;
    try {
      if (typeof one.apply === 'string') await sql(one.apply, victim.tenant);
      else await one.apply();
      const [opened, made] = await Promise.all([decrypt(), encrypt()]);
      expect({ decrypt: opened, encrypt: made }).toEqual({
        decrypt: one.decrypt ?? TAMPERED,
        encrypt: one.encrypt ?? TAMPERED,
      });
      expect(callsOnHisKey()).toBe(0);
      // Nothing makes the service call the customer's KMS over and over.
      expect(platform.aws.log.length - before).toBeLessThan(10);
      gains.push([one.edit, one.gain ?? SHUT]);
    } finally {
      await putBack();
    }
  });
});

/** Parts of each object at which its layout puts something, by the column that holds them. */
function fieldsOf(object: Uint8Array, layout: readonly (number | 'lp16')[]): number[] {
  const starts: number[] = [];
  let at = 0;
  for (const part of layout) {
    starts.push(at);
    if (part === 'lp16') {
      const length = (object[at] ?? 0) * 256 + (object[at + 1] ?? 0);
      if (length > 0) starts.push(at + 2);
      at += 2 + length;
    } else at += part;
  }
  expect(at).toBe(object.length);
  return starts;
}

const OBJECTS = [
  {
    what: 'binding',
    from: 'keytether.binding WHERE tenant_id = $1',
    column: 'object',
    layout: [4, 1, 16, 4, 1, 'lp16', 'lp16', 'lp16', 'lp16', 'lp16', 32],
    probe: () => decrypt(),
  },
  {
    what: 'root head',
    from: `keytether.head WHERE ${VICTIM_ROOT_HEAD}`,
    column: 'object',
    layout: [4, 1, 'lp16', 'lp16', 'lp16', 16, 4, 16, 8, 'lp16', 32],
    probe: () => decrypt(),
  },
  {
    what: 'data-key head',
    from: `keytether.head WHERE ${VICTIM_DATA_HEAD}`,
    column: 'object',
    layout: [4, 1, 'lp16', 'lp16', 'lp16', 16, 4, 16, 8, 'lp16', 32],
    probe: () => encrypt(),
  },
  ...(['root', 'data key'] as const).flatMap((what) => [
    {
      what: `${what}, immutable part`,
      from: `keytether.key_record WHERE ${what === 'root' ? VICTIM_ROOT : VICTIM_DATA}`,
      column: 'immutable',
      layout: [4, 1, 1, 1, 1, 16, 4, 8, 'lp16', 'lp16', 'lp16', 32] as const,
      probe: () => decrypt(),
    },
    {
      what: `${what}, mutable part`,
      from: `keytether.key_record WHERE ${what === 'root' ? VICTIM_ROOT : VICTIM_DATA}`,
      column: 'mutable',
      layout: [8, 1, 1, 1, 16, 'lp16', 'lp16', 'lp16', 'lp16', 32] as const,
      probe: () => decrypt(),
    },
  ]),
] as const;

test.each(OBJECTS)('one bit of any field of a $what', async ({ what, from, column, layout, probe }) => {
  const [row] = await sql(`SELECT ${column} AS object FROM ${from}`, victim.tenant);
  const [table, where] = from.split(' WHERE ');
  const before = platform.aws.log.length;
  try {
    for (const at of fieldsOf(row?.object as Uint8Array, layout)) {
      const bit = `UPDATE ${table} SET ${flip(column, at)} WHERE ${where}`;
      await sql(bit, victim.tenant);
      // The only field that says which record key to take may name one that is not here.
      expect([TAMPERED, NO_RECORD_KEY]).toContain(await probe());
      await sql(bit, victim.tenant);
    }
  } finally {
    await putBack();
  }
  expect(platform.aws.log).toHaveLength(before);
  expect(await decrypt()).toBe('ok');
  gains.push([`${what}: one bit of any field`, SHUT]);
});

describe('an insertion', () => {
  test('of a row where the next version of a key belongs keeps it from being made, not the KMS busy', async () => {
    await sql(
      `INSERT INTO keytether.key_record SELECT tenant_id, $2, scope, purpose, kind, key_version + 1, generation, 0, wrapper_ids, immutable, mutable
       FROM keytether.key_record WHERE ${VICTIM_DATA}`,
      victim.tenant,
      randomBytes(16),
    );
    const calls = platform.aws.log.length;
    const body = { plaintext: PLAINTEXT, purpose: 'invoices' };
    const answer = await apiClient(rotating.url, serviceToken).post(`${victim.path}/encrypt`, body);
    expect(outcomeOf(answer)).toBe('503 OVERLOADED');
    expect(platform.aws.log.length - calls).toBeLessThan(10);
    expect(await decrypt()).toBe('ok');
    await putBack();
    gains.push(['data key: a row where the next version belongs', SHUT]);
  });

  test('of a principal with a secret of his own lets nobody in', async () => {
    const spare = mintToken();
    const fields = {
      tenant: victim.tenant,
      principal: spare.principalId,
      role: 'service',
      scopes: ['*'],
      purposes: ['*'],
      expiresMs: undefined,
      state: 'active',
      secretSha256: spare.secretSha256,
    };
    const { authId, mac } = principalMac(fields, forgedKeys());
    await sql(
      `INSERT INTO keytether.principal SELECT tenant_id, $2, role, 'mine', scopes, purposes, NULL, 'active', $3, $4, $5, 1
       FROM keytether.principal WHERE principal_id = $1`,
      servicePrincipal,
      spare.principalId,
      spare.secretSha256,
      authId,
      mac,
    );
    const body = { envelope: invoice, purpose: 'invoices' };
    expect(outcomeOf(await service.as(spare.token).post(`${victim.path}/decrypt`, body))).toBe(TAMPERED);
    await putBack();
    gains.push(['principal: one of his own', 'nothing']);
  });

  test("of the victim's keys into a tenant of his own opens nothing there", async () => {
    await sql(
      `INSERT INTO keytether.key_record SELECT $2, key_id, scope, 'moved', kind, 99, generation, 0, wrapper_ids, immutable, mutable
       FROM keytether.key_record WHERE ${VICTIM_DATA}`,
      victim.tenant,
      accomplice.tenant,
    );
    const body = { envelope: invoice, purpose: 'invoices' };
    expect(outcomeOf(await accomplice.service.post(`${accomplice.path}/decrypt`, body))).toBe(TAMPERED);
    await putBack();
    gains.push(["the victim's data key copied into his own tenant", 'nothing']);
  });
});

describe('a replay of older authentic rows is the stated rollback', () => {
  test('a customer key that the tenant admin disabled here serves again, while the lever in the KMS still holds', async () => {
    expectStatus(await victim.admin.post(`${victim.path}/customer-keys/${victim.customerKey}/disable`), 200);
    expect(await decrypt()).toBe('424 CUSTOMER_KEY_DISABLED');
    await putBack();
    expect(await decrypt()).toBe('ok');
    const { aws } = platform;
    aws.keys.setState(aws.keys.byArn(victim.keyRef), 'Disabled');
    expect(await decrypt()).toBe('424 KMS_KEY_DISABLED');
    aws.keys.setState(aws.keys.byArn(victim.keyRef), 'Enabled');
    gains.push([
      'binding from before it was disabled',
      'rollback: the key serves again until it is disabled in the KMS',
    ]);
  });

  test('a version of a data key that was replaced seals again', async () => {
    const url = rotating.url;
    const older = await sealed('invoices');
    const newer = apiClient(url, serviceToken);
    const body = { plaintext: PLAINTEXT, purpose: 'invoices' };
    expect(expectStatus(await newer.post(`${victim.path}/encrypt`, body), 200).keyVersion).toBe(
      older.keyVersion + 1,
    );
    await sql(
      `UPDATE keytether.head h SET (current_key, generation, object) = (SELECT current_key, generation, object FROM kept.head k
         WHERE k.tenant_id = h.tenant_id AND k.scope = h.scope AND k.purpose = h.purpose) WHERE h.tenant_id = $1`,
      victim.tenant,
    );
    expect((await sealed('invoices')).keyVersion).toBe(older.keyVersion);
    await putBack();
    gains.push([
      'data-key head from before a rotation',
      'rollback: the older version of the key seals again',
    ]);
  });

  test('an API key that was revoked lets its holder in again', async () => {
    const made = expectStatus(
      await victim.admin.post(`${victim.path}/api-keys`, { name: 'x', role: 'service', purposes: ['*'] }),
      201,
    );
    const holder = service.as(made.token);
    const open = async () =>
      outcomeOf(await holder.post(`${victim.path}/decrypt`, { envelope: invoice, purpose: 'invoices' }));
    await sql(
      'CREATE TABLE kept.active AS SELECT * FROM keytether.principal WHERE principal_id = $1',
      made.apiKey.id,
    );
    const response = await fetch(`${replica.url}${victim.path}/api-keys/${made.apiKey.id}`, {
      method: 'DELETE',
      headers: { authorization: `Bearer ${await adminToken()}` },
    });
    expect(response.status).toBe(204);
    expect(await open()).toBe('401 UNAUTHENTICATED');
    await sql(`UPDATE keytether.principal SET state = 'active' WHERE principal_id = $1`, made.apiKey.id);
    expect(await open()).toBe(TAMPERED);
    await sql('DELETE FROM keytether.principal WHERE principal_id = $1', made.apiKey.id);
    await sql('INSERT INTO keytether.principal SELECT * FROM kept.active');
    expect(await open()).toBe('ok');
    await putBack();
    gains.push(['principal: revocation undone in place', 'nothing']);
    gains.push(['principal from before its revocation', 'rollback: its holder is let in again']);
  });

  test('an invitation that was spent stays spent where the tenant has an admin', async () => {
    const operator = apiClient(replica.url, platform.operatorToken);
    const { tenant, invitation } = expectStatus(await operator.post('/v1/tenants', { name: 'New' }), 201);
    await sql(
      `CREATE TABLE kept.invitation AS SELECT * FROM keytether.principal WHERE role = 'invitation' AND tenant_id = $1`,
      tenant.id,
    );
    const redeem = () =>
      operator.post('/v1/invitations/redeem', { invitation: invitation.token, name: 'admin' });
    expectStatus(await redeem(), 201);
    expectStatus(await redeem(), 401);
    await sql(
      `UPDATE keytether.principal SET state = 'active' WHERE role = 'invitation' AND tenant_id = $1`,
      tenant.id,
    );
    expect(outcomeOf(await redeem())).toBe(TAMPERED);
    await sql(`DELETE FROM keytether.principal WHERE role = 'invitation' AND tenant_id = $1`, tenant.id);
    await sql('INSERT INTO keytether.principal SELECT * FROM kept.invitation');
    expectStatus(await redeem(), 401);
    gains.push(['invitation: spent state undone in place', 'nothing']);
    gains.push(['invitation from before it was spent', 'nothing: the tenant has an admin']);
  });

  test('a suspension is a column without authenticator, so it can be lifted', async () => {
    const operator = apiClient(replica.url, platform.operatorToken);
    expectStatus(await operator.post(`/v1/tenants/${victim.tenant}/suspend`), 200);
    expect(await decrypt()).toBe('403 TENANT_SUSPENDED');
    await sql(`UPDATE keytether.tenant SET state = 'active' WHERE tenant_id = $1`, victim.tenant);
    expect(await decrypt()).toBe('ok');
    gains.push(['tenant: suspension lifted', "the operator's suspension undone; nothing of the customer's"]);
  });

  async function adminToken(): Promise<string> {
    const body = { name: 'second admin', role: 'tenant-admin' };
    return expectStatus(await victim.admin.post(`${victim.path}/api-keys`, body), 201).token;
  }
});

describe('decrypt is no oracle', () => {
  test('for a wrapped data key, submitted in every way', async () => {
    const rows = await sql(
      `SELECT key_id, mutable FROM keytether.key_record WHERE ${VICTIM_DATA}`,
      victim.tenant,
    );
    const mutable = Buffer.from(rows[0]?.mutable as Uint8Array);
    const at = mutable.indexOf(Buffer.from('8e4b544d', 'hex'));
    const wrapped = mutable.subarray(at, at + mutable.readUInt16BE(at - 2));
    const [root] = await sql(`SELECT key_id FROM keytether.key_record WHERE ${VICTIM_ROOT}`, victim.tenant);
    const [second] = await sql(
      `SELECT key_id FROM keytether.key_record WHERE tenant_id = $1 AND kind = 1 AND scope = 'second'`,
      victim.tenant,
    );
    expect(wrapped.subarray(8, 24).equals(Buffer.from(root?.key_id as Uint8Array))).toBe(true);
    const under = (keyId: unknown): Buffer => {
      const copy = Buffer.from(wrapped);
      copy.set(keyId as Uint8Array, 8);
      return copy;
    };
    const ways = [
      wrapped,
      under(second?.key_id),
      under(rows[0]?.key_id),
      under(randomBytes(16)),
      Buffer.concat([wrapped, wrapped]),
    ];
    for (const envelope of ways) {
      for (const [purpose, scope] of [
        ['invoices', 'default'],
        ['salaries', 'default'],
        ['invoices', 'second'],
        ['key-wrap', 'default'],
      ] as const) {
        expect(await decrypt(envelope.toString('base64'), purpose, scope)).toBe(FAILED);
      }
      for (const purpose of ['', '~credentials']) {
        expect(await decrypt(envelope.toString('base64'), purpose)).toBe('400 REQUEST_INVALID');
      }
    }
  });

  test('for ids that are unknown, foreign, of a root, of another scope or purpose: one answer, no call, one record each', async () => {
    const foreign = expectStatus(
      await accomplice.service.post(`${accomplice.path}/encrypt`, {
        plaintext: PLAINTEXT,
        purpose: 'invoices',
      }),
      200,
    ).envelope;
    const [root] = await sql(`SELECT key_id FROM keytether.key_record WHERE ${VICTIM_ROOT}`, victim.tenant);
    const named = (keyId: Uint8Array): string => {
      const envelope = Buffer.from(invoice, 'base64');
      envelope.set(keyId, 8);
      return envelope.toString('base64');
    };
    const attempts: readonly [detail: string, envelope: string, purpose: string, scope: string][] = [
      ['unknown-key', named(randomBytes(16)), 'invoices', 'default'],
      ['unknown-key', foreign, 'invoices', 'default'],
      ['not-a-data-key', named(root?.key_id as Uint8Array), 'invoices', 'default'],
      ['other-scope', invoice, 'invoices', 'second'],
      ['other-purpose', invoice, 'salaries', 'default'],
      ['other-purpose', salary, 'invoices', 'default'],
    ];
    for (const [detail, envelope, purpose, scope] of attempts) {
      const calls = platform.aws.log.length;
      const answer = await service.post(`${victim.path}/decrypt`, { envelope, purpose, scope });
      const { requestId, ...problem } = answer.body;
      expect(problem).toEqual({ ...PROBLEM, title: expect.any(String), action: expect.any(String) });
      expect(platform.aws.log).toHaveLength(calls);
      const [leaf] = await sql(
        `SELECT convert_from(leaf, 'UTF8') AS leaf FROM keytether.log_leaf WHERE tenant_id = $1 ORDER BY leaf_index DESC LIMIT 1`,
        victim.tenant,
      );
      expect(JSON.parse(String(leaf?.leaf))).toMatchObject({
        typ: 'key.use',
        out: 'error',
        rsn: 'DECRYPT_FAILED',
        dtl: detail,
        req: requestId,
      });
    }
  });

  const PROBLEM = {
    type: 'urn:keytether:problem:DECRYPT_FAILED',
    status: 400,
    code: 'DECRYPT_FAILED',
    retryable: false,
    fault: 'caller',
  };
});
