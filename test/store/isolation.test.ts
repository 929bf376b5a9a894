import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { Transaction } from '../../src/store/db.ts';
import { insertBinding, insertHead, insertKeyRecord, readBindings } from '../../src/store/keys.ts';
import { appendUnits } from '../../src/store/log.ts';
import { insertPrincipal, listPrincipals } from '../../src/store/principals.ts';
import { publishCheckpoint } from '../../src/store/publication.ts';
import { createTenant, listTenants, readTenant } from '../../src/store/tenants.ts';
import { ENGINES, type TestDatabase } from '../support/database.ts';
import { plain, WRITER } from '../support/log-units.ts';

const TABLES = [
  'tenant',
  'binding',
  'key_record',
  'head',
  'principal',
  'log_head',
  'log_leaf',
  'flight',
  'fence',
  'log_checkpoint',
  'log_published',
  'log_tile',
] as const;
/** Filled by nothing in this file. */
const EMPTY: readonly string[] = ['flight', 'fence', 'log_tile'];

/** A statement of the service's role on each table that only log_append and its kin may write. */
const FORBIDDEN = [
  ...['log_head', 'log_leaf', 'flight', 'fence', 'log_checkpoint', 'log_published', 'log_tile'].flatMap(
    (table) => [
      `DELETE FROM keytether.${table}`,
      `TRUNCATE keytether.${table}`,
      `UPDATE keytether.${table} SET tenant_id = tenant_id`,
    ],
  ),
  "INSERT INTO keytether.log_head (tenant_id) VALUES ('a')",
  "INSERT INTO keytether.log_leaf VALUES ('a', 0, gen_random_uuid(), now(), '', '')",
  "INSERT INTO keytether.flight VALUES ('a', gen_random_uuid(), 0, sha256(''), gen_random_uuid(), 1, now())",
  "INSERT INTO keytether.fence VALUES ('a', sha256(''), 0)",
  "INSERT INTO keytether.log_checkpoint VALUES ('a', 1, 'note')",
  "INSERT INTO keytether.log_published VALUES ('a', 1, 'vkey', now())",
  "INSERT INTO keytether.log_tile VALUES ('a', 0, 0, decode(repeat('00', 8192), 'hex'), sha256(''))",
  'UPDATE keytether.key_record SET sealed_count = 0',
  'UPDATE keytether.key_record SET immutable = immutable',
  'UPDATE keytether.principal SET role = role',
  'DELETE FROM keytether.tenant',
  'DELETE FROM keytether.schema_migration',
  "SELECT keytether.log_count_unit('a', 1, '{}', '', '{}', '{}')",
  "SELECT keytether.log_insert_key('a', '{}')",
  'SET LOCAL ROLE keytether_log',
];

async function fill(tx: Transaction): Promise<void> {
  const id = randomBytes(16);
  await createTenant(tx, `name of ${tx.tenant}`);
  await insertBinding(tx, { bindingId: id, version: 1, object: randomBytes(8) });
  await insertHead(tx, { scope: 'default', purpose: '', currentKey: id, generation: 1, object: id });
  await insertKeyRecord(tx, {
    keyId: id,
    scope: 'default',
    purpose: '',
    kind: 'root',
    keyVersion: 1,
    generation: 1,
    wrapperIds: [id],
    immutable: id,
    mutable: id,
  });
  await insertPrincipal(tx, principal(`prn_${tx.tenant}`));
  await appendUnits(tx, WRITER, [plain(tx.tenant)]);
  await publishCheckpoint(tx, { size: 1, note: `note of ${tx.tenant}`, vkey: 'x' });
}

function principal(id: string) {
  return {
    principal: id,
    role: 'service',
    name: 'n',
    scopes: ['default', 'with "quote", comma \\ and {brace}'],
    purposes: [],
    expiresMs: null,
    state: 'active',
    secretSha256: randomBytes(32),
    authId: 'k1',
    mac: randomBytes(32),
    createdMs: 1_700_000_000_000,
  };
}

