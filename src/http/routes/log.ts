/**
 * The tenant's usage log, in the exact bytes that were hashed. `checkpoint` and `tile` are a log of c2sp.org/tlog-tiles whose
 * prefix is `/v1/tenants/{tenant}/log`, so that tools for such logs read it over this API.
 */
import { z } from 'zod';
import { parseTilePath } from '../../audit/tiles.ts';
import { HEADER } from '../../brand.ts';
import { ServiceError } from '../../errors.ts';
import { OUR_CLASSES, THEIR_CLASSES } from '../../reconcile/classes.ts';
import { isBase64 } from '../base64.ts';
import { type Route, route } from '../route.ts';
import { receipt, time } from '../schema.ts';

const MAX_PAGE = 1_000;
const DEFAULT_PAGE = 100;
const TEXT = 'text/plain; charset=utf-8';

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
const index = digits(15).transform(Number);
const from = digits(15).default('0').transform(Number).meta({ description: 'Index of the first entry.' });
const limit = digits(4)
  .default(String(DEFAULT_PAGE))
  .transform(Number)
  .refine((each) => each >= 1 && each <= MAX_PAGE, { params: { rule: `must be 1 to ${MAX_PAGE}` } })
  .meta({ description: `At most ${MAX_PAGE} entries.` });
const word = z.string().regex(/^[a-z][a-z0-9._-]{0,63}$/);
const thing = z.string().regex(/^[a-z]{3,5}_[a-z2-7]{26}$/);

export const logRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/tenants/{tenant}/log',
    summary: 'Read entries of the usage log with what is needed to verify them',
    action: 'log.read',
    query: z.strictObject({ from, limit }),
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
  route({
    method: 'GET',
    path: '/v1/tenants/{tenant}/log/entries',
    summary: `Find entries of the usage log, as JSON lines of index \`i\`, leaf hash \`h\` and the exact \`leaf\`. Where ${HEADER.next} comes along there is more, from that index on`,
    action: 'log.read',
    query: z.strictObject({
      from,
      to: index.optional().meta({ description: 'Index behind the last entry.' }),
      limit,
      typ: word.optional(),
      op: word.optional(),
      out: z.enum(['ok', 'denied', 'error', 'unknown']).optional(),
      key: thing.optional().meta({ description: 'Id of a key of ours or of a customer key.' }),
      actor: thing.optional().meta({ description: 'Id of the principal who asked.' }),
    }),
    media: 'application/x-ndjson',
    status: 200,
    codes: [],
    async handle({ services, call, query }) {
      const { entries, next } = await services.searchEntries(call, query);
      return {
        raw: entries.map((entry) => `${JSON.stringify(entry)}\n`).join(''),
        headers: next === undefined ? [] : [HEADER.next, String(next)],
      };
    },
  }),
  route({
    method: 'GET',
    path: '/v1/tenants/{tenant}/log/entries/{eid}/proof',
    summary: 'Prove that an entry is in the log: a c2sp.org/tlog-proof under the newest checkpoint',
    action: 'log.read',
    media: TEXT,
    status: 200,
    codes: ['CHECKPOINT_PENDING'],
    async handle({ services, call, id }) {
      return {
        raw: await services.proveEntry(call, new Uint8Array(Buffer.from(id.replaceAll('-', ''), 'hex'))),
      };
    },
  }),
  route({
    method: 'GET',
    path: '/v1/tenants/{tenant}/log/checkpoint',
    summary: 'Read the newest signed checkpoint: a c2sp.org/tlog-checkpoint',
    action: 'log.read',
    media: TEXT,
    status: 200,
    codes: ['CHECKPOINT_PENDING'],
    handle: async ({ services, call }) => ({ raw: await services.readCheckpoint(call) }),
  }),
  route({
    method: 'GET',
    path: '/v1/tenants/{tenant}/log/vkey',
    summary: 'Read the verifier key of the newest checkpoint. Get it once, keep it, and compare',
    action: 'log.read',
    media: TEXT,
    status: 200,
    codes: ['CHECKPOINT_PENDING'],
    handle: async ({ services, call }) => ({ raw: `${await services.readLogKey(call)}\n` }),
  }),
  route({
    method: 'GET',
    path: '/v1/tenants/{tenant}/log/tile/{tile}',
    summary:
      'Read a tile of hashes or a bundle of entries: a path of c2sp.org/tlog-tiles, such as `0/x001/234.p/5` or `entries/000`',
    action: 'log.read',
    media: 'application/octet-stream',
    immutable: true,
    status: 200,
    codes: ['CHECKPOINT_PENDING'],
    async handle({ services, call, id }) {
      const tile = parseTilePath(`tile/${id}`);
      if (tile === undefined) throw new ServiceError('NOT_FOUND');
      return { raw: await services.readTile(call, tile) };
    },
  }),
  route({
    method: 'GET',
    path: '/v1/tenants/{tenant}/log/consistency',
    summary:
      'Prove that the log at one size is the beginning of the log at another; `to` is the newest checkpoint’s unless given',
    action: 'log.read',
    query: z.strictObject({ from: index, to: index.optional() }),
    response: z.object({
      from: z.int().nonnegative(),
      to: z.int().nonnegative(),
      proof: z.array(z.string()).meta({ description: 'RFC 6962 hashes as base64.' }),
    }),
    status: 200,
    codes: ['CHECKPOINT_PENDING'],
    handle: async ({ services, call, query }) => ({ body: await services.proveConsistency(call, query) }),
  }),
];
