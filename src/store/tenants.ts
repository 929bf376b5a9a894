import { ServiceError } from '../errors.ts';
import type { Executor, Transaction } from './db.ts';

export type TenantState = 'active' | 'suspended';

export interface TenantRow {
  readonly tenant: string;
  readonly name: string;
  readonly state: TenantState;
  /** Raised by every administrative change. */
  readonly stateVersion: number;
  readonly createdMs: number;
  /** Number of leaves in its log. */
  readonly logSize: number;
}

/** Creates the transaction's tenant and its empty log. Throws CONFLICT when the id is taken. */
export async function createTenant(tx: Transaction, name: string): Promise<void> {
  await tx.query('SELECT keytether.tenant_create($1, $2)', [tx.tenant, name]);
}

/** Every tenant, the system's own row included, in order of id: what the operator may know. */
export async function listTenants(executor: Executor): Promise<TenantRow[]> {
  const rows = await executor.query<{
    tenant_id: string;
    name: string;
    state: TenantState;
    state_version: number;
    created_ms: number;
    log_size: number;
  }>('SELECT tenant_id, name, state, state_version, created_ms, log_size FROM keytether.tenant_list()');
  return rows.map((row) => ({
    tenant: row.tenant_id,
    name: row.name,
    state: row.state,
    stateVersion: row.state_version,
    createdMs: row.created_ms,
    logSize: row.log_size,
  }));
}

/** The transaction's tenant, or undefined when there is none of that id. */
export async function readTenant(
  tx: Transaction,
): Promise<{ name: string; state: TenantState; stateVersion: number } | undefined> {
  const [row] = await tx.query<{ name: string; state: TenantState; state_version: number }>(
    'SELECT name, state, state_version FROM keytether.tenant WHERE tenant_id = $1',
    [tx.tenant],
  );
  return row && { name: row.name, state: row.state, stateVersion: row.state_version };
}

/**
 * Raises the tenant's state version and returns it. Every administrative change does this in its own transaction: uses
 * that read the older version are not released. Throws NOT_FOUND when there is no such tenant.
 */
export async function bumpStateVersion(tx: Transaction): Promise<number> {
  const [row] = await tx.query<{ state_version: number }>(
    'UPDATE keytether.tenant SET state_version = state_version + 1 WHERE tenant_id = $1 RETURNING state_version',
    [tx.tenant],
  );
  if (row === undefined) throw new ServiceError('NOT_FOUND');
  return row.state_version;
}

/** Sets the tenant's state and raises its state version, which is returned. Throws NOT_FOUND. */
export async function setTenantState(tx: Transaction, state: TenantState): Promise<number> {
  const version = await bumpStateVersion(tx);
  await tx.query('UPDATE keytether.tenant SET state = $2 WHERE tenant_id = $1', [tx.tenant, state]);
  return version;
}
