/** Which migrations this program has, and whether a database fits it. */
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import type { Executor, Row } from './db.ts';

export interface Migration {
  readonly version: number;
  readonly name: string;
  /** A program that does not know a breaking migration must not run on a database that has it. */
  readonly breaking: boolean;
  readonly sql: string;
  /** SHA-256 of the file, hex. */
  readonly checksum: string;
}

const FILE_NAME = /^(\d{6})_([a-z0-9_]+)\.sql$/;
const HEADER = /^-- breaking: (yes|no)\n/;

/** The migrations of this program in order. Throws on a gap, a doubled version or a missing header. */
export async function readMigrations(
  folder: URL = new URL('./migrations/', import.meta.url),
): Promise<Migration[]> {
  const names = (await readdir(folder)).sort();
  return Promise.all(
    names.map(async (file, position) => {
      const [, version, name] = FILE_NAME.exec(file) ?? [];
      if (version === undefined || name === undefined || Number(version) !== position + 1) {
        throw new Error(`migration ${file}: names are 000001_name.sql, without a gap`);
      }
      const sql = await readFile(new URL(file, folder), 'utf8');
      const breaking = HEADER.exec(sql)?.[1];
      if (breaking === undefined)
        throw new Error(`migration ${file} must begin with "-- breaking: yes" or "no"`);
      const checksum = createHash('sha256').update(sql).digest('hex');
      return { version: Number(version), name, breaking: breaking === 'yes', sql, checksum };
    }),
  );
}

/** Throws an Error that says what to do when the database lacks a migration or has a breaking one that is unknown here. */
export async function checkSchema(executor: Executor, migrations?: readonly Migration[]): Promise<void> {
  const known = migrations ?? (await readMigrations());
  const [present] = await executor.query<Row>(
    "SELECT to_regclass('keytether.schema_migration') IS NOT NULL AS there",
  );
  const applied =
    present?.there === true
      ? await executor.query<Row>('SELECT version, name, breaking, checksum FROM keytether.schema_migration')
      : [];
  refuseUnknown(applied, known);
  const missing = known.filter((migration) => !applied.some((row) => row.version === migration.version));
  if (missing.length > 0) {
    throw new Error(
      `the database lacks migration ${missing[0]?.version}: run "npm run migrate" as its owner first`,
    );
  }
}

/** Throws when an applied migration is newer and breaking, or differs from the file of the same version. */
export function refuseUnknown(applied: readonly Row[], known: readonly Migration[]): void {
  for (const row of applied) {
    const migration = known.find((one) => one.version === row.version);
    if (migration === undefined && row.breaking === true) {
      throw new Error(`the database has the newer breaking migration ${row.version}: run a newer Keytether`);
    }
    if (migration !== undefined && migration.checksum !== row.checksum) {
      throw new Error(`migration ${row.version} of the database is not the one of this program`);
    }
  }
}