describe.each(ENGINES)('isolation on $engine', ({ engine, open }) => {
  let opened: TestDatabase;

  beforeAll(async () => {
    opened = await open();
    await opened.database.transaction('a', fill);
    await opened.database.transaction('b', fill);
  });
  afterAll(() => opened?.drop());

  test.each(TABLES)('a transaction sees only its own tenant in %s', async (table) => {
    const seen = await opened.database.transaction('a', (tx) =>
      tx.query<{ tenant_id: string }>(`SELECT tenant_id FROM keytether.${table}`),
    );
    const others = seen.filter((row) => row.tenant_id !== 'a');
    expect(others).toEqual([]);
    expect(seen.length).toBe(EMPTY.includes(table) ? 0 : 1);
  });

  test.each(TABLES)('no tenant set means no row of %s, before and after a transaction', async (table) => {
    expect(await opened.database.query(`SELECT 1 FROM keytether.${table}`)).toEqual([]);
    await opened.database.transaction('a', async () => undefined);
    expect(await opened.database.query(`SELECT 1 FROM keytether.${table}`)).toEqual([]);
  });

  test('a transaction cannot insert a row of another tenant', async () => {
    const foreign = opened.database.transaction('a', (tx) =>
      insertBinding(
        { ...tx, tenant: 'b', query: tx.query.bind(tx) },
        {
          bindingId: randomBytes(16),
          version: 1,
          object: randomBytes(8),
        },
      ),
    );
    await expect(foreign).rejects.toMatchObject({ code: 'INTERNAL', cause: { code: '42501' } });
  });

  test('a transaction cannot change a row of another tenant', async () => {
    const rows = await opened.database.transaction('a', (tx) =>
      tx.query("UPDATE keytether.tenant SET name = 'taken' WHERE tenant_id = 'b' RETURNING 1"),
    );
    expect(rows).toEqual([]);
    expect(await opened.database.transaction('b', readTenant)).toMatchObject({ name: 'name of b' });
  });

  // PGlite's session user is its superuser, who may take any role; a service on PostgreSQL may not.
  test.each(FORBIDDEN.filter((sql) => engine === 'PostgreSQL' || !sql.startsWith('SET')))(
    'the service may not: %s',
    async (sql) => {
      const attempt = opened.database.transaction('a', (tx) => tx.query(sql));
      await expect(attempt).rejects.toMatchObject({ code: 'INTERNAL', cause: { code: '42501' } });
    },
  );

  test('what is written comes back the same', async () => {
    const [row] = await opened.database.transaction('a', listPrincipals);
    expect(row).toMatchObject({
      tenant: 'a',
      principal: 'prn_a',
      scopes: ['default', 'with "quote", comma \\ and {brace}'],
      purposes: [],
      expiresMs: null,
      createdMs: 1_700_000_000_000,
    });
    expect(row?.mac).toHaveLength(32);
    const bindings = await opened.database.transaction('a', (tx) => readBindings(tx));
    expect(bindings).toHaveLength(1);
    const known = bindings.map((binding) => binding.bindingId);
    expect(
      await opened.database.transaction('a', (tx) => readBindings(tx, [...known, randomBytes(16)])),
    ).toEqual(bindings);
    expect(await opened.database.transaction('a', (tx) => readBindings(tx, []))).toEqual([]);
  });

  test('a principal id is taken in every tenant once it is taken in one', async () => {
    const again = opened.database.transaction('b', (tx) => insertPrincipal(tx, principal('prn_a')));
    await expect(again).rejects.toMatchObject({ code: 'CONFLICT' });
  });

  test('the operator lists tenants without entering one', async () => {
    expect(await listTenants(opened.database)).toMatchObject([
      { tenant: 'a', name: 'name of a', state: 'active', stateVersion: 1, logSize: 1 },
      { tenant: 'b' },
    ]);
  });

  test('a transaction that is over answers nothing more', async () => {
    let kept: Transaction | undefined;
    await opened.database.transaction('a', async (tx) => {
      kept = tx;
    });
    await expect(kept?.query('SELECT 1')).rejects.toMatchObject({
      code: 'INTERNAL',
      detail: 'transaction-over',
    });
  });

  test('work that throws is rolled back and its own error comes out', async () => {
    const failure = new Error('mine');
    const attempt = opened.database.transaction('a', async (tx) => {
      await tx.query("UPDATE keytether.tenant SET name = 'changed' WHERE tenant_id = 'a'");
      throw failure;
    });
    await expect(attempt).rejects.toBe(failure);
    expect(await opened.database.transaction('a', readTenant)).toMatchObject({ name: 'name of a' });
  });

  test('a failed statement that the work swallows still fails the transaction', async () => {
    const attempt = opened.database.transaction('a', async (tx) => {
      await tx.query("UPDATE keytether.tenant SET name = 'changed' WHERE tenant_id = 'a'");
      await tx.query('SELECT 1 / 0').catch(() => undefined);
    });
    await expect(attempt).rejects.toMatchObject({ code: 'INTERNAL' });
    expect(await opened.database.transaction('a', readTenant)).toMatchObject({ name: 'name of a' });
  });
});
