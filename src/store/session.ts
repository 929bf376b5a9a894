/** What both engines do on a connection, in SQL. */
import type { Deadlines, Durability, Executor, Row } from './db.ts';

const TENANT_ID = /^[a-z0-9_-]{1,64}$/;

/** What a new connection is told once. */
export function sessionStart(deadlines: Deadlines): string {
  return [
    `SET statement_timeout = ${deadlines.statementMs}`,
    `SET lock_timeout = ${deadlines.lockMs}`,
    `SET idle_in_transaction_session_timeout = ${deadlines.idleInTransactionMs}`,
    'SET synchronous_commit = on',
    'SET ROLE keytether_app',
  ].join('; ');
}

/** What a transaction is told, before its tenant is set. */
export function transactionStart(deadlines: Deadlines): string {
  return [
    'SET LOCAL ROLE keytether_app',
    `SET LOCAL statement_timeout = ${deadlines.statementMs}`,
    `SET LOCAL lock_timeout = ${deadlines.lockMs}`,
    `SET LOCAL idle_in_transaction_session_timeout = ${deadlines.idleInTransactionMs}`,
  ].join('; ');
}

/** Sets the tenant of the transaction and takes the log order of `logs`. */
export async function enterTenant(tx: Executor, tenant: string, logs: readonly string[]): Promise<void> {
  if (!TENANT_ID.test(tenant)) throw new RangeError('not a tenant id');
  await tx.query("SELECT set_config('keytether.tenant', $1, true)", [tenant], 'enter_tenant');
  if (logs.length > 0) await tx.query('SELECT keytether.log_lock($1)', [logs], 'log_lock');
}

export async function readDurability(executor: Executor): Promise<Durability> {
  const [row] = await executor.query<Row>(
    `SELECT current_setting('fsync') = 'on' AND current_setting('full_page_writes') = 'on'
        AND current_setting('synchronous_commit') <> 'off' AS safe,
      current_setting('synchronous_commit') IN ('on', 'remote_apply', 'remote_write')
        AND current_setting('synchronous_standby_names') <> '' AS replicated`,
  );
  if (row?.safe !== true) return 'process';
  return row.replicated === true ? 'replicated' : 'durable';
}

/** See `Database.assertPosture`. */
export async function checkPosture(executor: Executor): Promise<void> {
  const [row] = await executor.query<Row>(
    `SELECT session_user AS login, r.rolsuper AS superuser, r.rolbypassrls AS bypass,
      EXISTS (SELECT 1 FROM pg_class c WHERE c.relnamespace = 'keytether'::regnamespace
        AND pg_has_role(session_user, c.relowner, 'MEMBER')) AS owner,
      pg_has_role(session_user, 'keytether_log', 'MEMBER') AS log
    FROM pg_roles r WHERE r.rolname = session_user`,
  );
  if (row === undefined) throw new Error('the login role of the database session does not exist any more');
  const reasons = [
    row.superuser === true ? 'is a superuser' : '',
    row.bypass === true ? 'has BYPASSRLS' : '',
    row.owner === true ? 'owns tables of the schema' : '',
    row.log === true ? 'is a member of keytether_log' : '',
  ].filter((reason) => reason !== '');
  if (reasons.length > 0) {
    throw new Error(
      `the database role "${row.login}" ${reasons.join(' and ')}: the service must log in as a plain role that was only granted keytether_app`,
    );
  }
  if ((await readDurability(executor)) === 'process') {
    throw new Error(
      'the database does not keep commits over a power cut: set fsync and full_page_writes to on',
    );
  }
}
