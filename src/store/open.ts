/**
 * The one way to the database. Two engines speak the same SQL: PostgreSQL by connection string, and PGlite in a local
 * folder as the embedded default. Nothing outside this folder knows which one it is.
 */
import type { Database, Deadlines } from './db.ts';
import { openPostgres } from './postgres.ts';

const DEADLINES: Deadlines = {
  connectMs: 2_000,
  statementMs: 3_000,
  lockMs: 1_500,
  idleInTransactionMs: 3_000,
};

export interface OpenOptions {
  /** Connections of this process; PostgreSQL only. Default 10. */
  readonly connections?: number;
  readonly deadlines?: Partial<Deadlines>;
}

/**
 * Opens a migrated database. A folder is created and migrated when it is new.
 * Throws an Error that says what to do when the schema is missing, older, or newer in a breaking way, or when the
 * folder is open elsewhere; ServiceError STORE_UNAVAILABLE when the server does not answer.
 */
export async function openDatabase(
  target: { readonly url: string } | { readonly folder: string },
  options: OpenOptions = {},
): Promise<Database> {
  const deadlines = { ...DEADLINES, ...options.deadlines };
  if ('url' in target) return openPostgres(target.url, options.connections ?? 10, deadlines);
  // A service on PostgreSQL never loads the embedded engine.
  const { openPglite } = await import('./pglite.ts');
  return openPglite(target.folder, deadlines);
}
