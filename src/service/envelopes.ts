/** Encrypt and decrypt, one item or many: from what the caller sent to the keyring and back. */

import type { DurableRecord } from '../audit/sealed.ts';
import type { ErrorCode } from '../errors.ts';
import { codeOf, ServiceError } from '../errors.ts';
import type { Keyring } from '../keyring/keyring.ts';
import {
  type DecryptItem,
  type EncryptItem,
  type ItemResult,
  type KeyUse,
  type Released,
  UseRefused,
} from '../keyring/use.ts';
import type { Receipt } from '../receipt.ts';
import type { Principal } from './authorize.ts';
import { actorOf, type Core, receiptOf } from './core.ts';

/** Who asks, for which tenant, and since when. */
export interface EnvelopeCall {
  readonly principal: Principal;
  readonly tenant: string;
  readonly requestId: string;
  /** Milliseconds of `performance.now()`. */
  readonly arrivedAt: number;
}

interface Scoped {
  readonly scope: string;
}

interface Referenced {
  readonly reference: string;
}

type Failed = { readonly ok: false; readonly reference: string; readonly code: ErrorCode };
type Succeeded<T> = T & { readonly ok: true; readonly reference: string };

export interface BatchResult<T> {
  readonly items: readonly (Succeeded<T> | Failed)[];
  readonly receipts: readonly Receipt[];
}

export interface EncryptedItem {
  readonly envelope: Uint8Array;
  readonly keyId: string;
  readonly keyVersion: number;
}

export interface DecryptedItem {
  /** The caller zeroes it. */
  readonly plaintext: Uint8Array;
}

export function createEnvelopes(core: Core, keyring: Keyring) {
  function useOf(
    call: EnvelopeCall,
    scope: string,
    work:
      | { operation: 'encrypt'; items: readonly EncryptItem[] }
      | { operation: 'decrypt'; items: readonly DecryptItem[] },
  ): KeyUse {
    const { principal, tenant, requestId, arrivedAt } = call;
    const { stateVersion } = principal;
    return { tenant, scope, actor: actorOf(principal), requestId, arrivedAt, stateVersion, ...work };
  }

  /** A refusal carries the receipt of its record; where it made several, of the first. */
  function refusal(tenant: string, error: unknown): unknown {
    if (!(error instanceof UseRefused)) return error;
    const { code, detail, retryAfterSeconds, records } = error;
    const [record] = records;
    return new ServiceError(code, {
      cause: error.cause,
      ...(detail === undefined ? {} : { detail }),
      ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
      ...(record === undefined ? {} : { receipt: receiptOf(core, tenant, record) }),
    });
  }

  async function one(call: EnvelopeCall, use: KeyUse) {
    const released = await keyring.use(use).catch((error) => {
      throw refusal(call.tenant, error);
    });
    const [result] = released.results;
    if (result === undefined) throw new ServiceError('INTERNAL', { detail: 'no-result' });
    const { bytes, keyId, keyVersion } = reveal(result, released);
    const record = released.records[result.leaf];
    if (record === undefined) throw new ServiceError('INTERNAL', { detail: 'no-record' });
    return { bytes, keyId, keyVersion, receipt: receiptOf(core, call.tenant, record) };
  }

  /** Items of one scope share a request to the keyring; a scope that fails as a whole fails its items. */
  async function many<In extends Scoped & Referenced, Out>(
    call: EnvelopeCall,
    items: readonly In[],
    useOfScope: (scope: string, items: readonly In[]) => KeyUse,
    outOf: (revealed: Revealed) => Out,
  ): Promise<BatchResult<Out>> {
    const scopes = [...Map.groupBy(items, (item) => item.scope)];
    const ends = await Promise.allSettled(
      scopes.map(([scope, group]) => keyring.use(useOfScope(scope, group))),
    );
    const [first] = ends;
    if (first?.status === 'rejected' && ends.every(({ status }) => status === 'rejected'))
      throw refusal(call.tenant, first.reason);
    const byItem = new Map<In, Succeeded<Out> | Failed>();
    const receipts: Receipt[] = [];
    ends.forEach((end, i) => {
      const group = scopes[i]?.[1] ?? [];
      receipts.push(...recordsOf(end).map((record) => receiptOf(core, call.tenant, record)));
      group.forEach((item, at) => {
        const { reference } = item;
        try {
          if (end.status === 'rejected') throw end.reason;
          const result = end.value.results[at];
          if (result === undefined) throw new ServiceError('INTERNAL', { detail: 'no-result' });
          byItem.set(item, { ...outOf(reveal(result, end.value)), ok: true, reference });
        } catch (error) {
          byItem.set(item, { ok: false, reference, code: codeOf(error) });
        }
      });
    });
    return { items: items.flatMap((item) => byItem.get(item) ?? []), receipts };
  }

  return {
    async encrypt(call: EnvelopeCall, input: EncryptItem & Scoped) {
      const use = useOf(call, input.scope, { operation: 'encrypt', items: [input] });
      const { bytes, keyId, keyVersion, receipt } = await one(call, use);
      return { envelope: bytes, keyId, keyVersion, receipt };
    },

    async decrypt(call: EnvelopeCall, input: DecryptItem & Scoped) {
      const use = useOf(call, input.scope, { operation: 'decrypt', items: [input] });
      const { bytes, receipt } = await one(call, use);
      return { plaintext: bytes, receipt };
    },

    encryptBatch(
      call: EnvelopeCall,
      items: readonly (EncryptItem & Scoped & Referenced)[],
    ): Promise<BatchResult<EncryptedItem>> {
      return many(
        call,
        items,
        (scope, group) => useOf(call, scope, { operation: 'encrypt', items: group }),
        ({ bytes, keyId, keyVersion }) => ({ envelope: bytes, keyId, keyVersion }),
      );
    },

    decryptBatch(
      call: EnvelopeCall,
      items: readonly (DecryptItem & Scoped & Referenced)[],
    ): Promise<BatchResult<DecryptedItem>> {
      return many(
        call,
        items,
        (scope, group) => useOf(call, scope, { operation: 'decrypt', items: group }),
        ({ bytes }) => ({ plaintext: bytes }),
      );
    },
  };
}

/** Of what was released, or of the refusal. */
function recordsOf(end: PromiseSettledResult<Released>): readonly DurableRecord[] {
  if (end.status === 'fulfilled') return end.value.records;
  return end.reason instanceof UseRefused ? end.reason.records : [];
}

interface Revealed {
  readonly bytes: Uint8Array;
  readonly keyId: string;
  readonly keyVersion: number;
}

function reveal(result: ItemResult, { records }: Released): Revealed {
  if (!result.ok) throw new ServiceError(result.code, { detail: result.detail });
  const record = records[result.leaf];
  if (record === undefined) throw new ServiceError('INTERNAL', { detail: 'no-record' });
  return { bytes: result.sealed.reveal(record), keyId: result.keyId, keyVersion: result.keyVersion };
}
