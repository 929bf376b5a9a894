/**
 * Services in memory: real tokens, real rows, envelopes that are the plaintext behind four bytes. Counts every call, so that
 * a test can say that none was made.
 */
import { Buffer } from 'node:buffer';
import { ServiceError } from '../../src/errors.ts';
import type {
  ApiKey,
  Batch,
  CustomerKey,
  Decrypt,
  Encrypt,
  Failure,
  Refusal,
  Services,
  Tenant,
} from '../../src/http/services.ts';
import type { Receipt } from '../../src/receipt.ts';
import type { Principal, Role } from '../../src/service/authorize.ts';
import { mintToken, parseToken } from '../../src/service/token.ts';

const MAGIC = Uint8Array.of(0x8e, 0x4b, 0x54, 0x4d);
const AT = '2026-01-02T03:04:05Z';

export function tenantId(letter: string): string {
  return `ten_${letter.repeat(25)}a`;
}

export const OWN = tenantId('b');
export const OTHER = tenantId('c');
export const UNKNOWN = tenantId('d');
export const EVENT_ID = '01890a5d-ac96-774b-bcce-b302099a8057';
export const KEY_ID = `ckey_${'e'.repeat(25)}a`;

export interface FakeServices extends Services {
  /** Names of the methods that were called, in order. */
  readonly calls: string[];
  readonly refusals: Refusal[];
  readonly failures: Failure[];
  readonly tenants: Map<string, Tenant>;
  unauthenticated: number;
  /** Makes a principal and returns its token. */
  addPrincipal(role: Role, tenant: string, more?: Partial<Principal>): string;
  /** Runs before the service's own work: a way to fail or to wait. */
  before: (name: string) => Promise<void> | void;
}

