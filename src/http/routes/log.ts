/** The tenant's usage log, in the exact bytes that were hashed. */
import { z } from 'zod';
import { OUR_CLASSES, THEIR_CLASSES } from '../../reconcile/classes.ts';
import { isBase64 } from '../base64.ts';
import { type Route, route } from '../route.ts';
import { receipt, time } from '../schema.ts';

const MAX_PAGE = 1_000;
const DEFAULT_PAGE = 100;

function digits(longest: number) {
  return z.string().regex(new RegExp(`^(?:0|[1-9][0-9]{0,${longest - 1}})$`));
}

const MAX_INPUTS = 32;
const MAX_GAPS = 32;

const count = z.int().nonnegative();
/** In the log times are microseconds since 1970, as integers that JSON carries exactly. */
const moment = time.refine((text) => Number.isSafeInteger(Date.parse(text) * 1000) && Date.parse(text) >= 0, {
  params: { rule: 'must be between the years 1970 and 2255' },
});
const interval = z
  .strictObject({ from: moment, until: moment })
  .refine(({ from, until }) => Date.parse(from) <= Date.parse(until), {
    params: { rule: 'must not end before it begins' },
  });

function counts<const Names extends readonly string[]>(names: Names) {
  return z.strictObject(
    Object.fromEntries(names.map((name) => [name, count])) as Record<Names[number], typeof count>,
  );
}

const reconciled = z.strictObject({
  window: interval.meta({ description: 'The time that both logs cover.' }),
  gaps: z.array(interval).max(MAX_GAPS).default([]).meta({ description: 'Holes in that time.' }),
  counts: z.strictObject({
    ours: counts(OUR_CLASSES),
    theirs: counts(THEIR_CLASSES),
    malformed: count,
  }),
  inputs: z
    .array(
      z.strictObject({
        side: z.enum(['ours', 'theirs']),
        sha256: z
          .string()
          .refine((text) => isBase64(text) && /[^=]=$/.test(text), {
            params: { rule: 'must be canonical padded base64 of 32 bytes' },
          })
          .meta({ contentEncoding: 'base64', description: 'SHA-256 of the file.' }),
        bytes: count,
      }),
    )
    .min(1)
    .max(MAX_INPUTS),
});

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
  route({
    method: 'POST',
    path: '/v1/tenants/{tenant}/log/reconciliations',
    summary: 'Record the result of a comparison of this log with the customer’s own KMS log',
    action: 'log.reconcile',
    request: reconciled,
    response: z.object({ receipt }),
    status: 201,
    codes: ['LOG_UNAVAILABLE'],
    handle: async ({ services, call, body }) => {
      const receipt = await services.recordReconciliation(call, body);
      return { body: { receipt }, receipt };
    },
  }),
];
