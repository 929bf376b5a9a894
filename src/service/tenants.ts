/** Tenants as the operator makes and suspends them. He gets an invitation to hand on, and no key of his own. */
import { ID_PREFIX, SYSTEM_TENANT } from '../brand.ts';
import { encodeId, newId } from '../crypto/encoding.ts';
import { ServiceError } from '../errors.ts';
import { insertPrincipal } from '../store/principals.ts';
import {
  createTenant,
  listTenants,
  setTenantState,
  type TenantRow,
  type TenantState,
} from '../store/tenants.ts';
import type { Principal } from './authorize.ts';
import type { Callers } from './callers.ts';
import { actorOf, type ChangeRecord, type Core, change, originOf } from './core.ts';

interface OperatorCall {
  readonly principal: Principal;
  readonly requestId: string;
}
type TenantCall = OperatorCall & { readonly tenant: string };

export function createTenants(core: Core, callers: Callers) {
  async function all(): Promise<TenantRow[]> {
    return (await listTenants(core.db)).filter((row) => row.tenant !== SYSTEM_TENANT);
  }

  async function find(tenant: string): Promise<TenantRow> {
    const row = (await all()).find((each) => each.tenant === tenant);
    if (row === undefined) throw new ServiceError('NOT_FOUND');
    return row;
  }

  /** The operator's act, in the tenant's own tree and in the system's. */
  function both(call: TenantCall, op: string): ChangeRecord[] {
    const record: ChangeRecord = {
      typ: 'admin.change',
      op,
      act: actorOf(call.principal),
      req: call.requestId,
      obj: { typ: 'tenant', id: call.tenant },
    };
    return [record, { ...record, tree: SYSTEM_TENANT }];
  }

  async function setState(call: TenantCall, state: TenantState, op: string) {
    await find(call.tenant);
    await change(
      core,
      call.tenant,
      async (tx) => {
        await setTenantState(tx, state);
        return both(call, op);
      },
      [SYSTEM_TENANT],
    );
    return viewOf(await find(call.tenant));
  }

  return {
    async create(call: OperatorCall, input: { readonly name: string }) {
      const tenant = encodeId(ID_PREFIX.tenant, newId());
      const { row, invitation } = callers.newInvitation(tenant);
      await change(
        core,
        tenant,
        async (tx) => {
          await createTenant(tx, input.name);
          await insertPrincipal(tx, row);
          return [
            { typ: 'log.genesis', origin: originOf(core, tenant) },
            ...both({ ...call, tenant }, 'tenant.create'),
            callers.recordOf('invitation.create', row, call.principal, call.requestId),
          ];
        },
        [SYSTEM_TENANT],
      );
      return { tenant: viewOf(await find(tenant)), invitation };
    },

    async list() {
      return (await all()).map(viewOf);
    },

    async read(call: TenantCall) {
      return viewOf(await find(call.tenant));
    },

    suspend: (call: TenantCall) => setState(call, 'suspended', 'tenant.suspend'),
    resume: (call: TenantCall) => setState(call, 'active', 'tenant.resume'),

    /** Another invitation, for when the first was lost. CONFLICT once the tenant has an admin. */
    async invite(call: TenantCall) {
      await find(call.tenant);
      const { row, invitation } = callers.newInvitation(call.tenant);
      await change(core, call.tenant, async (tx) => {
        if (await callers.hasAdmin(tx)) throw new ServiceError('CONFLICT', { detail: 'has-admin' });
        await insertPrincipal(tx, row);
        return [callers.recordOf('invitation.create', row, call.principal, call.requestId)];
      });
      return invitation;
    },
  };
}

function viewOf(row: TenantRow) {
  const { tenant: id, name, state, createdMs } = row;
  return { id, name, state, createdAt: new Date(createdMs).toISOString() };
}
