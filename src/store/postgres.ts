import pg from 'pg';
import { ServiceError } from '../errors.ts';
import type { Database, Deadlines, Executor, Leadership, Row, Transaction } from './db.ts';
import { connectionUsable, storeFailure } from './faults.ts';
import { checkSchema } from './schema.ts';
import { checkPosture, enterTenant, readDurability, sessionStart, transactionStart } from './session.ts';
import { PARSERS } from './values.ts';

/** The client gives up this long after the server should have. */
const GRACE_MS = 1_000;

/** The settings of every connection of ours, the migrating one included. */
export function connectionConfig(url: string, connectMs: number): pg.ClientConfig {
  return {
    connectionString: url,
    connectionTimeoutMillis: connectMs,
    keepAlive: true,
    application_name: 'keytether',
    types: {
      getTypeParser: ((oid: number, format?: 'text' | 'binary') =>
        PARSERS[oid] ??
        pg.types.getTypeParser(oid, format ?? 'text')) as pg.CustomTypesConfig['getTypeParser'],
    },
  };
}

export async function openPostgres(
  url: string,
  connections: number,
  deadlines: Deadlines,
): Promise<Database> {
  const pool = new pg.Pool({
    ...connectionConfig(url, deadlines.connectMs),
    max: connections,
    query_timeout: deadlines.statementMs + GRACE_MS,
    onConnect: (client) => client.query(sessionStart(deadlines)),
  });
  // An idle connection that the server ends is replaced at the next use.
  pool.on('error', () => undefined);
  let closed = false;

  async function withConnection<T>(use: (connection: Connection) => Promise<T>): Promise<T> {
    if (closed) throw new ServiceError('STORE_UNAVAILABLE', { detail: 'closed' });
    const client = await acquire(pool, deadlines);
    const connection = new Connection(client);
    // Without a listener an error between two statements would end the process.
    const onError = () => {
      connection.usable = false;
    };
    client.on('error', onError);
    try {
      return await use(connection);
    } finally {
      client.off('error', onError);
      client.release(!connection.usable);
    }
  }

  const database: Database = {
    query: (text, params, name) => withConnection((connection) => connection.query(text, params, name)),
    transaction: (tenant, work, options) =>
      withConnection(async (connection) => {
        await connection.query(`BEGIN; ${transactionStart(deadlines)}`);
        const tx = new OpenTransaction(tenant, connection);
        try {
          await enterTenant(tx, tenant, options?.logs ?? [tenant]);
          const result = await work(tx);
          tx.open = false;
          await connection.commit();
          return result;
        } catch (error) {
          tx.open = false;
          await connection.rollback();
          throw error;
        }
      }),
    durability: () => readDurability(database),
    assertPosture: () => checkPosture(database),
    lead: (lock) => lead(url, deadlines, lock),
    async close() {
      if (closed) return;
      closed = true;
      // A server that does not answer must not hold up the end of the process.
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, deadlines.statementMs + GRACE_MS);
      });
      await Promise.race([pool.end(), late]);
      clearTimeout(timer);
    },
  };
  try {
    await checkSchema(database);
  } catch (error) {
    await database.close();
    throw explained(error);
  }
  return database;
}

/** The pool's own deadline does not cover the first statement on a new connection; this one covers everything. */
async function acquire(pool: pg.Pool, deadlines: Deadlines): Promise<pg.PoolClient> {
  const limit = deadlines.connectMs + deadlines.statementMs + GRACE_MS;
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error('no connection in time')), limit);
  const client = pool.connect();
  try {
    return await Promise.race([client, late.promise]);
  } catch (error) {
    client.then(
      (unused) => unused.release(),
      () => undefined,
    );
    throw storeFailure(error);
  } finally {
    clearTimeout(timer);
  }
}

