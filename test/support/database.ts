/** A fresh, migrated database for one test file, on either engine. */

import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Database } from '../../src/store/db.ts';
import { type OpenOptions, openDatabase } from '../../src/store/open.ts';
import { connectOwner } from '../../src/store/postgres.ts';

export const SERVER_VARIABLE = 'KEYTETHER_TEST_POSTGRES';
export const TEMPLATE = 'keytether_template';
/** A plain login role that was granted keytether_app, as in production. */
export const SERVICE_ROLE = 'keytether_service';

export interface TestDatabase {
  readonly database: Database;
  /** Closes the database and removes it. */
  drop(): Promise<void>;
}

export interface TestPostgres extends TestDatabase {
  /** Connection string of the service's role. */
  readonly url: string;
  /** Connection string of the superuser, who owns the schema. */
  readonly ownerUrl: string;
}

/** Connection string of the run's server without a database, as the superuser. */
export function serverUrl(): string {
  const url = process.env[SERVER_VARIABLE];
  if (url === undefined) throw new Error('no PostgreSQL of this run: jest.globalSetup has not run');
  return url;
}

/** Runs statements as the superuser in one database of the run's server. */
export async function asSuperuser(sql: string, database = 'postgres'): Promise<void> {
  const owner = await connectOwner(`${serverUrl()}/${database}`);
  try {
    await owner.exec(sql);
  } finally {
    await owner.close();
  }
}

/** An empty database on the run's server, or a copy of the migrated template; `drop` removes it. */
export async function createDatabase(template: string): Promise<{ name: string; drop(): Promise<void> }> {
  const name = `test_${randomBytes(8).toString('hex')}`;
  await asSuperuser(`CREATE DATABASE ${name} TEMPLATE ${template}`);
  return { name, drop: () => asSuperuser(`DROP DATABASE ${name} WITH (FORCE)`) };
}

export async function openTestPostgres(options?: OpenOptions): Promise<TestPostgres> {
  const created = await createDatabase(TEMPLATE);
  const ownerUrl = `${serverUrl()}/${created.name}`;
  const url = ownerUrl.replace('postgres@', `${SERVICE_ROLE}@`);
  const database = await openDatabase({ url }, options);
  return {
    database,
    url,
    ownerUrl,
    async drop() {
      await database.close();
      await created.drop();
    },
  };
}

export async function openTestPglite(options?: OpenOptions): Promise<TestDatabase> {
  const folder = mkdtempSync(join(tmpdir(), 'keytether-pglite-'));
  const database = await openDatabase({ folder }, options);
  return {
    database,
    async drop() {
      await database.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** For `describe.each`: both engines. */
export const ENGINES: readonly {
  readonly engine: string;
  open(options?: OpenOptions): Promise<TestDatabase>;
}[] = [
  { engine: 'PostgreSQL', open: openTestPostgres },
  { engine: 'PGlite', open: openTestPglite },
];
