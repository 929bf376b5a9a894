/**
 * Who may do what: one table, deny by default, no I/O. The HTTP routes name an action of this table and nothing else.
 */
import { SYSTEM_TENANT } from '../brand.ts';

export const ROLES = ['operator', 'tenant-admin', 'service', 'auditor'] as const;
export type Role = (typeof ROLES)[number];

/** An authenticated caller, as it was in the database after the request arrived. */
export interface Principal {
  /** `prn_…` */
  readonly id: string;
  /** `ten_…`; `system` for an operator. */
  readonly tenant: string;
  readonly role: Role;
  /** Scopes of data that the caller may use; `*` alone means all. */
  readonly scopes: readonly string[];
  /** Purposes that the caller may state; `*` alone means all. */
  readonly purposes: readonly string[];
  /** The tenant's `state_version` that this answer belongs to; an append refuses any other. */
  readonly stateVersion: number;
  readonly tenantState: 'active' | 'suspended';
}

interface Rule {
  readonly roles: readonly Role[];
  /** Whether a suspended tenant may still do it: reading stays, so that a customer can always leave. */
  readonly whileSuspended: boolean;
  /** Whether scope and purpose must be stated and must be the caller's. */
  readonly data: boolean;
}

const OPERATOR: readonly Role[] = ['operator'];
const ADMIN: readonly Role[] = ['tenant-admin'];
const SERVICE: readonly Role[] = ['service'];
const READERS: readonly Role[] = ['tenant-admin', 'auditor'];

function rule(roles: readonly Role[], flags: { whileSuspended?: boolean; data?: boolean } = {}): Rule {
  return { roles, whileSuspended: flags.whileSuspended ?? false, data: flags.data ?? false };
}

const RULES = {
  'tenant.create': rule(OPERATOR),
  'tenant.list': rule(OPERATOR),
  'tenant.read': rule(ROLES, { whileSuspended: true }),
  'tenant.suspend': rule(OPERATOR),
  'tenant.resume': rule(OPERATOR),
  'tenant.invite': rule(OPERATOR),
  'api-key.create': rule(ADMIN),
  'api-key.list': rule(ADMIN, { whileSuspended: true }),
  'api-key.revoke': rule(ADMIN, { whileSuspended: true }),
  'customer-key.register': rule(ADMIN),
  'customer-key.list': rule(READERS, { whileSuspended: true }),
  'customer-key.read': rule(READERS, { whileSuspended: true }),
  'customer-key.verify': rule(ADMIN),
  'customer-key.activate': rule(ADMIN),
  'customer-key.disable': rule(ADMIN, { whileSuspended: true }),
  'envelope.encrypt': rule(SERVICE, { data: true }),
  'envelope.decrypt': rule(SERVICE, { data: true }),
  'log.read': rule(READERS, { whileSuspended: true }),
  'log.reconcile': rule(READERS, { whileSuspended: true }),
} as const satisfies Record<string, Rule>;

export type Action = keyof typeof RULES;

/** `allowed`, or the code of the refusal. NOT_FOUND masks what the caller may not know to exist. */
export type Decision = 'allowed' | 'FORBIDDEN' | 'NOT_FOUND' | 'TENANT_SUSPENDED';

/** The roles that an action is open to, for documents. */
export function rolesOf(action: Action): readonly Role[] {
  return RULES[action].roles;
}

/**
 * Decides one use. `tenant` is the tenant that the request names, or undefined where it names none. Operators may know
 * which tenants exist, so a foreign tenant is masked for everybody else only.
 */
export function authorize(
  principal: Principal,
  action: Action,
  tenant: string | undefined,
  scope?: string,
  purpose?: string,
): Decision {
  const { roles, data, whileSuspended } = RULES[action] as Rule;
  const operator = principal.role === 'operator';
  if (operator !== (principal.tenant === SYSTEM_TENANT)) return 'FORBIDDEN';
  if (!operator && tenant !== undefined && tenant !== principal.tenant) return 'NOT_FOUND';
  if (!roles.includes(principal.role)) return 'FORBIDDEN';
  if (principal.tenantState !== 'active' && !(principal.tenantState === 'suspended' && whileSuspended)) {
    return 'TENANT_SUSPENDED';
  }
  if (!data) return 'allowed';
  return holds(principal.scopes, scope) && holds(principal.purposes, purpose) ? 'allowed' : 'FORBIDDEN';
}

function holds(granted: readonly string[], wanted: string | undefined): boolean {
  if (wanted === undefined) return false;
  return granted.includes(wanted) || (granted.length === 1 && granted[0] === '*');
}