/** A session of its own holds the lock; a pooled one would give it back with the connection. */
async function lead(url: string, deadlines: Deadlines, lock: number): Promise<Leadership | undefined> {
  const client = new pg.Client({
    ...connectionConfig(url, deadlines.connectMs),
    query_timeout: deadlines.statementMs + GRACE_MS,
  });
  let lost = false;
  const onLost = () => {
    lost = true;
  };
  client.on('error', onLost);
  client.on('end', onLost);
  const release = () => client.end().catch(onLost);
  try {
    await client.connect();
    const { rows } = await client.query<{ taken: boolean }>('SELECT pg_try_advisory_lock($1) AS taken', [
      lock,
    ]);
    if (rows[0]?.taken === true) {
      const held = () =>
        client.query('SELECT 1').then(
          () => !lost,
          () => false,
        );
      return { held, release };
    }
  } catch (error) {
    await release();
    throw storeFailure(error);
  }
  await release();
  return undefined;
}

/** What the operator can put right when the first connection fails. */
function explained(error: unknown): unknown {
  const cause = (error as { cause?: { code?: unknown } } | null | undefined)?.cause?.code;
  if (cause === '22023') {
    return new Error('the database has no role keytether_app: run "npm run migrate" as its owner first', {
      cause: error,
    });
  }
  if (cause === '42501') {
    return new Error('the login role may not act as keytether_app: GRANT keytether_app TO it', {
      cause: error,
    });
  }
  return error;
}

/** A connection of the pool while one caller has it. */
class Connection implements Executor {
  /** False once an answer was lost: the connection is then thrown away. */
  usable = true;
  readonly #client: pg.PoolClient;

  constructor(client: pg.PoolClient) {
    this.#client = client;
  }

  async query<R extends Row>(text: string, params?: readonly unknown[], name?: string): Promise<R[]> {
    try {
      return (await send<R>(this.#client, text, params, name)).rows;
    } catch (error) {
      this.usable &&= connectionUsable(error);
      throw storeFailure(error);
    }
  }

  async commit(): Promise<void> {
    let command: string;
    try {
      command = (await send(this.#client, 'COMMIT')).command;
    } catch (error) {
      this.usable = false;
      throw storeFailure(error, 'commit');
    }
    // PostgreSQL answers COMMIT of a failed transaction with ROLLBACK and no error.
    if (command !== 'COMMIT') throw new ServiceError('INTERNAL', { detail: 'transaction-failed' });
  }

  /** Never throws: a connection that cannot roll back is thrown away, which rolls back too. */
  async rollback(): Promise<void> {
    if (!this.usable) return;
    try {
      await send(this.#client, 'ROLLBACK');
    } catch {
      this.usable = false;
    }
  }
}

class OpenTransaction implements Transaction {
  readonly tenant: string;
  open = true;
  readonly #executor: Executor;

  constructor(tenant: string, executor: Executor) {
    this.tenant = tenant;
    this.#executor = executor;
  }

  async query<R extends Row>(text: string, params?: readonly unknown[], name?: string): Promise<R[]> {
    if (!this.open) throw new ServiceError('INTERNAL', { detail: 'transaction-over' });
    return this.#executor.query<R>(text, params, name);
  }
}

function send<R extends Row>(
  client: pg.ClientBase,
  text: string,
  params?: readonly unknown[],
  name?: string,
): Promise<pg.QueryResult<R>> {
  if (params === undefined) return client.query<R>(text);
  const config = { text, values: [...params] };
  return client.query<R>(name === undefined ? config : { ...config, name: `keytether_${name}` });
}

/** A connection with the rights of its own login role, for migrations. `exec` takes several statements. */
export interface OwnerConnection extends Executor {
  exec(sql: string): Promise<void>;
  close(): Promise<void>;
}

/** Connects as the owner. Errors of its statements are the engine's own, for the operator who runs the migration. */
export async function connectOwner(url: string): Promise<OwnerConnection> {
  const client = new pg.Client(connectionConfig(url, 5_000));
  client.on('error', () => undefined);
  try {
    await client.connect();
  } catch (error) {
    throw storeFailure(error);
  }
  return {
    query: async <R extends Row>(text: string, params?: readonly unknown[]) =>
      (await send<R>(client, text, params)).rows,
    async exec(sql) {
      await client.query(sql);
    },
    close: () => client.end(),
  };
}
