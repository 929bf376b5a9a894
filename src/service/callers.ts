/** Principals as the database has them: authenticated rows, API keys, invitations, the operator's token. */
import { timingSafeEqual } from 'node:crypto';
import { ID_PREFIX, SYSTEM_TENANT } from '../brand.ts';
import { decodeId } from '../crypto/encoding.ts';
import { type PrincipalFields, principalMac, type RecordKeys, verifyPrincipal } from '../crypto/records.ts';
import { codeOf, type ErrorCode, ServiceError } from '../errors.ts';
import type { KeyUse } from '../keyring/use.ts';
import type { Transaction } from '../store/db.ts';
import {
  type CallerRow,
  insertPrincipal,
  listPrincipals,
  type PrincipalRow,
  readPrincipals,
  setPrincipalState,
} from '../store/principals.ts';
import { createTenant } from '../store/tenants.ts';
import type { PrincipalRow as AuthRow } from './authenticate.ts';
import { authorize, type Principal, type Role } from './authorize.ts';
import { actorOf, type ChangeRecord, type Core, change, originOf, reading } from './core.ts';
import { type MintedToken, mintToken, type ParsedToken } from './token.ts';

const INVITATION_ROLE = 'invitation';
const INVITATION_DAYS = 7;
const DAY_MS = 86_400_000;

export interface ApiKeyView {
  readonly id: string;
  readonly name: string;
  readonly role: Exclude<Role, 'operator'>;
  readonly scopes: readonly string[];
  readonly purposes: readonly string[];
  readonly state: 'active' | 'revoked' | 'expired';
  readonly createdAt: string;
  readonly expiresAt?: string | undefined;
}

/** What is authenticated of a row. */
function fieldsOf(row: PrincipalRow): PrincipalFields {
  const { tenant, principal, role, scopes, purposes, expiresMs, state, secretSha256 } = row;
  return {
    tenant,
    principal,
    role,
    scopes,
    purposes,
    expiresMs: expiresMs ?? undefined,
    state,
    secretSha256,
  };
}

/** Throws KEY_RECORD_TAMPERED or RECORD_KEY_UNAVAILABLE. */
export function checkCaller(row: PrincipalRow, recordKeys: RecordKeys): void {
  verifyPrincipal(fieldsOf(row), row, recordKeys);
}

/** A row as the authenticator wants it. An invitation is nobody who could call. */
export function authRow(row: CallerRow): AuthRow & { readonly row: CallerRow } {
  return {
    id: row.principal,
    tenant: row.tenant,
    role: row.role as Role,
    scopes: row.scopes,
    purposes: row.purposes,
    stateVersion: row.stateVersion,
    tenantState: row.tenantState,
    state: row.state === 'active' && row.role !== INVITATION_ROLE ? 'active' : 'revoked',
    expiresAt: row.expiresMs ?? undefined,
    secretSha256: row.secretSha256,
    row,
  };
}

interface NewPrincipal {
  readonly name: string;
  readonly role: string;
  readonly scopes: readonly string[];
  readonly purposes: readonly string[];
  readonly expiresMs: number | null;
}

function newRow(
  core: Core,
  tenant: string,
  token: MintedToken | ParsedToken,
  fresh: NewPrincipal,
): PrincipalRow {
  const row = {
    ...fresh,
    tenant,
    principal: token.principalId,
    state: 'active',
    secretSha256: token.secretSha256,
  };
  const fields = { ...row, expiresMs: fresh.expiresMs ?? undefined };
  return { ...row, ...principalMac(fields, core.recordKeys), createdMs: Date.now() };
}

/** The row in another state, authenticated anew. */
function inState(
  core: Core,
  row: PrincipalRow,
  state: string,
): Pick<PrincipalRow, 'principal' | 'state' | 'authId' | 'mac'> {
  return { principal: row.principal, state, ...principalMac({ ...fieldsOf(row), state }, core.recordKeys) };
}

function view(row: PrincipalRow, nowMs: number): ApiKeyView {
  const expired = row.expiresMs !== null && row.expiresMs <= nowMs;
  return {
    id: row.principal,
    name: row.name,
    role: row.role as ApiKeyView['role'],
    scopes: row.scopes,
    purposes: row.purposes,
    state: row.state !== 'active' ? 'revoked' : expired ? 'expired' : 'active',
    createdAt: new Date(row.createdMs).toISOString(),
    ...(row.expiresMs === null ? {} : { expiresAt: new Date(row.expiresMs).toISOString() }),
  };
}

function recordOf(
  op: string,
  row: Pick<PrincipalRow, 'principal' | 'mac'>,
  act: Principal | undefined,
  req: string | undefined,
): ChangeRecord {
  return {
    typ: 'admin.change',
    op,
    act: act === undefined ? undefined : actorOf(act),
    req,
    obj: { typ: 'principal', id: row.principal, h: Buffer.from(row.mac).toString('base64') },
  };
}

/**
 * Whether the transaction's tenant has, or ever had, an admin. From then on only admins make admins: an invitation that
 * still worked would be the operator's way to plaintext.
 */
async function hasAdmin(tx: Transaction): Promise<boolean> {
  return (await listPrincipals(tx)).some(({ role }) => role === 'tenant-admin');
}

