/** Every public verb of the product, joined over one core: what the HTTP side calls. */

import { SYSTEM_TENANT } from '../brand.ts';
import { parseMessage } from '../crypto/message.ts';
import type { ErrorCode } from '../errors.ts';
import type { Keyring } from '../keyring/keyring.ts';
import type { Receipt } from '../receipt.ts';
import type { ReconciliationSummary } from '../reconcile/summary.ts';
import { readPrincipals } from '../store/principals.ts';
import { createAuthenticator } from './authenticate.ts';
import type { Action, Principal } from './authorize.ts';
import { authRow, type Callers, checkCaller } from './callers.ts';
import { actorOf, type Core, receiptOf, recordNow } from './core.ts';
import { createCustomerKeys } from './customer-keys.ts';
import { createEnvelopes } from './envelopes.ts';
import { createLogReader } from './log.ts';
import { createTenants } from './tenants.ts';

/** Where failures of ours go: the operator's log, fields by name and never a value of a request. */
export type Report = (failure: { requestId: string; route: string; code: ErrorCode; error: unknown }) => void;

/** What the replica knows of itself without asking. */
export interface Health {
  /** Whether commits still survive what they did at the start. */
  readonly durable: boolean;
  /** Whether signed checkpoints follow the log. */
  readonly published: boolean;
}

export function createServices(
  core: Core,
  keyring: Keyring,
  callers: Callers,
  report: Report,
  health: () => Health,
) {
  const authenticator = createAuthenticator({
    readPrincipals: async (ids) => (await readPrincipals(core.db, ids)).map(authRow),
    verifyPrincipal: ({ row }) => checkCaller(row, core.recordKeys),
    now: Date.now,
  });
  const tenants = createTenants(core, callers);
  const customerKeys = createCustomerKeys(core);
  const envelopes = createEnvelopes(core, keyring);
  let nameless = 0;

  return {
    authenticate: authenticator.authenticate,
    failed: report,

    countUnauthenticated() {
      nameless += 1;
    },

    /** Writes the nameless refusals since the last time to the system's tree. */
    async flushUnauthenticated(): Promise<void> {
      const n = nameless;
      if (n === 0) return;
      nameless = 0;
      await recordNow(core, SYSTEM_TENANT, {
        typ: 'access.denied',
        op: 'authenticate',
        act: undefined,
        req: undefined,
        n,
        rsn: 'UNAUTHENTICATED',
      });
    },

    /** A denial is in the caller's own tree before it is answered; the tenant that he named is not. */
    async refused(refusal: {
      principal: Principal;
      action: Action;
      code: ErrorCode;
      requestId: string;
    }): Promise<Receipt> {
      const { principal, action, code, requestId } = refusal;
      const record = await recordNow(core, principal.tenant, {
        typ: 'access.denied',
        op: action,
        act: actorOf(principal),
        req: requestId,
        n: 1,
        rsn: code,
      });
      return receiptOf(core, principal.tenant, record);
    },

    checkEnvelope(envelope: Uint8Array) {
      parseMessage(envelope);
    },

    /** Checkpoints that lag are shown and take no replica out: uses are logged all the same. */
    async readiness() {
      const store = await core.db.query('SELECT 1').then(
        () => true,
        () => false,
      );
      const { durable, published } = health();
      const checks = { store: word(store), durability: word(durable), checkpoints: word(published) };
      return { ready: store && durable, checks };
    },

    createTenant: tenants.create,
    listTenants: tenants.list,
    readTenant: tenants.read,
    suspendTenant: tenants.suspend,
    resumeTenant: tenants.resume,
    inviteAdmin: tenants.invite,

    redeemInvitation: callers.redeemInvitation,
    createApiKey: callers.createApiKey,
    listApiKeys: callers.listApiKeys,
    revokeApiKey: callers.revokeApiKey,

    registerCustomerKey: customerKeys.register,
    listCustomerKeys: customerKeys.list,
    readCustomerKey: customerKeys.describe,
    verifyCustomerKey: customerKeys.verify,
    activateCustomerKey: customerKeys.activate,
    disableCustomerKey: customerKeys.disable,

    ...envelopes,

    async recordReconciliation(
      call: { principal: Principal; tenant: string; requestId: string },
      { window, gaps, counts, inputs }: ReconciliationSummary,
    ) {
      const micros = (at: { readonly from: string; readonly until: string }) => ({
        from: Date.parse(at.from) * 1000,
        until: Date.parse(at.until) * 1000,
      });
      const record = await recordNow(core, call.tenant, {
        typ: 'recon.result',
        act: actorOf(call.principal),
        req: call.requestId,
        win: micros(window),
        gaps: gaps.map(micros),
        n: counts,
        src: inputs.map(({ side, sha256, bytes }) => ({ side, h: sha256, len: bytes })),
      });
      return receiptOf(core, call.tenant, record);
    },

    ...createLogReader(core),
  };
}

function word(ok: boolean): 'ok' | 'failed' {
  return ok ? 'ok' : 'failed';
}
