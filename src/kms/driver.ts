/**
 * What an adapter to a KMS implements. The clauses K1 to K15 of `adapters/README.md` say how it must behave;
 * `test/contract/kms.ts` proves them on every driver.
 *
 * Terms: a *driver* is the adapter module; a *customer key handle* is one key in a customer's KMS, opened through it.
 * A driver does not retry, cache keys, log or read the environment. Deadlines, retries, comparison of the answer and
 * classification by history belong to `caller.ts`.
 */
import type { z } from 'zod';
import type { KmsCode } from '../errors.ts';

/** Our own pairs, bound to a wrapped key by the KMS where it can. All three are non-empty ASCII. */
export interface WrapContext {
  readonly tenant: string;
  readonly scope: string;
  /** The id of the wrapped key, `key_…`. */
  readonly key: string;
}

export interface CallOptions {
  /** Aborts the call. The promise settles promptly after it, and a late answer is dropped and zeroed. */
  readonly signal: AbortSignal;
  /** Our id for this one attempt. The driver plants it where the customer's own KMS log shows it. ASCII, at most 64. */
  readonly correlationId: string;
}

export interface Wrapped {
  /** 1 to 4,096 bytes. */
  readonly wrapped: Uint8Array;
  /** The vendor's full name of the key that answered. */
  readonly keyId: string;
  /** The vendor's key version, or empty where there is none. */
  readonly keyVersion: string;
  /** The vendor's name of the algorithm. */
  readonly algorithm: string;
  /** The vendor's id of this call, for matching with the customer's log; empty where the vendor gives none. */
  readonly requestId: string;
}

export interface Unwrapped {
  /** The key bytes, in a buffer of its own (never pooled). The caller owns it and zeroes it. */
  readonly key: Uint8Array;
  readonly keyId: string;
  readonly requestId: string;
}

export interface KeyDescription {
  readonly keyId: string;
  readonly state: 'enabled' | 'disabled' | 'pending-deletion' | 'unavailable';
  /** Whether the KMS itself refuses an unwrap under another wrap context. */
  readonly bindsContext: boolean;
  /** The vendor's key version, or empty. */
  readonly keyVersion: string;
}

/** A fact about the set-up that the driver checked at onboarding. `ok: false` keeps the key from being verified. */
export interface SetupCheck {
  readonly check: string;
  readonly ok: boolean;
  /** What the customer's admin should change, in one sentence; empty when ok. */
  readonly action: string;
}

/** One customer key, opened. All methods may be called concurrently and throw only {@link KmsFailure}. */
export interface CustomerKeyHandle {
  describe(call: CallOptions): Promise<KeyDescription>;
  /** Wraps `key` (the caller keeps and zeroes its buffer). */
  wrap(key: Uint8Array, context: WrapContext, call: CallOptions): Promise<Wrapped>;
  unwrap(wrapped: Uint8Array, context: WrapContext, call: CallOptions): Promise<Unwrapped>;
  /** Checks that only this vendor's set-up can have, such as a role that must refuse without its external id. */
  checkSetup(call: CallOptions): Promise<readonly SetupCheck[]>;
  /** Frees sockets and timers. Idempotent; every other method fails afterwards with KMS_CONTRACT_VIOLATION. */
  close(): Promise<void>;
}

/**
 * What a driver does with a platform secret. One that only `signs` or checks never leaves the machine, so the platform may have one
 * for all tenants. One that `is-sent` is known to the address that the tenant's admin named: it must be that tenant's own, or
 * he could have another tenant's sent to himself.
 */
export type SecretUse = 'signs' | 'is-sent';

/** What a driver may ask the deployment for. */
export interface DriverHost {
  /**
   * The bytes of a platform secret that `access` names by id. The driver zeroes them after use.
   * Throws `KMS_MISCONFIGURED` when there is none of that name for this tenant and use.
   */
  secret(id: string, use: SecretUse): Promise<Uint8Array>;
  /** Whether the operator allows calls to this address (scheme, host and port exactly). */
  endpointAllowed(url: string): boolean;
}

export interface KmsDriver<Access = unknown> {
  /** Such as `aws-kms`; stored in the binding. */
  readonly provider: string;
  /** How the key is reached. Parsed values hold no secrets, only their ids; unknown fields are refused. */
  readonly access: z.ZodType<Access>;
  /**
   * What a tenant's admin submits, before it is parsed: adds what we choose ourselves, such as the external id of a role, and
   * throws KMS_MISCONFIGURED for an admin who chooses it.
   */
  prepareAccess(submitted: unknown): unknown;
  /** The full vendor name of the key, normalised; throws KMS_MISCONFIGURED for anything else, before any request. */
  parseKeyRef(keyRef: string): string;
  /** Opens a handle without a call to the KMS. The vendor's SDK is loaded on first use. */
  open(keyRef: string, access: Access, host: DriverHost): Promise<CustomerKeyHandle>;
}

/** The deployment itself, which knows for which tenant a secret is wanted. */
export interface Deployment extends Omit<DriverHost, 'secret'> {
  secret(id: string, use: SecretUse, tenant: string): Promise<Uint8Array>;
}

/**
 * The class of a failure, which decides what happens next. `refused` and `misconfigured` are told apart by history: a
 * denial of a key that used to work is a refusal, on first contact it is a misconfiguration. A driver reports
 * such a denial as `refused`; `caller.ts` knows the history.
 */
export type KmsFailureClass = 'refused' | 'transient' | 'misconfigured' | 'integrity';

/** What a driver throws. The message names the code and nothing of the call; the vendor's error is the `cause`. */
export class KmsFailure extends Error {
  readonly failureClass: KmsFailureClass;
  readonly code: KmsCode;
  readonly requestId: string;
  readonly retryAfterMs: number | undefined;
  /** One machine word that narrows the code for an admin or operator, such as `region-mismatch`; empty where none. */
  readonly detail: string;

  constructor(
    failureClass: KmsFailureClass,
    code: KmsCode,
    options: { cause?: unknown; requestId?: string; retryAfterMs?: number; detail?: string } = {},
  ) {
    super(code, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'KmsFailure';
    this.failureClass = failureClass;
    this.code = code;
    this.requestId = options.requestId ?? '';
    this.retryAfterMs = options.retryAfterMs;
    this.detail = options.detail ?? '';
  }
}
