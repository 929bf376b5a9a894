/**
 * What the HTTP side needs from the rest: every public verb of the product is one method here. Values are plain; nothing
 * below knows HTTP. Every method throws `ServiceError` with a code of `errors.ts`; anything else answers as INTERNAL.
 *
 * The HTTP side has already parsed and bounded all values, authenticated the principal after the request arrived, and
 * checked role, tenant, scope and purpose with `authorize`. Ids of things inside a tenant are not checked: a method that
 * does not find one *in this tenant* throws NOT_FOUND, whatever the reason.
 */

import type { Tile } from '../audit/tiles.ts';
import type { ErrorCode } from '../errors.ts';
import type { Receipt } from '../receipt.ts';
import type { ReconciliationSummary } from '../reconcile/summary.ts';
import type { Action, Principal, Role } from '../service/authorize.ts';
import type { ParsedToken } from '../service/token.ts';

/** Who asks, for which tenant, and since when. */
export interface Call {
  readonly principal: Principal;
  /** The tenant that the path names. */
  readonly tenant: string;
  readonly requestId: string;
  /** `performance.now()` at the moment when the request's head had been read: deadlines count from here. */
  readonly arrivedAt: number;
}

/** An operator's call that names no tenant. */
export type SystemCall = Omit<Call, 'tenant'>;

export interface Refusal {
  readonly principal: Principal;
  readonly action: Action;
  /** The tenant that the path names, which may be foreign or unknown; undefined where the path names none. */
  readonly tenant: string | undefined;
  readonly code: ErrorCode;
  readonly requestId: string;
}

/** Something that answered with a status of 500 or above. For the operator's log, never for the caller. */
export interface Failure {
  readonly requestId: string;
  /** The route's own template, such as `POST /v1/tenants/{tenant}/decrypt`. */
  readonly route: string;
  readonly code: ErrorCode;
  readonly error: unknown;
}

export interface Readiness {
  readonly ready: boolean;
  readonly checks: Readonly<Record<string, 'ok' | 'failed'>>;
}

export interface Tenant {
  readonly id: string;
  readonly name: string;
  readonly state: 'active' | 'suspended';
  /** RFC 3339, UTC; so are all times here. */
  readonly createdAt: string;
}

export interface Invitation {
  readonly token: string;
  readonly expiresAt: string;
}

export interface ApiKey {
  readonly id: string;
  readonly name: string;
  readonly role: Exclude<Role, 'operator'>;
  readonly scopes: readonly string[];
  readonly purposes: readonly string[];
  readonly state: 'active' | 'revoked' | 'expired';
  readonly createdAt: string;
  readonly expiresAt?: string | undefined;
}

export interface NewApiKey {
  readonly name: string;
  readonly role: Exclude<Role, 'operator'>;
  readonly scopes: readonly string[];
  readonly purposes: readonly string[];
  readonly expiresAt?: string | undefined;
}

export interface CustomerKey {
  readonly id: string;
  readonly provider: string;
  readonly keyRef: string;
  readonly access: Readonly<Record<string, unknown>>;
  readonly state: 'registered' | 'verified' | 'active' | 'disabled';
  /** Scopes whose root this key wraps now. */
  readonly scopes: readonly string[];
  readonly version: number;
}

/** What the customer's KMS says of the key at this moment. */
export type KmsView =
  | {
      readonly state: 'enabled' | 'disabled' | 'pending-deletion' | 'unavailable';
      readonly keyVersion: string;
      readonly bindsContext: boolean;
    }
  | { readonly state: 'unknown'; readonly code: ErrorCode };

export interface NewCustomerKey {
  readonly provider: string;
  readonly keyRef: string;
  /** Not yet checked: the driver's own schema does that. */
  readonly access: Readonly<Record<string, unknown>>;
}

export interface Verification {
  readonly state: CustomerKey['state'];
  readonly checks: readonly { readonly check: string; readonly ok: boolean; readonly action: string }[];
}

/** What binds one message besides its tenant. */
export interface Binding {
  readonly scope: string;
  readonly purpose: string;
  /** Empty when absent. */
  readonly resourceId: string;
  readonly context: Readonly<Record<string, string>>;
}

export interface Encrypt extends Binding {
  /** The HTTP side owns it and zeroes it when the method has settled. */
  readonly plaintext: Uint8Array;
}

export interface Decrypt extends Binding {
  readonly envelope: Uint8Array;
}

export interface Encrypted {
  readonly envelope: Uint8Array;
  readonly keyId: string;
  readonly keyVersion: number;
}

export interface Decrypted {
  /** In a buffer of its own, which passes to the HTTP side: it encodes and zeroes it. */
  readonly plaintext: Uint8Array;
}

export interface FailedItem {
  readonly ok: false;
  readonly reference: string;
  readonly code: ErrorCode;
}

export interface Batch<Item> {
  /** In the order of the request, one for each of its items. */
  readonly items: readonly ((Item & { readonly ok: true; readonly reference: string }) | FailedItem)[];
  /** One for each leaf that the request made. */
  readonly receipts: readonly Receipt[];
}

