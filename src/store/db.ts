/** What a database is to the rest: executor, transaction, durability. `open.ts` makes one, of either engine. */

export type Row = Readonly<Record<string, unknown>>;

export interface Executor {
  /**
   * Runs one statement. `bytea` comes back as `Uint8Array`, `bigint` as a safe integer (a larger one is an error).
   * A `name` makes the server keep the plan on each connection; give one name to one text only.
   * Throws ServiceError STORE_UNAVAILABLE (no answer, no room, read-only, timeout: whether the statement took effect
   * is then unknown), CONFLICT (a unique key is taken) or INTERNAL. The cause names the SQLSTATE, never the statement
   * or its values.
   */
  query<R extends Row = Row>(text: string, params?: readonly unknown[], name?: string): Promise<R[]>;
}

/** One open transaction. It sees and writes the rows of `tenant` only, by row-level security. */
export interface Transaction extends Executor {
  readonly tenant: string;
}

export interface TransactionOptions {
  /**
   * The tenants whose log order the transaction holds from its start; by default its own. Every tenant that it appends
   * leaves to must be among them, or it can deadlock with the log's writers. Empty for transactions that only read.
   */
  readonly logs?: readonly string[];
}

/**
 * What a commit survives: `process` the end of this process (the embedded engine never calls fsync), `durable` a power
 * cut, `replicated` also the loss of the server.
 */
export type Durability = 'process' | 'durable' | 'replicated';

export interface Database extends Executor {
  /**
   * Runs `work` in a transaction of one tenant, as keytether_app, and commits; rolls back and rethrows when it throws.
   * On PGlite it holds the only connection: `work` must wait for nothing but the database.
   * A lost answer to COMMIT is STORE_UNAVAILABLE with detail `commit`: it may have taken effect.
   */
  transaction<T>(
    tenant: string,
    work: (tx: Transaction) => Promise<T>,
    options?: TransactionOptions,
  ): Promise<T>;
  /** Asks the server anew; to be asserted at start and from time to time, since settings can change. */
  durability(): Promise<Durability>;
  /**
   * Throws an Error that says what to do when the session's login role could go round row-level security (superuser,
   * BYPASSRLS, owner of the tables, member of keytether_log) or commits are not durable. For production.
   */
  assertPosture(): Promise<void>;
  /**
   * Takes a lock of the whole database for this process, on a connection of its own; undefined while another process has it.
   * It keeps work from being done twice; it proves nothing, because a server may give the lock on before its holder learns
   * that his connection is dead.
   */
  lead(lock: number): Promise<Leadership | undefined>;
  /** Ends every connection; a second call does nothing. */
  close(): Promise<void>;
}

export interface Leadership {
  /** Asks the server; false once the lock may be someone else's. */
  held(): Promise<boolean>;
  release(): Promise<void>;
}

export interface Deadlines {
  /** Milliseconds to get a connection. */
  readonly connectMs: number;
  /** Milliseconds that the server may spend on one statement; the client gives up one second later. */
  readonly statementMs: number;
  /** Milliseconds to wait for a lock. */
  readonly lockMs: number;
  /** Milliseconds that a transaction may sit idle before the server ends it. */
  readonly idleInTransactionMs: number;
}
