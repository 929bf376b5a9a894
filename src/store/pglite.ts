import { PGlite, type Transaction as PgliteTransaction } from '@electric-sql/pglite';
import { ServiceError } from '../errors.ts';
import type { Database, Deadlines, Leadership, Row, Transaction } from './db.ts';
import { storeFailure } from './faults.ts';
import { lockFolder } from './folder-lock.ts';
import { applyMigrations } from './migrate.ts';
import { readMigrations } from './schema.ts';
import { enterTenant, readDurability, sessionStart, transactionStart } from './session.ts';
import { PARSERS } from './values.ts';

/**
 * The engine's own timeouts are off: it has no signals, and when its idle-in-transaction timeout fired, the next statement
 * spun for ever (tried with 0.5.16). One connection waits for no lock, and the timers below stand in for the rest.
 */
const NO_TIMEOUTS = { connectMs: 0, statementMs: 0, lockMs: 0, idleInTransactionMs: 0 };

/** Opens the embedded engine on a folder, alone, and brings it up to this program's schema. */
export async function openPglite(folder: string, deadlines: Deadlines): Promise<Database> {
  const unlock = lockFolder(folder);
  let engine: PGlite;
  try {
    engine = await PGlite.create(`${folder}/pglite`, { parsers: PARSERS });
  } catch (error) {
    unlock();
    throw error;
  }
  try {
    await applyMigrations(
      {
        query: async <R extends Row>(text: string, params?: readonly unknown[]) =>
          (await engine.query<R>(text, params === undefined ? undefined : [...params])).rows,
        exec: async (sql) => {
          await engine.exec(sql);
        },
      },
      await readMigrations(),
    );
    await engine.exec(sessionStart(NO_TIMEOUTS));
  } catch (error) {
    await engine.close();
    unlock();
    throw error;
  }
  return new PgliteDatabase(engine, deadlines, unlock);
}

class PgliteDatabase implements Database {
  readonly #engine: PGlite;
  readonly #deadlines: Deadlines;
  readonly #unlock: () => void;
  #closed = false;

  constructor(engine: PGlite, deadlines: Deadlines, unlock: () => void) {
    this.#engine = engine;
    this.#deadlines = deadlines;
    this.#unlock = unlock;
  }

  async query<R extends Row>(text: string, params?: readonly unknown[]): Promise<R[]> {
    this.#assertOpen();
    return run<R>(this.#engine, text, params);
  }

  async transaction<T>(
    tenant: string,
    work: (tx: Transaction) => Promise<T>,
    options?: { readonly logs?: readonly string[] },
  ): Promise<T> {
    this.#assertOpen();
    let late = false;
    const turn = Promise.withResolvers<void>();
    const done = this.#engine.transaction(async (inner) => {
      if (late) throw unavailable('connection');
      turn.resolve();
      await inner.exec(transactionStart(NO_TIMEOUTS));
      const tx = new OpenTransaction(tenant, inner);
      try {
        await enterTenant(tx, tenant, options?.logs ?? [tenant]);
        return await within(work(tx), this.#deadlines.idleInTransactionMs, 'transaction');
      } finally {
        tx.open = false;
      }
    });
    done.catch(() => undefined);
    try {
      await within(Promise.race([turn.promise, done]), this.#deadlines.connectMs, 'connection');
      return await done;
    } catch (error) {
      late = true;
      throw failure(error);
    }
  }

  durability() {
    return readDurability(this);
  }

  async assertPosture(): Promise<void> {
    throw new Error('the embedded database is for development: give a PostgreSQL connection string');
  }

  /** The folder's lock says it already: there is no other process. */
  async lead(): Promise<Leadership> {
    return { held: async () => !this.#closed, release: async () => undefined };
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    try {
      await this.#engine.close();
    } finally {
      this.#unlock();
    }
  }

  #assertOpen(): void {
    if (this.#closed) throw new ServiceError('STORE_UNAVAILABLE', { detail: 'closed' });
  }
}

class OpenTransaction implements Transaction {
  readonly tenant: string;
  open = true;
  readonly #inner: PgliteTransaction;

  constructor(tenant: string, inner: PgliteTransaction) {
    this.tenant = tenant;
    this.#inner = inner;
  }

  async query<R extends Row>(text: string, params?: readonly unknown[]): Promise<R[]> {
    if (!this.open) throw new ServiceError('INTERNAL', { detail: 'transaction-over' });
    return run<R>(this.#inner, text, params);
  }
}

async function run<R extends Row>(
  target: Pick<PgliteTransaction, 'query'>,
  text: string,
  params?: readonly unknown[],
): Promise<R[]> {
  try {
    return (await target.query<R>(text, params === undefined ? undefined : [...params])).rows;
  } catch (error) {
    throw storeFailure(error);
  }
}

/** An error of the engine is mapped; what the caller's own work threw passes. */
function failure(error: unknown): unknown {
  const code = (error as { code?: unknown } | null | undefined)?.code;
  const engines = error instanceof ServiceError || typeof code !== 'string' || code.length !== 5;
  return engines ? error : storeFailure(error);
}

async function within<T>(promise: Promise<T>, ms: number, detail: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(unavailable(detail)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

function unavailable(detail: string): ServiceError {
  return new ServiceError('STORE_UNAVAILABLE', { detail, retryAfterSeconds: 1 });
}