export interface LogPage {
  readonly origin: string;
  readonly size: number;
  /** Merkle root at `size`, 32 bytes as canonical base64. */
  readonly root: string;
  /** `leaf` is the exact JSON text that was hashed. */
  readonly entries: readonly { readonly index: number; readonly leafHash: string; readonly leaf: string }[];
}

/** Entries of the usage log that say these things; absent means anything. */
export interface EntryQuery {
  readonly from: number;
  /** Index behind the last one that is wanted; absent: the end of the log. */
  readonly to?: number | undefined;
  readonly limit: number;
  readonly typ?: string | undefined;
  readonly op?: string | undefined;
  readonly out?: string | undefined;
  /** Id of a key of ours or of a customer key. */
  readonly key?: string | undefined;
  /** Id of the principal who asked. */
  readonly actor?: string | undefined;
}

export interface EntryPage {
  /** Index, leaf hash as base64, and the exact JSON text that was hashed. */
  readonly entries: readonly { readonly i: number; readonly h: string; readonly leaf: string }[];
  /** Where to go on; absent at the end. A page may be empty although there is more. */
  readonly next: number | undefined;
}

export interface Services {
  /** Reads the principal after the call began; throws UNAUTHENTICATED for every cause that lies with the token. */
  authenticate(token: ParsedToken): Promise<Principal>;
  /** Counts one 401. The counts go to the system log in bulk. */
  countUnauthenticated(): void;
  /** Logs a denial in the caller's own tree. The answer waits for it; a failure of it becomes the answer. */
  refused(refusal: Refusal): Promise<Receipt>;
  failed(failure: Failure): void;
  /** Checks the envelope's header without I/O; throws ENVELOPE_MALFORMED. */
  checkEnvelope(envelope: Uint8Array): void;
  readiness(): Promise<Readiness>;

  createTenant(
    call: SystemCall,
    input: { name: string },
  ): Promise<{ tenant: Tenant; invitation: Invitation }>;
  listTenants(call: SystemCall): Promise<readonly Tenant[]>;
  readTenant(call: Call): Promise<Tenant>;
  suspendTenant(call: Call): Promise<Tenant>;
  resumeTenant(call: Call): Promise<Tenant>;
  inviteAdmin(call: Call): Promise<Invitation>;

  /** Spends the invitation and makes its tenant admin; throws UNAUTHENTICATED for one that is unknown, spent or late. */
  redeemInvitation(
    call: { requestId: string; arrivedAt: number },
    input: { invitation: ParsedToken; name: string },
  ): Promise<{ tenant: string; token: string; apiKey: ApiKey }>;
  createApiKey(call: Call, input: NewApiKey): Promise<{ token: string; apiKey: ApiKey }>;
  listApiKeys(call: Call): Promise<readonly ApiKey[]>;
  revokeApiKey(call: Call, id: string): Promise<void>;

  registerCustomerKey(call: Call, input: NewCustomerKey): Promise<CustomerKey>;
  listCustomerKeys(call: Call): Promise<readonly CustomerKey[]>;
  readCustomerKey(call: Call, id: string): Promise<CustomerKey & { readonly kms: KmsView }>;
  verifyCustomerKey(call: Call, id: string): Promise<Verification>;
  activateCustomerKey(
    call: Call,
    id: string,
    input: { scope: string; oneFlightPerUse: boolean },
  ): Promise<CustomerKey>;
  disableCustomerKey(call: Call, id: string): Promise<CustomerKey>;

  encrypt(call: Call, input: Encrypt): Promise<Encrypted & { receipt: Receipt }>;
  decrypt(call: Call, input: Decrypt): Promise<Decrypted & { receipt: Receipt }>;
  encryptBatch(call: Call, items: readonly (Encrypt & { reference: string })[]): Promise<Batch<Encrypted>>;
  decryptBatch(call: Call, items: readonly (Decrypt & { reference: string })[]): Promise<Batch<Decrypted>>;

  readLog(call: Call, page: { from: number; limit: number }): Promise<LogPage>;
  /** Appends the statement to the tenant's log, as its caller's: nothing of it is checked. */
  recordReconciliation(call: Call, result: ReconciliationSummary): Promise<Receipt>;
  searchEntries(call: Call, query: EntryQuery): Promise<EntryPage>;
  /** The newest signed checkpoint. It and all below throw CHECKPOINT_PENDING where none covers what is asked for. */
  readCheckpoint(call: Call): Promise<string>;
  /** The verifier key of the newest checkpoint. */
  readLogKey(call: Call): Promise<string>;
  readTile(call: Call, tile: Tile): Promise<Uint8Array>;
  /** A tlog-proof. `eid`: 16 bytes. */
  proveEntry(call: Call, eid: Uint8Array): Promise<string>;
  /** Hashes as base64. Throws REQUEST_INVALID for sizes that no checkpoint covers. */
  proveConsistency(
    call: Call,
    range: { from: number; to?: number | undefined },
  ): Promise<{ from: number; to: number; proof: readonly string[] }>;
}
