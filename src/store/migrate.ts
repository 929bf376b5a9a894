/** Forward-only migrations, run by the owner of the schema. */
import { ServiceError } from '../errors.ts';
import type { Row } from './db.ts';
import { connectOwner, type OwnerConnection } from './postgres.ts';
import { type Migration, readMigrations, refuseUnknown } from './schema.ts';

/** Roles belong to the whole server: another database's migration may create them at the same moment. */
const ROLES = `
DO $$
DECLARE
  r text;
BEGIN
  FOREACH r IN ARRAY ARRAY['keytether_app', 'keytether_log'] LOOP
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = r) THEN
      BEGIN
        EXECUTE format('CREATE ROLE %I NOLOGIN', r);
      EXCEPTION WHEN duplicate_object OR unique_violation THEN
        NULL;
      END;
    END IF;
  END LOOP;
  IF NOT pg_has_role(current_user, 'keytether_log',
      CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END) THEN
    EXECUTE format('GRANT keytether_log TO %I', current_user);
  END IF;
END
$$`;

const BOOTSTRAP = `
CREATE SCHEMA IF NOT EXISTS keytether;
CREATE TABLE IF NOT EXISTS keytether.schema_migration (
  version integer NOT NULL,
  name text NOT NULL,
  breaking boolean NOT NULL,
  checksum text NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT schema_migration_pkey PRIMARY KEY (version)
);
COMMENT ON TABLE keytether.schema_migration IS 'The migrations that this database has.';
COMMENT ON COLUMN keytether.schema_migration.breaking IS 'A program that does not know the migration must not run.';
COMMENT ON COLUMN keytether.schema_migration.checksum IS 'SHA-256 of the migration''s file, hex.';`;

/** Identifies our advisory lock within one database: the bytes of "keyt". */
const LOCK = 0x6b657974;
const ATTEMPTS = 5;

/**
 * Brings the database at `url` up to this program's schema; several may run at once. Returns the versions applied now.
 * The login role owns the schema: it needs CREATE on the database, and CREATEROLE unless both roles exist.
 * Throws an Error that says what to do.
 */
export async function migrate(url: string): Promise<number[]> {
  const owner = await connectOwner(url);
  try {
    await owner.exec("SET lock_timeout = '60s'");
    await owner.query('SELECT pg_advisory_lock($1)', [LOCK]);
    return await applyMigrations(owner, await readMigrations());
  } finally {
    await owner.close();
  }
}

/** The same on an open connection which holds the advisory lock or is the only one. */
export async function applyMigrations(
  owner: Pick<OwnerConnection, 'exec' | 'query'>,
  migrations: readonly Migration[],
): Promise<number[]> {
  await createRoles(owner);
  await owner.exec(BOOTSTRAP);
  const applied = await owner.query<Row>(
    'SELECT version, breaking, checksum FROM keytether.schema_migration',
  );
  refuseUnknown(applied, migrations);
  const pending = migrations.filter((one) => !applied.some((row) => row.version === one.version));
  for (const migration of pending) await applyOne(owner, migration);
  return pending.map((migration) => migration.version);
}

/** The row goes first: if anything ran past the lock, its primary key would stop the second run. */
async function applyOne(owner: Pick<OwnerConnection, 'exec' | 'query'>, migration: Migration): Promise<void> {
  await owner.exec('BEGIN');
  try {
    await owner.query(
      'INSERT INTO keytether.schema_migration (version, name, breaking, checksum) VALUES ($1, $2, $3, $4)',
      [migration.version, migration.name, migration.breaking, migration.checksum],
    );
    await owner.exec(migration.sql);
    await owner.exec('COMMIT');
  } catch (error) {
    await owner.exec('ROLLBACK');
    throw error instanceof ServiceError
      ? error
      : new Error(`migration ${migration.version} failed: ${messageOf(error)}`, { cause: error });
  }
}

async function createRoles(owner: Pick<OwnerConnection, 'exec'>): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await owner.exec(ROLES);
      return;
    } catch (error) {
      const code = (error as { code?: unknown }).code;
      if (code === '42501') {
        throw new Error(
          'the migrating role may not create roles: as an administrator run CREATE ROLE keytether_app NOLOGIN; CREATE ROLE keytether_log NOLOGIN; and grant keytether_log to it',
          { cause: error },
        );
      }
      // "tuple concurrently updated": two servers' migrations touched the same shared row.
      if (code !== 'XX000' || attempt === ATTEMPTS) throw error;
    }
  }
}

function messageOf(error: unknown): string {
  return typeof (error as { message?: unknown }).message === 'string' ? (error as Error).message : 'unknown';
}
