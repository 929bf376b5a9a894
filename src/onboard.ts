/** From nothing to a tenant that can encrypt, over the HTTP API alone: what operator, tenant admin and service each do. */
import { type ApiClient, expectStatus } from './api-client.ts';

export interface Onboarded {
  readonly tenant: string;
  readonly customerKey: string;
  readonly admin: ApiClient;
  readonly service: ApiClient;
  readonly serviceToken: string;
  readonly auditor: ApiClient;
  /** The proofs that the customer key works and refuses. */
  readonly checks: readonly { readonly check: string; readonly ok: boolean }[];
}

/** `api` is the operator's client. Throws an Error that names the step that failed. */
export async function onboard(
  api: ApiClient,
  input: {
    readonly name: string;
    readonly provider: string;
    readonly keyRef: string;
    readonly access: object;
    /** Runs when the tenant's id is known, before the key is registered: to give the tenant what `access` names. */
    readonly prepare?: (tenant: string) => void;
  },
): Promise<Onboarded> {
  const { name, provider, keyRef, access } = input;
  const created = expectStatus(await api.post('/v1/tenants', { name }), 201);
  const tenant: string = created.tenant.id;
  input.prepare?.(tenant);
  const redeemed = expectStatus(
    await api.post('/v1/invitations/redeem', { invitation: created.invitation.token, name: 'first admin' }),
    201,
  );
  const admin = api.as(redeemed.token);
  const path = `/v1/tenants/${tenant}`;
  const key = expectStatus(await admin.post(`${path}/customer-keys`, { provider, keyRef, access }), 201);
  const { checks } = expectStatus(await admin.post(`${path}/customer-keys/${key.id}/verify`), 200);
  expectStatus(await admin.post(`${path}/customer-keys/${key.id}/activate`), 200);
  const service = expectStatus(
    await admin.post(`${path}/api-keys`, { name: 'billing service', role: 'service', purposes: ['*'] }),
    201,
  );
  const auditor = expectStatus(
    await admin.post(`${path}/api-keys`, { name: 'auditor', role: 'auditor' }),
    201,
  );
  return {
    tenant,
    customerKey: key.id,
    admin,
    service: api.as(service.token),
    serviceToken: service.token,
    auditor: api.as(auditor.token),
    checks,
  };
}
