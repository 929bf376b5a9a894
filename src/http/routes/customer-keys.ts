/** The keys in the customer's own KMS: registered, verified (works and refuses), activated for a scope, disabled. */
import { z } from 'zod';
import { KMS_CODES } from '../../errors.ts';
import { type Route, route } from '../route.ts';
import { scope } from '../schema.ts';

const state = z.enum(['registered', 'verified', 'active', 'disabled']);
const customerKey = z.object({
  id: z.string(),
  provider: z.string(),
  keyRef: z.string(),
  access: z.record(z.string(), z.unknown()),
  state,
  scopes: z.array(z.string()),
  version: z.int().nonnegative(),
});
const describedKey = customerKey.extend({
  kms: z.object({
    state: z.enum(['enabled', 'disabled', 'pending-deletion', 'unavailable', 'unknown']),
    keyVersion: z.string().optional(),
    bindsContext: z.boolean().optional(),
    code: z.string().optional().meta({ description: 'Why the KMS gave no answer.' }),
  }),
});
const newCustomerKey = z.strictObject({
  provider: z
    .string()
    .regex(/^[a-z][a-z0-9-]{0,31}$/)
    .meta({ description: 'The kind of KMS, such as `aws-kms`.' }),
  keyRef: z.string().min(1).max(2_048).meta({ description: 'The full vendor name of the key.' }),
  access: z.record(z.string(), z.unknown()).meta({
    description: 'How the key is reached. Its fields depend on the provider; secrets are named by id only.',
  }),
});

export const customerKeyRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/v1/tenants/{tenant}/customer-keys',
    summary: 'Register a key of the customer’s KMS',
    action: 'customer-key.register',
    request: newCustomerKey,
    response: customerKey,
    status: 201,
    codes: ['CONFLICT', 'KMS_MISCONFIGURED'],
    handle: async ({ services, call, body }) => ({ body: await services.registerCustomerKey(call, body) }),
  }),
  route({
    method: 'GET',
    path: '/v1/tenants/{tenant}/customer-keys',
    summary: 'List the customer keys',
    action: 'customer-key.list',
    response: z.object({ customerKeys: z.array(customerKey) }),
    status: 200,
    codes: [],
    handle: async ({ services, call }) => ({ body: { customerKeys: await services.listCustomerKeys(call) } }),
  }),
  route({
    method: 'GET',
    path: '/v1/tenants/{tenant}/customer-keys/{id}',
    summary: 'Read one customer key',
    action: 'customer-key.read',
    response: describedKey,
    status: 200,
    codes: [],
    handle: async ({ services, call, id }) => ({ body: await services.readCustomerKey(call, id) }),
  }),
  route({
    method: 'POST',
    path: '/v1/tenants/{tenant}/customer-keys/{id}/verify',
    summary: 'Prove that the key works for us and refuses what it must refuse',
    action: 'customer-key.verify',
    request: z.strictObject({}),
    response: z.object({
      state,
      checks: z.array(z.object({ check: z.string(), ok: z.boolean(), action: z.string() })),
    }),
    status: 200,
    codes: [...KMS_CODES, 'CONFLICT'],
    handle: async ({ services, call, id }) => ({ body: await services.verifyCustomerKey(call, id) }),
  }),
  route({
    method: 'POST',
    path: '/v1/tenants/{tenant}/customer-keys/{id}/activate',
    summary: 'Make a verified key the one that protects a scope',
    action: 'customer-key.activate',
    request: z.strictObject({
      scope,
      oneFlightPerUse: z
        .boolean()
        .default(false)
        .meta({ description: 'One KMS call for each use, instead of one answer for simultaneous uses.' }),
    }),
    response: customerKey,
    status: 200,
    codes: [...KMS_CODES, 'CONFLICT', 'CUSTOMER_KEY_NOT_ACTIVE'],
    handle: async ({ services, call, id, body }) => ({
      body: await services.activateCustomerKey(call, id, body),
    }),
  }),
  route({
    method: 'POST',
    path: '/v1/tenants/{tenant}/customer-keys/{id}/disable',
    summary: 'Stop all use of a customer key in Keytether',
    action: 'customer-key.disable',
    request: z.strictObject({}),
    response: customerKey,
    status: 200,
    codes: ['CONFLICT'],
    handle: async ({ services, call, id }) => ({ body: await services.disableCustomerKey(call, id) }),
  }),
];
