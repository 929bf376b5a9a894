/**
 * Tenants, for the operator: he makes a tenant and a one-time invitation for its admin, and nothing more. Only the tenant's
 * admin makes keys that can read.
 */
import { z } from 'zod';
import { type Route, route } from '../route.ts';
import { name, tenantState, time } from '../schema.ts';

const tenant = z.object({ id: z.string(), name: z.string(), state: tenantState, createdAt: time });
const invitation = z.object({ token: z.string().meta({ description: 'Shown once.' }), expiresAt: time });

export const tenantRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/v1/tenants',
    summary: 'Create a tenant and a one-time invitation for its admin',
    action: 'tenant.create',
    request: z.strictObject({ name }),
    response: z.object({ tenant, invitation }),
    status: 201,
    codes: ['CONFLICT'],
    handle: async ({ services, call, body }) => ({ body: await services.createTenant(call, body) }),
  }),
  route({
    method: 'GET',
    path: '/v1/tenants',
    summary: 'List the tenants',
    action: 'tenant.list',
    response: z.object({ tenants: z.array(tenant) }),
    status: 200,
    codes: [],
    handle: async ({ services, call }) => ({ body: { tenants: await services.listTenants(call) } }),
  }),
  route({
    method: 'GET',
    path: '/v1/tenants/{tenant}',
    summary: 'Read one tenant',
    action: 'tenant.read',
    response: tenant,
    status: 200,
    codes: [],
    handle: async ({ services, call }) => ({ body: await services.readTenant(call) }),
  }),
  route({
    method: 'POST',
    path: '/v1/tenants/{tenant}/suspend',
    summary: 'Suspend a tenant: no use of its keys until it is resumed',
    action: 'tenant.suspend',
    request: z.strictObject({}),
    response: tenant,
    status: 200,
    codes: ['CONFLICT'],
    handle: async ({ services, call }) => ({ body: await services.suspendTenant(call) }),
  }),
  route({
    method: 'POST',
    path: '/v1/tenants/{tenant}/resume',
    summary: 'Resume a suspended tenant',
    action: 'tenant.resume',
    request: z.strictObject({}),
    response: tenant,
    status: 200,
    codes: ['CONFLICT'],
    handle: async ({ services, call }) => ({ body: await services.resumeTenant(call) }),
  }),
  route({
    method: 'POST',
    path: '/v1/tenants/{tenant}/invitations',
    summary: 'Make a new invitation for the first tenant admin, when the first was lost',
    action: 'tenant.invite',
    request: z.strictObject({}),
    response: z.object({ invitation }),
    status: 201,
    codes: ['CONFLICT'],
    handle: async ({ services, call }) => ({ body: { invitation: await services.inviteAdmin(call) } }),
  }),
];