export function createFakeServices(): FakeServices {
  const calls: string[] = [];
  const principals = new Map<string, { principal: Principal; sha: string }>();
  const apiKeys = new Map<string, ApiKey & { tenant: string }>();
  const invitations = new Map<string, string>();
  const tenants = new Map<string, Tenant>();
  const customerKeys = new Map<string, CustomerKey & { tenant: string }>();
  for (const id of [OWN, OTHER]) tenants.set(id, { id, name: 'Tenant', state: 'active', createdAt: AT });
  customerKeys.set(KEY_ID, customerKey(KEY_ID, OWN, { provider: 'local', keyRef: 'k', access: {} }));

  function customerKey(
    id: string,
    tenant: string,
    input: Pick<CustomerKey, 'provider' | 'keyRef' | 'access'>,
  ) {
    return { id, tenant, ...input, state: 'registered' as const, scopes: [], version: 1 };
  }

  function receipt(): Receipt {
    const leafHash = Buffer.alloc(32, 7).toString('base64');
    return { origin: 'log.test/audit/x', index: 41, leafHash, durability: 'process' };
  }

  function addPrincipal(role: Role, tenant: string, more: Partial<Principal> = {}): string {
    const minted = mintToken(role === 'operator' ? 'operator' : 'api-key');
    const grants = role === 'service' ? ['*'] : [];
    const principal: Principal = {
      id: minted.principalId,
      tenant,
      role,
      scopes: grants,
      purposes: grants,
      stateVersion: 1,
      tenantState: 'active',
      ...more,
    };
    principals.set(minted.principalId, { principal, sha: Buffer.from(minted.secretSha256).toString('hex') });
    return minted.token;
  }

  function invite(tenant: string) {
    const minted = mintToken('invitation');
    invitations.set(minted.principalId, tenant);
    return { token: minted.token, expiresAt: AT };
  }

  function newApiKey(tenant: string, input: Pick<ApiKey, 'name' | 'role' | 'scopes' | 'purposes'>) {
    const token = addPrincipal(input.role, tenant, { scopes: input.scopes, purposes: input.purposes });
    const id = parseToken(token)?.principalId ?? '';
    // `secret` is here so that a test sees whether a field that the schema does not name can leave.
    const apiKey = { id, ...input, state: 'active' as const, createdAt: AT, tenant, secret: 'canary' };
    apiKeys.set(id, apiKey);
    return { token, apiKey };
  }

  function tenantOf(id: string): Tenant {
    const found = tenants.get(id);
    if (found === undefined) throw new ServiceError('NOT_FOUND');
    return found;
  }

  function setState(id: string, state: Tenant['state']): Tenant {
    const changed = { ...tenantOf(id), state };
    tenants.set(id, changed);
    return changed;
  }

  function ofTenant<Thing extends { tenant: string }>(
    things: Map<string, Thing>,
    id: string,
    tenant: string,
  ): Thing {
    const found = things.get(id);
    if (found === undefined || found.tenant !== tenant) throw new ServiceError('NOT_FOUND');
    return found;
  }

  function seal(input: Encrypt) {
    return {
      envelope: Buffer.concat([MAGIC, input.plaintext]),
      keyId: `key_${'f'.repeat(25)}a`,
      keyVersion: 1,
    };
  }

  function open(input: Decrypt) {
    if (input.purpose === 'wrong') throw new ServiceError('DECRYPT_FAILED', { detail: 'tag' });
    return { plaintext: new Uint8Array(input.envelope.slice(4)) };
  }

  function each<In extends { reference: string }, Out>(
    items: readonly In[],
    work: (item: In) => Out,
  ): Batch<Out> {
    const done = items.map((item) => {
      try {
        return { reference: item.reference, ok: true as const, ...work(item) };
      } catch (error) {
        return { reference: item.reference, ok: false as const, code: (error as ServiceError).code };
      }
    });
    return { items: done, receipts: [receipt()] };
  }

  const services: Services = {
    async authenticate(token) {
      const found = principals.get(token.principalId);
      if (found === undefined || found.sha !== Buffer.from(token.secretSha256).toString('hex')) {
        throw new ServiceError('UNAUTHENTICATED');
      }
      return found.principal;
    },
    countUnauthenticated() {
      fake.unauthenticated++;
    },
    async refused(refusal) {
      fake.refusals.push(refusal);
      return receipt();
    },
    failed(failure) {
      fake.failures.push(failure);
    },
    checkEnvelope(envelope) {
      if (Buffer.compare(envelope.subarray(0, 4), MAGIC) !== 0) throw new ServiceError('ENVELOPE_MALFORMED');
    },
    readiness: async () => ({ ready: true, checks: { store: 'ok', log: 'ok' } }),
    async createTenant(_call, { name }) {
      const id = tenantId(String.fromCharCode(0x67 + tenants.size));
      const tenant: Tenant = { id, name, state: 'active', createdAt: AT };
      tenants.set(id, tenant);
      return { tenant, invitation: invite(id) };
    },
    listTenants: async () => [...tenants.values()],
    readTenant: async (call) => tenantOf(call.tenant),
    suspendTenant: async (call) => setState(call.tenant, 'suspended'),
    resumeTenant: async (call) => setState(call.tenant, 'active'),
    inviteAdmin: async (call) => invite(tenantOf(call.tenant).id),
    async redeemInvitation(_call, { invitation, name }) {
      const tenant = invitations.get(invitation.principalId);
      if (tenant === undefined) throw new ServiceError('UNAUTHENTICATED');
      invitations.delete(invitation.principalId);
      return {
        tenant,
        ...newApiKey(tenant, { name, role: 'tenant-admin', scopes: ['default'], purposes: [] }),
      };
    },
    createApiKey: async (call, input) => newApiKey(call.tenant, input),
    listApiKeys: async (call) => [...apiKeys.values()].filter((key) => key.tenant === call.tenant),
    async revokeApiKey(call, id) {
      ofTenant(apiKeys, id, call.tenant);
      principals.delete(id);
    },
    async registerCustomerKey(call, input) {
      const id = `ckey_${String.fromCharCode(0x66 + customerKeys.size).repeat(25)}a`;
      const key = customerKey(id, call.tenant, input);
      customerKeys.set(id, key);
      return key;
    },
    listCustomerKeys: async (call) => [...customerKeys.values()].filter((key) => key.tenant === call.tenant),
    readCustomerKey: async (call, id) => ({
      ...ofTenant(customerKeys, id, call.tenant),
      kms: { state: 'enabled', keyVersion: '', bindsContext: true },
    }),
    async verifyCustomerKey(call, id) {
      ofTenant(customerKeys, id, call.tenant);
      return { state: 'verified', checks: [{ check: 'wraps', ok: true, action: '' }] };
    },
    activateCustomerKey: async (call, id, input) => ({
      ...ofTenant(customerKeys, id, call.tenant),
      state: 'active',
      scopes: [input.scope],
    }),
    disableCustomerKey: async (call, id) => ({
      ...ofTenant(customerKeys, id, call.tenant),
      state: 'disabled',
    }),
    encrypt: async (_call, input) => ({ ...seal(input), receipt: receipt() }),
    decrypt: async (_call, input) => ({ ...open(input), receipt: receipt() }),
    encryptBatch: async (_call, items) => each(items, seal),
    decryptBatch: async (_call, items) => each(items, open),
    async searchEntries(_call, { from, limit }) {
      const entries = Array.from({ length: Math.min(limit, 2) }, (_, i) => ({
        i: from + i,
        h: receipt().leafHash,
        leaf: '{"v":"keytether.log/1"}',
      }));
      return { entries, next: from === 0 ? 2 : undefined };
    },
    readCheckpoint: async () => 'log.test/audit/x\n1\nAAAA\n\n— log.test/audit/x AAAA\n',
    readLogKey: async () => 'log.test/audit/x+00000000+AAAA',
    readTile: async (_call, tile) => new Uint8Array(tile.width * 32).fill(0xf1),
    proveEntry: async () => 'c2sp.org/tlog-proof@v1\n',
    proveConsistency: async (_call, { from, to = 9 }) => ({ from, to, proof: [receipt().leafHash] }),
    async readLog(_call, { from, limit }) {
      const entries = Array.from({ length: Math.min(limit, 3) }, (_, i) => ({
        index: from + i,
        leafHash: receipt().leafHash,
        leaf: '{"v":"keytether.log/1"}',
      }));
      return { origin: 'log.test/audit/x', size: from + 3, root: receipt().leafHash, entries };
    },
    recordReconciliation: async () => receipt(),
  };

  const fake: FakeServices = Object.assign(
    counted(services, calls, (name) => fake.before(name)),
    {
      calls,
      refusals: [],
      failures: [],
      tenants,
      unauthenticated: 0,
      addPrincipal,
      before: () => {},
    },
  );
  return fake;
}

/** Bookkeeping is not work: these may run for a refused request. */
const UNCOUNTED = new Set(['countUnauthenticated', 'failed', 'checkEnvelope', 'refused']);

function counted(
  services: Services,
  calls: string[],
  before: (name: string) => Promise<void> | void,
): Services {
  const wrapped = Object.entries(services).map(
    ([name, method]: [string, (...args: unknown[]) => unknown]) => {
      if (UNCOUNTED.has(name)) return [name, method];
      const run = async (...args: unknown[]) => {
        calls.push(name);
        await before(name);
        return method(...args);
      };
      return [name, run];
    },
  );
  return Object.fromEntries(wrapped) as Services;
}
