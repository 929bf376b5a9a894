/** The rows of the service itself: decrypts at 1, 10 and many tenants, encrypts, batches, and a KMS call for each use. */
import type { Pace } from './floor-row.ts';
import type { PlannedRequest } from './load.ts';
import { measureRow, type Row } from './row.ts';
import { startStack } from './stack.ts';
import {
  type BenchTenant,
  batchRequest,
  createTenants,
  decryptRequest,
  encryptRequest,
  perUseRequest,
} from './tenants.ts';

export interface ServiceRows {
  readonly one: readonly Row[];
  readonly ten: readonly Row[];
  readonly many: Row;
  readonly shared: Row;
  readonly perUse: Row;
  readonly encrypt: Row;
  readonly batch: Row;
}

/** Of each customer's KMS, and of the one that all share in one row. */
export const CALLS_PER_SECOND = 500;
const KMS_LATENCY_MS = 20;
const BATCH_ITEMS = 100;
/** Where most requests wait for their KMS call, more connections would only wait longer. */
const PER_USE_CONNECTIONS = 64;
const BATCH_CONNECTIONS = 96;

export interface ServiceBench {
  /** Tenants of the rows with many. */
  readonly tenants: number;
  readonly connections: readonly number[];
  readonly pace: Pace;
}

export async function serviceRows({ tenants: count, connections, pace }: ServiceBench): Promise<ServiceRows> {
  const stack = await startStack({ keys: count, kmsLatencyMs: KMS_LATENCY_MS });
  try {
    const { kms, processes, port } = stack;
    const all = await createTenants(stack);
    const most = Math.max(...connections);
    const row = (
      name: string,
      tenants: readonly BenchTenant[],
      request: (tenant: BenchTenant) => PlannedRequest,
      more: { readonly connections?: number; readonly itemsPerRequest?: number } = {},
    ): Promise<Row> =>
      measureRow({
        name,
        processes,
        kmsCalls: kms.calls,
        itemsPerRequest: more.itemsPerRequest ?? 1,
        plan: {
          host: '127.0.0.1',
          port,
          connections: more.connections ?? most,
          requestSets: tenants.map((tenant) => [request(tenant)]),
          ...pace,
          drainMs: 5_000,
          maxRequests: 50_000_000,
          pauseAfterErrorMs: 50,
        },
      });

    await kms.limit({ rate: CALLS_PER_SECOND, rateBy: 'key' });
    const one: Row[] = [];
    const ten: Row[] = [];
    for (const each of connections) {
      one.push(await row('decrypt, 1 tenant', all.slice(0, 1), decryptRequest, { connections: each }));
      ten.push(await row('decrypt, 10 tenants', all.slice(0, 10), decryptRequest, { connections: each }));
    }
    const encrypt = await row('encrypt, 10 tenants', all.slice(0, 10), encryptRequest);
    const batch = await row(
      `decrypt in batches of ${BATCH_ITEMS}, items, 1 tenant`,
      all.slice(0, 1),
      (tenant) => batchRequest(tenant, BATCH_ITEMS),
      { connections: BATCH_CONNECTIONS, itemsPerRequest: BATCH_ITEMS },
    );
    const perUse = await row('decrypt, 1 tenant, a KMS call for each', all.slice(0, 1), perUseRequest, {
      connections: PER_USE_CONNECTIONS,
    });
    const many = await row(`decrypt, ${count} tenants`, all, decryptRequest, {
      connections: Math.max(most, count),
    });
    await kms.limit({ rate: CALLS_PER_SECOND, rateBy: 'account' });
    const shared = await row(
      `decrypt, ${count} tenants, ${CALLS_PER_SECOND} KMS calls/s for all together`,
      all,
      decryptRequest,
      { connections: Math.max(most, count) },
    );
    return { one, ten, many, shared, perUse, encrypt, batch };
  } finally {
    await stack.stop();
  }
}
