import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { appendUnits } from '../../src/store/log.ts';
import { migrate } from '../../src/store/migrate.ts';
import { openDatabase } from '../../src/store/open.ts';
import { connectOwner, type OwnerConnection } from '../../src/store/postgres.ts';
import { checkSchema, readMigrations } from '../../src/store/schema.ts';
import { createTenant } from '../../src/store/tenants.ts';
import {
  asSuperuser,
  createDatabase,
  openTestPostgres,
  SERVICE_ROLE,
  serverUrl,
} from '../support/database.ts';
import { plain, WRITER } from '../support/log-units.ts';
import { startPostgres } from '../support/postgres.ts';
import { dumpSchema, SCHEMA_FILE } from '../support/schema-dump.ts';

const MIGRATE = new URL('../../src/store/migrate.ts', import.meta.url).href;

const dropping: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const drop of dropping.splice(0).reverse()) await drop();
});

async function emptyDatabase(): Promise<string> {
  const created = await createDatabase('template0');
  dropping.push(created.drop);
  return `${serverUrl()}/${created.name}`;
}

async function connect(url: string): Promise<OwnerConnection> {
  const owner = await connectOwner(url);
  dropping.push(() => owner.close());
  return owner;
}

function asService(url: string): string {
  return url.replace('postgres@', `${SERVICE_ROLE}@`);
}

test('a second run applies nothing', async () => {
  const url = await emptyDatabase();
  const all = (await readMigrations()).map((migration) => migration.version);
  expect(await migrate(url)).toEqual(all);
  expect(await migrate(url)).toEqual([]);
});

test('six clients that migrate one database at once apply each migration once', async () => {
  const url = await emptyDatabase();
  const runs = await Promise.all(Array.from({ length: 6 }, () => migrate(url)));
  const all = (await readMigrations()).map((migration) => migration.version);
  expect(runs.filter((applied) => applied.length > 0)).toEqual([all]);
});

test('two processes on a new server, each with a database of its own, both create the shared roles', async () => {
  const server = await startPostgres();
  dropping.push(() => server.stop());
  const owner = await connect(`${server.url}/postgres`);
  await owner.exec('CREATE DATABASE other');
  const run = (name: string) =>
    promisify(execFile)(process.execPath, [
      '--input-type=module',
      '-e',
      `import { migrate } from ${JSON.stringify(MIGRATE)}; console.log(JSON.stringify(await migrate(process.argv[1])));`,
      `${server.url}/${name}`,
    ]);
  const runs = await Promise.all([run('postgres'), run('other'), run('other')]);
  const all = JSON.stringify((await readMigrations()).map((migration) => migration.version));
  expect(runs.map((one) => one.stdout.trim()).sort()).toEqual([all, all, '[]'].sort());
});

describe('a program and a database that do not fit', () => {
  test('a database without the schema is refused with what to run', async () => {
    const opening = openDatabase({ url: asService(await emptyDatabase()) });
    await expect(opening).rejects.toThrow('npm run migrate');
  });

  test('a newer breaking migration is refused, at start and by an older migrate', async () => {
    const url = await emptyDatabase();
    await migrate(url);
    const owner = await connect(url);
    await owner.exec("INSERT INTO keytether.schema_migration VALUES (999, 'later', true, 'x')");
    await expect(openDatabase({ url: asService(url) })).rejects.toThrow('newer breaking migration 999');
    await expect(migrate(url)).rejects.toThrow('newer breaking migration 999');
  });

  test('a newer migration that does not break is accepted', async () => {
    const url = await emptyDatabase();
    await migrate(url);
    const owner = await connect(url);
    await owner.exec("INSERT INTO keytether.schema_migration VALUES (999, 'later', false, 'x')");
    const database = await openDatabase({ url: asService(url) });
    await database.close();
    expect(await migrate(url)).toEqual([]);
  });

  test('a migration that was changed after it was applied is refused', async () => {
    const url = await emptyDatabase();
    await migrate(url);
    const owner = await connect(url);
    await owner.exec("UPDATE keytether.schema_migration SET checksum = 'x' WHERE version = 1");
    await expect(migrate(url)).rejects.toThrow('migration 1 of the database is not the one of this program');
  });

  test('a database that lacks the newest migration is refused', async () => {
    const url = await emptyDatabase();
    await migrate(url);
    const known = await readMigrations();
    const [first] = known;
    if (first === undefined) throw new Error('no migrations');
    const owner = await connect(url);
    await checkSchema(owner, known);
    await expect(checkSchema(owner, [...known, { ...first, version: 99 }])).rejects.toThrow(
      'lacks migration 99',
    );
  });
});

