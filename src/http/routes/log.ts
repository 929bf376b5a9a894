/** The tenant's usage log, in the exact bytes that were hashed. */
import { z } from 'zod';
import { type Route, route } from '../route.ts';

const MAX_PAGE = 1_000;
const DEFAULT_PAGE = 100;

function digits(longest: number) {
  return z.string().regex(new RegExp(`^(?:0|[1-9][0-9]{0,${longest - 1}})$`));
}

export const logRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/tenants/{tenant}/log',
    summary: 'Read entries of the usage log with what is needed to verify them',
    action: 'log.read',
    query: z.strictObject({
      from: digits(15).default('0').transform(Number).meta({ description: 'Index of the first entry.' }),
      limit: digits(4)
        .default(String(DEFAULT_PAGE))
        .transform(Number)
        .refine((limit) => limit >= 1 && limit <= MAX_PAGE, { params: { rule: `must be 1 to ${MAX_PAGE}` } })
        .meta({ description: `At most ${MAX_PAGE} entries.` }),
    }),
    response: z.object({
      origin: z.string(),
      size: z.int().nonnegative(),
      root: z.string(),
      entries: z.array(
        z.object({
          index: z.int().nonnegative(),
          leafHash: z.string(),
          leaf: z.string().meta({ description: 'The exact JSON text that was hashed.' }),
        }),
      ),
    }),
    status: 200,
    codes: ['LOG_UNAVAILABLE'],
    handle: async ({ services, call, query }) => ({ body: await services.readLog(call, query) }),
  }),
];
