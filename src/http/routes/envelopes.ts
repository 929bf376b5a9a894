/** Encrypt and decrypt: the data plane. Plaintext buffers are zeroed here once they are encoded or no longer needed. */
import { z } from 'zod';
import { type ErrorCode, KMS_CODES } from '../../errors.ts';
import { fromBase64, toBase64 } from '../base64.ts';
import { problem } from '../problem.ts';
import { type Route, route } from '../route.ts';
import { base64, context, purpose, receipt, resourceId, scope } from '../schema.ts';
import type { Batch, Binding, FailedItem } from '../services.ts';

const MAX_ITEMS = 256;

const binding = { purpose, scope, resourceId, context };
const reference = z.string().min(1).max(128).meta({ description: 'Names the item in the answer.' });
const plaintext = base64.meta({ description: 'At most what fits the body; may be empty.' });
const envelope = base64.meta({ description: 'Exactly as encrypt returned it.' });

const encryptRequest = z.strictObject({ plaintext, ...binding });
const decryptRequest = z.strictObject({ envelope, ...binding });

/** 1 to 256 items with references that differ. */
function itemsOf<Shape extends z.core.$ZodLooseShape>(shape: Shape) {
  const item = z.strictObject({ reference, ...shape });
  return z.strictObject({
    items: z
      .array(item)
      .min(1)
      .max(MAX_ITEMS)
      .refine(
        (items) =>
          new Set(items.map((one) => (one as { reference: string }).reference)).size === items.length,
        {
          params: { rule: 'references must differ' },
        },
      ),
  });
}

const encryptBatchRequest = itemsOf({ plaintext, ...binding });
const decryptBatchRequest = itemsOf({ envelope, ...binding });

const encrypted = { envelope: z.string(), keyId: z.string(), keyVersion: z.int() };
const decrypted = { plaintext: z.string() };
const failedItem = z.object({
  reference,
  ok: z.literal(false),
  error: z.object({
    code: z.string(),
    title: z.string(),
    status: z.int(),
    retryable: z.boolean(),
    fault: z.string(),
    action: z.string(),
  }),
});

function batchOf<Shape extends z.core.$ZodLooseShape>(shape: Shape) {
  return z.object({
    items: z.array(
      z.discriminatedUnion('ok', [z.object({ reference, ok: z.literal(true), ...shape }), failedItem]),
    ),
    receipts: z.array(receipt),
  });
}

const USE_CODES: readonly ErrorCode[] = [
  'CUSTOMER_KEY_DISABLED',
  ...KMS_CODES,
  'CUSTOMER_KEY_NOT_ACTIVE',
  'TENANT_BUSY',
  'RELEASE_EXPIRED',
  'DEADLINE_EXCEEDED',
  'LOG_UNAVAILABLE',
];

function bindingOf(body: Binding): Binding {
  return { purpose: body.purpose, scope: body.scope, resourceId: body.resourceId, context: body.context };
}

function itemError({ code }: FailedItem): object {
  const { title, status, retryable, fault, action } = problem(code, '');
  return { code, title, status, retryable, fault, action };
}

function batchBody<Item>(batch: Batch<Item>, show: (item: Item) => object): object {
  return {
    items: batch.items.map((item) =>
      item.ok
        ? { reference: item.reference, ok: true, ...show(item) }
        : { reference: item.reference, ok: false, error: itemError(item) },
    ),
    receipts: batch.receipts,
  };
}

/** The text of a plaintext that is ours; its bytes are zero afterwards. */
function spend(bytes: Uint8Array): string {
  const text = toBase64(bytes);
  bytes.fill(0);
  return text;
}

export const encryptRoute: Route = route({
  method: 'POST',
  path: '/v1/tenants/{tenant}/encrypt',
  summary: 'Encrypt one value under the tenant’s customer key',
  action: 'envelope.encrypt',
  request: encryptRequest,
  response: z.object({ ...encrypted, receipt }),
  exact: true,
  status: 200,
  codes: USE_CODES,
  targets: (body) => [body],
  async handle({ services, call, body }) {
    const plaintext = fromBase64(body.plaintext);
    try {
      const done = await services.encrypt(call, { ...bindingOf(body), plaintext });
      const { keyId, keyVersion, receipt } = done;
      return { body: { envelope: toBase64(done.envelope), keyId, keyVersion, receipt }, receipt };
    } finally {
      plaintext.fill(0);
    }
  },
});

export const decryptRoute: Route = route({
  method: 'POST',
  path: '/v1/tenants/{tenant}/decrypt',
  summary: 'Decrypt one envelope after a fresh answer of the customer’s KMS',
  action: 'envelope.decrypt',
  request: decryptRequest.transform((body) => ({ ...body, envelope: fromBase64(body.envelope) })),
  response: z.object({ ...decrypted, receipt }),
  exact: true,
  status: 200,
  codes: [...USE_CODES, 'ENVELOPE_MALFORMED', 'DECRYPT_FAILED'],
  check: (body, services) => services.checkEnvelope(body.envelope),
  targets: (body) => [body],
  async handle({ services, call, body }) {
    const { envelope } = body;
    const done = await services.decrypt(call, { ...bindingOf(body), envelope });
    const { receipt } = done;
    return { body: { plaintext: spend(done.plaintext), receipt }, receipt };
  },
});

const encryptBatchRoute = route({
  method: 'POST',
  path: '/v1/tenants/{tenant}/encrypt/batch',
  summary: 'Encrypt up to 256 values; each succeeds or fails by itself',
  action: 'envelope.encrypt',
  request: encryptBatchRequest,
  response: batchOf(encrypted),
  exact: true,
  status: 200,
  codes: USE_CODES,
  targets: (body) => body.items,
  async handle({ services, call, body }) {
    const items = body.items.map((item) => ({
      ...bindingOf(item),
      reference: item.reference,
      plaintext: fromBase64(item.plaintext),
    }));
    try {
      const batch = await services.encryptBatch(call, items);
      const show = (item: { envelope: Uint8Array; keyId: string; keyVersion: number }) => ({
        envelope: toBase64(item.envelope),
        keyId: item.keyId,
        keyVersion: item.keyVersion,
      });
      return { body: batchBody(batch, show) };
    } finally {
      for (const { plaintext } of items) plaintext.fill(0);
    }
  },
});

const decryptBatchRoute = route({
  method: 'POST',
  path: '/v1/tenants/{tenant}/decrypt/batch',
  summary: 'Decrypt up to 256 envelopes; each succeeds or fails by itself',
  action: 'envelope.decrypt',
  request: decryptBatchRequest,
  response: batchOf(decrypted),
  exact: true,
  status: 200,
  codes: [...USE_CODES, 'ENVELOPE_MALFORMED', 'DECRYPT_FAILED'],
  targets: (body) => body.items,
  async handle({ services, call, body }) {
    const items = body.items.map((item) => ({
      ...bindingOf(item),
      reference: item.reference,
      envelope: fromBase64(item.envelope),
    }));
    const batch = await services.decryptBatch(call, items);
    return { body: batchBody(batch, (item) => ({ plaintext: spend(item.plaintext) })) };
  },
});

export const envelopeRoutes: readonly Route[] = [
  encryptRoute,
  decryptRoute,
  encryptBatchRoute,
  decryptBatchRoute,
];