describe('rights of the migrating role', () => {
  beforeAll(() =>
    asSuperuser(`CREATE ROLE plain_owner LOGIN; CREATE ROLE role_maker LOGIN CREATEROLE; CREATE ROLE log_granted LOGIN;
      GRANT keytether_log TO log_granted; GRANT keytether_app TO plain_owner`),
  );
  afterAll(() => asSuperuser('DROP ROLE plain_owner; DROP ROLE role_maker; DROP ROLE log_granted'));

  test('an owner that is not superuser migrates when it has been granted keytether_log', async () => {
    const url = await emptyDatabase();
    const owner = await connect(url);
    await owner.exec(`ALTER DATABASE ${new URL(url).pathname.slice(1)} OWNER TO log_granted`);
    const applied = await migrate(url.replace('postgres@', 'log_granted@'));
    expect(applied.length).toBeGreaterThan(0);
    const database = await openDatabase({ url: asService(url) });
    await database.assertPosture();
    await database.transaction('ten_1', async (tx) => {
      await createTenant(tx, 'one');
      expect(await appendUnits(tx, WRITER, [plain('ten_1')])).toMatchObject([{ verdict: 'appended' }]);
    });
    await database.close();
  });

  test('one that may not act as keytether_log is told what an administrator has to do', async () => {
    const url = await emptyDatabase();
    const owner = await connect(url);
    await owner.exec(`ALTER DATABASE ${new URL(url).pathname.slice(1)} OWNER TO plain_owner`);
    await expect(migrate(url.replace('postgres@', 'plain_owner@'))).rejects.toThrow('as an administrator');
  });

  test('a login role without keytether_app is told what to grant', async () => {
    const url = await emptyDatabase();
    await migrate(url);
    const opening = openDatabase({ url: url.replace('postgres@', 'role_maker@') });
    await expect(opening).rejects.toThrow('GRANT keytether_app');
  });

  test.each([
    ['a superuser', 'postgres'],
    ['the owner of the tables', 'log_granted'],
  ])('production refuses to run as %s', async (_, role) => {
    const url = await emptyDatabase();
    const owner = await connect(url);
    await owner.exec(
      `ALTER DATABASE ${new URL(url).pathname.slice(1)} OWNER TO log_granted; GRANT keytether_app TO log_granted`,
    );
    await migrate(url.replace('postgres@', 'log_granted@'));
    const database = await openDatabase({ url: url.replace('postgres@', `${role}@`) });
    await expect(database.assertPosture()).rejects.toThrow('must log in as a plain role');
    await database.close();
  });
});

test('a server that does not keep commits over a power cut is named so, and refused in production', async () => {
  const server = await startPostgres({ fsync: 'off' });
  dropping.push(() => server.stop());
  await migrate(`${server.url}/postgres`);
  const owner = await connect(`${server.url}/postgres`);
  await owner.exec(`CREATE ROLE ${SERVICE_ROLE} LOGIN; GRANT keytether_app TO ${SERVICE_ROLE}`);
  const database = await openDatabase({ url: asService(`${server.url}/postgres`) });
  dropping.push(() => database.close());
  expect(await database.durability()).toBe('process');
  await expect(database.assertPosture()).rejects.toThrow('fsync');
});

describe('the migration files', () => {
  test('a gap, a missing header and a foreign name are refused', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'keytether-migrations-'));
    const read = () => readMigrations(pathToFileURL(`${folder}/`));
    const good = '-- breaking: no\nSELECT 1;\n';
    try {
      writeFileSync(join(folder, '000001_one.sql'), good);
      expect(await read()).toMatchObject([{ version: 1, name: 'one', breaking: false }]);
      writeFileSync(join(folder, '000003_three.sql'), good);
      await expect(read()).rejects.toThrow('without a gap');
      rmSync(join(folder, '000003_three.sql'));
      writeFileSync(join(folder, '000002_two.sql'), 'SELECT 1;\n');
      await expect(read()).rejects.toThrow('must begin with');
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test('test/schema.sql is what they make; if not, run npm run schema:dump and look at the difference', async () => {
    const opened = await openTestPostgres();
    dropping.push(opened.drop);
    const owner = await connect(opened.ownerUrl);
    expect(await dumpSchema(owner)).toBe(readFileSync(SCHEMA_FILE, 'utf8'));
  });
});
