/** The route table: everything that the API answers. */
import type { Route } from '../route.ts';
import { customerKeyRoutes } from './customer-keys.ts';
import { envelopeRoutes } from './envelopes.ts';
import { healthRoutes } from './health.ts';
import { logRoutes } from './log.ts';
import { principalRoutes } from './principals.ts';
import { tenantRoutes } from './tenants.ts';

export const ROUTES: readonly Route[] = [
  ...healthRoutes,
  ...tenantRoutes,
  ...principalRoutes,
  ...customerKeyRoutes,
  ...envelopeRoutes,
  ...logRoutes,
];