export function createCallers(core: Core) {
  /** The current versions of the callers of these uses, or why each may not go on. One query. */
  async function recheck(uses: readonly KeyUse[]): Promise<(number | ErrorCode)[]> {
    const ids = [...new Set(uses.map((use) => use.actor.id))];
    const rows = new Map((await readPrincipals(core.db, ids)).map((row) => [row.principal, row]));
    return uses.map((use) => {
      const row = rows.get(use.actor.id);
      if (row === undefined) return 'UNAUTHENTICATED';
      try {
        checkCaller(row, core.recordKeys);
      } catch (error) {
        return codeOf(error);
      }
      const caller = authRow(row);
      const expired = caller.expiresAt !== undefined && caller.expiresAt <= Date.now();
      if (caller.state !== 'active' || expired) return 'UNAUTHENTICATED';
      for (const { purpose } of use.items) {
        const decision = authorize(caller, `envelope.${use.operation}`, use.tenant, use.scope, purpose);
        if (decision !== 'allowed') return decision;
      }
      return caller.stateVersion;
    });
  }

  /** A one-time invitation for a tenant's admin, as a row and its record. */
  function newInvitation(tenant: string) {
    const token = mintToken('invitation');
    const expiresMs = Date.now() + INVITATION_DAYS * DAY_MS;
    const row = newRow(core, tenant, token, {
      name: 'invitation',
      role: INVITATION_ROLE,
      scopes: [],
      purposes: [],
      expiresMs,
    });
    return { row, invitation: { token: token.token, expiresAt: new Date(expiresMs).toISOString() } };
  }

  return {
    recheck,
    newInvitation,
    recordOf,
    hasAdmin,

    async createApiKey(
      call: { principal: Principal; tenant: string; requestId: string },
      input: {
        name: string;
        role: ApiKeyView['role'];
        scopes: readonly string[];
        purposes: readonly string[];
        expiresAt?: string | undefined;
      },
    ) {
      const token = mintToken('api-key');
      const expiresMs = input.expiresAt === undefined ? null : Date.parse(input.expiresAt);
      const row = newRow(core, call.tenant, token, { ...input, expiresMs });
      await change(core, call.tenant, async (tx) => {
        await insertPrincipal(tx, row);
        return [recordOf('api-key.create', row, call.principal, call.requestId)];
      });
      return { token: token.token, apiKey: view(row, Date.now()) };
    },

    async listApiKeys(call: { tenant: string }) {
      const rows = await reading(core, call.tenant, listPrincipals);
      return rows.filter((row) => row.role !== INVITATION_ROLE).map((row) => view(row, Date.now()));
    },

    async revokeApiKey(call: { principal: Principal; tenant: string; requestId: string }, id: string) {
      await change(core, call.tenant, async (tx) => {
        const row = (await listPrincipals(tx)).find(
          (each) => each.principal === id && each.role !== INVITATION_ROLE,
        );
        if (row === undefined || decodeId(ID_PREFIX.principal, id) === undefined)
          throw new ServiceError('NOT_FOUND');
        checkCaller(row, core.recordKeys);
        const revoked = inState(core, row, 'revoked');
        if (!(await setPrincipalState(tx, revoked, 'active')))
          throw new ServiceError('CONFLICT', { detail: 'not-active' });
        return [recordOf('api-key.revoke', revoked, call.principal, call.requestId)];
      });
    },

    /** Spends an invitation: of two at once, one gets the key. */
    async redeemInvitation(call: { requestId: string }, input: { invitation: ParsedToken; name: string }) {
      const { invitation } = input;
      const [row] = await readPrincipals(core.db, [invitation.principalId]);
      if (row === undefined) throw new ServiceError('UNAUTHENTICATED');
      checkCaller(row, core.recordKeys);
      const valid =
        timingSafeEqual(row.secretSha256, invitation.secretSha256) &&
        row.role === INVITATION_ROLE &&
        row.state === 'active' &&
        (row.expiresMs ?? 0) > Date.now();
      if (!valid) throw new ServiceError('UNAUTHENTICATED');
      const token = mintToken('api-key');
      const fresh = { name: input.name, role: 'tenant-admin', scopes: [], purposes: [], expiresMs: null };
      const admin = newRow(core, row.tenant, token, fresh);
      await change(core, row.tenant, async (tx) => {
        if (await hasAdmin(tx)) throw new ServiceError('UNAUTHENTICATED', { detail: 'has-admin' });
        const spent = inState(core, row, 'spent');
        if (!(await setPrincipalState(tx, spent, 'active'))) throw new ServiceError('UNAUTHENTICATED');
        await insertPrincipal(tx, admin);
        return [
          recordOf('invitation.redeem', spent, undefined, call.requestId),
          recordOf('api-key.create', admin, undefined, call.requestId),
        ];
      });
      return { tenant: row.tenant, token: token.token, apiKey: view(admin, Date.now()) };
    },

    /** Makes the operator's bootstrap token good, once: at every start of every replica. */
    async ensureOperator(token: ParsedToken) {
      await ensureSystem(core);
      const [known] = await readPrincipals(core.db, [token.principalId]);
      if (known !== undefined) return;
      const row = newRow(core, SYSTEM_TENANT, token, {
        name: 'operator',
        role: 'operator',
        scopes: [],
        purposes: [],
        expiresMs: null,
      });
      try {
        await change(core, SYSTEM_TENANT, async (tx) => {
          await insertPrincipal(tx, row);
          return [recordOf('operator.create', row, undefined, undefined)];
        });
      } catch (error) {
        // Another replica has just done the same.
        if (codeOf(error) !== 'CONFLICT') throw error;
      }
    },
  };
}

/** The tree of what belongs to no tenant. */
async function ensureSystem(core: Core): Promise<void> {
  try {
    await change(core, SYSTEM_TENANT, async (tx) => {
      await createTenant(tx, SYSTEM_TENANT);
      return [{ typ: 'log.genesis', origin: originOf(core, SYSTEM_TENANT) }];
    });
  } catch (error) {
    if (codeOf(error) !== 'CONFLICT') throw error;
  }
}

export type Callers = ReturnType<typeof createCallers>;
