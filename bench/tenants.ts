/** Tenants of the benchmark, set up over HTTP as any other, and the requests that they send. */
import { type ApiClient, expectStatus } from '../src/api-client.ts';
import { onboard } from '../src/onboard.ts';
import type { PlannedRequest } from './load.ts';
import { decryptBody, encryptBody, headersOf } from './sample.ts';
import { KMS_SECRET, type Stack } from './stack.ts';

export interface BenchTenant {
  readonly tenant: string;
  readonly token: string;
  /** The same tenant in a scope of its own, where every use has a KMS call to itself. */
  readonly perUse: { readonly token: string; readonly envelope: string } | undefined;
  readonly envelope: string;
}

/** Tenants that are set up at the same time. */
const AT_ONCE = 8;
export const PER_USE_SCOPE = 'each';

/** One tenant for each key of the KMS. The first one also has the scope {@link PER_USE_SCOPE}. */
export async function createTenants({ operator, kms }: Stack): Promise<readonly BenchTenant[]> {
  const tenants: BenchTenant[] = [];
  const waiting = kms.keys.entries();
  const work = async (): Promise<void> => {
    for (const [i, keyRef] of waiting) tenants[i] = await createTenant(operator, kms, keyRef, i === 0);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return tenants;
}

async function createTenant(
  operator: ApiClient,
  kms: { readonly url: string; readonly region: string },
  keyRef: string,
  withPerUse: boolean,
): Promise<BenchTenant> {
  const { tenant, admin, service, serviceToken, customerKey } = await onboard(operator, {
    name: 'bench',
    provider: 'aws-kms',
    keyRef,
    access: {
      region: kms.region,
      endpoint: kms.url,
      credentials: { type: 'static', secretId: KMS_SECRET },
    },
  });
  const path = `/v1/tenants/${tenant}`;
  const envelope = await encrypt(service, path, 'default');
  if (!withPerUse) return { tenant, token: serviceToken, envelope, perUse: undefined };
  const activation = { scope: PER_USE_SCOPE, oneFlightPerUse: true };
  expectStatus(await admin.post(`${path}/customer-keys/${customerKey}/activate`, activation), 200);
  const key = { name: 'per use', role: 'service', purposes: ['*'], scopes: [PER_USE_SCOPE] };
  const { token } = expectStatus(await admin.post(`${path}/api-keys`, key), 201);
  const perUse = { token, envelope: await encrypt(service.as(token), path, PER_USE_SCOPE) };
  return { tenant, token: serviceToken, envelope, perUse };
}

async function encrypt(service: ApiClient, path: string, scope: string): Promise<string> {
  return expectStatus(await service.post(`${path}/encrypt`, encryptBody(scope)), 200).envelope;
}

function planned(tenant: string, token: string, verb: string, body: object, expect: string): PlannedRequest {
  return {
    method: 'POST',
    path: `/v1/tenants/${tenant}/${verb}`,
    headers: headersOf(token),
    body: JSON.stringify(body),
    expect,
  };
}

// The plaintext is random in each process, and only this one has sealed with it.
const PLAINTEXT = `"plaintext":"${encryptBody('').plaintext}"`;

export function decryptRequest({ tenant, token, envelope }: BenchTenant): PlannedRequest {
  return planned(tenant, token, 'decrypt', decryptBody('default', envelope), PLAINTEXT);
}

/** @throws Error for a tenant without the scope. */
export function perUseRequest({ tenant, perUse }: BenchTenant): PlannedRequest {
  if (perUse === undefined) throw new Error('this tenant has no scope with a call for each use');
  return planned(tenant, perUse.token, 'decrypt', decryptBody(PER_USE_SCOPE, perUse.envelope), PLAINTEXT);
}

export function encryptRequest({ tenant, token }: BenchTenant): PlannedRequest {
  return planned(tenant, token, 'encrypt', encryptBody('default'), '"envelope":"');
}

/** `items` envelopes in one request. */
export function batchRequest({ tenant, token, envelope }: BenchTenant, items: number): PlannedRequest {
  const body = {
    items: Array.from({ length: items }, (_, i) => ({
      reference: String(i),
      ...decryptBody('default', envelope),
    })),
  };
  return planned(tenant, token, 'decrypt/batch', body, PLAINTEXT);
}
