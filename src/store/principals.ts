/** Callers: services, admins, auditors, invitations and operators. The authenticator of each row is checked elsewhere. */
import type { Executor, Transaction } from './db.ts';
import type { TenantState } from './tenants.ts';

export interface PrincipalRow {
  readonly tenant: string;
  readonly principal: string;
  readonly role: string;
  readonly name: string;
  readonly scopes: readonly string[];
  readonly purposes: readonly string[];
  /** Milliseconds since 1970; null: never. */
  readonly expiresMs: number | null;
  readonly state: string;
  /** 32 bytes: SHA-256 of the secret. */
  readonly secretSha256: Uint8Array;
  /** Which record key made the mac. */
  readonly authId: string;
  /** 32 bytes. */
  readonly mac: Uint8Array;
  readonly createdMs: number;
}

interface PrincipalColumns extends Readonly<Record<string, unknown>> {
  readonly tenant_id: string;
  readonly principal_id: string;
  readonly role: string;
  readonly name: string;
  readonly scopes: string[];
  readonly purposes: string[];
  readonly expires_ms: number | null;
  readonly state: string;
  readonly secret_sha256: Uint8Array;
  readonly auth_id: string;
  readonly mac: Uint8Array;
  readonly created_ms: number;
}

const COLUMNS =
  'tenant_id, principal_id, role, name, scopes, purposes, expires_ms, state, secret_sha256, auth_id, mac, created_ms';

function fromColumns(row: PrincipalColumns): PrincipalRow {
  return {
    tenant: row.tenant_id,
    principal: row.principal_id,
    role: row.role,
    name: row.name,
    scopes: row.scopes,
    purposes: row.purposes,
    expiresMs: row.expires_ms,
    state: row.state,
    secretSha256: row.secret_sha256,
    authId: row.auth_id,
    mac: row.mac,
    createdMs: row.created_ms,
  };
}

/** Inserts a principal of the transaction's tenant. Throws CONFLICT when the id is taken in any tenant. */
export async function insertPrincipal(tx: Transaction, row: Omit<PrincipalRow, 'tenant'>): Promise<void> {
  await tx.query(
    `INSERT INTO keytether.principal (${COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
    [
      tx.tenant,
      row.principal,
      row.role,
      row.name,
      row.scopes,
      row.purposes,
      row.expiresMs,
      row.state,
      row.secretSha256,
      row.authId,
      row.mac,
      row.createdMs,
    ],
  );
}

/** Sets state and authenticator if the principal still has the state `expectState`; false when it has not. */
export async function setPrincipalState(
  tx: Transaction,
  change: Pick<PrincipalRow, 'principal' | 'state' | 'authId' | 'mac'>,
  expectState: string,
): Promise<boolean> {
  const rows = await tx.query(
    `UPDATE keytether.principal SET state = $3, auth_id = $4, mac = $5
     WHERE tenant_id = $1 AND principal_id = $2 AND state = $6 RETURNING principal_id`,
    [tx.tenant, change.principal, change.state, change.authId, change.mac, expectState],
  );
  return rows.length === 1;
}

/** The principals of the transaction's tenant in order of id. */
export async function listPrincipals(tx: Transaction): Promise<PrincipalRow[]> {
  const rows = await tx.query<PrincipalColumns>(
    `SELECT ${COLUMNS} FROM keytether.principal WHERE tenant_id = $1 ORDER BY principal_id`,
    [tx.tenant],
  );
  return rows.map(fromColumns);
}

export interface CallerRow extends PrincipalRow {
  readonly tenantState: TenantState;
  readonly stateVersion: number;
}

/**
 * Principals of any tenant, each with its tenant's state in the same snapshot: what a caller is authenticated with,
 * before his tenant is known. Unknown ids are left out; the order is not defined.
 */
export async function readPrincipals(executor: Executor, ids: readonly string[]): Promise<CallerRow[]> {
  const rows = await executor.query<PrincipalColumns & { tenant_state: TenantState; state_version: number }>(
    `SELECT ${COLUMNS}, tenant_state, state_version FROM keytether.principal_read($1)`,
    [ids],
    'read_principals',
  );
  return rows.map((row) => ({
    ...fromColumns(row),
    tenantState: row.tenant_state,
    stateVersion: row.state_version,
  }));
}
