/** API keys of a tenant and the invitation that makes the first one. A token is shown once, in the answer that makes it. */
import { z } from 'zod';
import { ServiceError } from '../../errors.ts';
import { parseToken } from '../../service/token.ts';
import { type Route, route } from '../route.ts';
import { label, name, time } from '../schema.ts';

const MAX_GRANTS = 64;
const ROLES = ['tenant-admin', 'service', 'auditor'] as const;

const apiKey = z.object({
  id: z.string(),
  name: z.string(),
  role: z.enum(ROLES),
  scopes: z.array(z.string()),
  purposes: z.array(z.string()),
  state: z.enum(['active', 'revoked', 'expired']),
  createdAt: time,
  expiresAt: time.optional(),
});
const token = z.string().meta({ description: 'The API key. Shown once and not stored.' });

/** Labels that differ, or `*` alone. */
const grants = z
  .array(z.string())
  .max(MAX_GRANTS)
  .refine(
    (list) => (list.includes('*') ? list.length === 1 : list.every((one) => label.safeParse(one).success)),
    {
      params: {
        rule: 'must be labels of lower-case letters, digits, dot, underscore and hyphen, or * alone',
      },
    },
  )
  .refine((list) => new Set(list).size === list.length, { params: { rule: 'must differ' } });

const newApiKey = z
  .strictObject({
    name,
    role: z.enum(ROLES),
    scopes: grants
      .min(1)
      .default(['default'])
      .meta({ description: 'Scopes that the key may use; `*` alone means all.' }),
    purposes: grants.default([]).meta({
      description: 'Purposes that the key may state; `*` alone means all. Required for the role service.',
    }),
    expiresAt: time.optional(),
  })
  .refine((key) => key.role !== 'service' || key.purposes.length > 0, {
    path: ['purposes'],
    params: { rule: 'must be given for the role service' },
  });

export const principalRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/v1/invitations/redeem',
    summary: 'Spend a one-time invitation and get the API key of a tenant admin',
    action: 'anyone',
    request: z.strictObject({ invitation: z.string().max(256), name }),
    response: z.object({ tenant: z.string(), token, apiKey }),
    status: 201,
    codes: ['UNAUTHENTICATED', 'STORE_UNAVAILABLE', 'LOG_UNAVAILABLE'],
    async handle({ services, call, body }) {
      const invitation = parseToken(body.invitation);
      if (invitation?.kind !== 'invitation') throw new ServiceError('UNAUTHENTICATED');
      const { requestId, arrivedAt } = call;
      return {
        body: await services.redeemInvitation({ requestId, arrivedAt }, { invitation, name: body.name }),
      };
    },
  }),
  route({
    method: 'POST',
    path: '/v1/tenants/{tenant}/api-keys',
    summary: 'Create an API key for a service, an auditor or another admin',
    action: 'api-key.create',
    request: newApiKey,
    response: z.object({ token, apiKey }),
    status: 201,
    codes: [],
    handle: async ({ services, call, body }) => ({ body: await services.createApiKey(call, body) }),
  }),
  route({
    method: 'GET',
    path: '/v1/tenants/{tenant}/api-keys',
    summary: 'List the API keys; their secrets are never shown again',
    action: 'api-key.list',
    response: z.object({ apiKeys: z.array(apiKey) }),
    status: 200,
    codes: [],
    handle: async ({ services, call }) => ({ body: { apiKeys: await services.listApiKeys(call) } }),
  }),
  route({
    method: 'DELETE',
    path: '/v1/tenants/{tenant}/api-keys/{id}',
    summary: 'Revoke an API key; requests that arrive afterwards are refused',
    action: 'api-key.revoke',
    status: 204,
    codes: ['CONFLICT'],
    async handle({ services, call, id }) {
      await services.revokeApiKey(call, id);
      return {};
    },
  }),
];
