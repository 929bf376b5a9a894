/** Is the process alive, and may it get traffic. Open to anyone: the answers name parts of the service and nothing else. */
import { z } from 'zod';
import { type Route, route } from '../route.ts';

export const healthRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/health',
    summary: 'Whether the process is alive',
    action: 'anyone',
    response: z.object({ status: z.literal('ok') }),
    exact: true,
    status: 200,
    codes: [],
    handle: async () => ({ body: { status: 'ok' } }),
  }),
  route({
    method: 'GET',
    path: '/ready',
    summary: 'Whether this replica can serve; 503 when it cannot',
    action: 'anyone',
    response: z.object({
      status: z.enum(['ready', 'not ready']),
      checks: z.record(z.string(), z.enum(['ok', 'failed'])),
    }),
    status: 200,
    codes: [],
    async handle({ services }) {
      const { ready, checks } = await services.readiness();
      return { status: ready ? 200 : 503, body: { status: ready ? 'ready' : 'not ready', checks } };
    },
  }),
];
