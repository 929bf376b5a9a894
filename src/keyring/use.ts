/** What goes into the keyring and what comes out. */

import type { Actor } from '../audit/leaf.ts';
import type { DurableRecord, Sealed } from '../audit/sealed.ts';
import type { EncryptionContext } from '../crypto/context.ts';
import { type ErrorCode, type FailureOptions, ServiceError } from '../errors.ts';

interface ItemBinding {
  readonly purpose: string;
  /** Empty when the caller gave none. */
  readonly resourceId: string;
  readonly context: EncryptionContext;
}

export interface EncryptItem extends ItemBinding {
  /** The caller keeps and zeroes it, but not before the keyring has answered. */
  readonly plaintext: Uint8Array;
}

export interface DecryptItem extends ItemBinding {
  readonly envelope: Uint8Array;
}

/** One request: one or more items of one scope. */
export type KeyUse = {
  readonly tenant: string;
  readonly scope: string;
  readonly actor: Actor;
  readonly requestId: string;
  /** Milliseconds of `performance.now()` when the request arrived. */
  readonly arrivedAt: number;
  /** Version of our own state in which the actor was allowed to ask. Renewed when that state moves. */
  stateVersion: number;
  /** How often the log refused what this request made because another head or root was current by then. */
  lostRaces?: number;
} & (
  | { readonly operation: 'encrypt'; readonly items: readonly EncryptItem[] }
  | { readonly operation: 'decrypt'; readonly items: readonly DecryptItem[] }
);

/** What became of one item. `leaf` is the position of its record among the records of the request. */
export type ItemResult =
  | {
      readonly ok: true;
      readonly sealed: Sealed;
      readonly keyId: string;
      readonly keyVersion: number;
      readonly leaf: number;
    }
  | { readonly ok: false; readonly code: ErrorCode; readonly detail: string; readonly leaf: number };

/** A request whose records are durable: `reveal` opens each item with its record. */
export interface Released {
  readonly results: readonly ItemResult[];
  /** In the order of {@link ItemResult.leaf}. */
  readonly records: readonly DurableRecord[];
}

/** A request that was refused. The records of the refusal are durable; there are none where it could not be logged in time. */
export class UseRefused extends ServiceError {
  readonly records: readonly DurableRecord[];

  constructor(code: ErrorCode, records: readonly DurableRecord[], options: FailureOptions) {
    super(code, options);
    this.records = records;
  }
}
