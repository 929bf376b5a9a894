/** Pieces of the request and response schemas that several routes share. They are also what the API description shows. */
import { z } from 'zod';
import { DEFAULT_SCOPE } from '../brand.ts';
import { isBase64 } from './base64.ts';

const MAX_CONTEXT_PAIRS = 16;
const MAX_CONTEXT_BYTES = 8_192;
const MAX_RESOURCE_ID_BYTES = 1_024;

/** A predicate with the rule that a failure of it reports. */
function must<T>(schema: z.ZodType<T>, rule: string, holds: (value: T) => boolean): z.ZodType<T> {
  return schema.refine(holds, { params: { rule } });
}

function utf8Length(text: string): number {
  return Buffer.byteLength(text);
}

export const label = z
  .string()
  .regex(/^[a-z0-9][a-z0-9._-]{0,63}$/)
  .meta({ description: 'Lower-case letters, digits, dot, underscore and hyphen; 1 to 64 characters.' });

export const scope = label
  .default(DEFAULT_SCOPE)
  .meta({ description: 'The slice of the tenant whose customer key protects the data.' });

export const purpose = label.meta({ description: 'What the data is for; part of what binds it.' });

export const name = must(
  z.string().min(1).max(200),
  'must have no control characters and no space at its ends',
  (text) => text.trim() === text && !/\p{Cc}/u.test(text),
).meta({ description: 'A name for people, 1 to 200 characters.' });

export const base64 = must(z.string(), 'must be canonical padded base64', isBase64).meta({
  contentEncoding: 'base64',
});

export const resourceId = must(
  z.string(),
  `must be at most ${MAX_RESOURCE_ID_BYTES} bytes of UTF-8`,
  (text) => text.length <= MAX_RESOURCE_ID_BYTES && utf8Length(text) <= MAX_RESOURCE_ID_BYTES,
)
  .default('')
  .meta({ description: 'The id of the thing that the data belongs to; at most 1,024 bytes of UTF-8.' });

export const context = must(
  z.record(z.string(), z.string()),
  `must have at most ${MAX_CONTEXT_PAIRS} pairs, no empty name, and at most ${MAX_CONTEXT_BYTES} bytes in all`,
  fitsContext,
)
  .default({})
  .meta({
    description:
      'Name–value pairs bound to the message and not stored in it: at most 16, at most 8,192 bytes of UTF-8 in all.',
  });

function fitsContext(pairs: Record<string, string>): boolean {
  let count = 0;
  let bytes = 0;
  for (const key of Object.keys(pairs)) {
    count++;
    bytes += utf8Length(key) + utf8Length(pairs[key] ?? '');
    if (key === '' || count > MAX_CONTEXT_PAIRS || bytes > MAX_CONTEXT_BYTES) return false;
  }
  return true;
}

export const time = z.iso.datetime();
export const receipt = z.object({
  origin: z.string(),
  index: z.int().nonnegative(),
  leafHash: z.string().meta({ description: 'RFC 6962 leaf hash, 32 bytes as base64.' }),
  durability: z.enum(['durable', 'replicated', 'process']),
});
export const tenantState = z.enum(['active', 'suspended']);
