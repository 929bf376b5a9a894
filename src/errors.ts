/**
 * Every failure that can leave the service, in one table. A code is stable for ever: callers branch on it.
 * Internal detail goes to the usage log and to `cause`; only `title` and `action` reach the caller.
 */

import type { Receipt } from './receipt.ts';

/** Who can put it right. */
export type Fault = 'caller' | 'customer' | 'provider' | 'platform';

interface ErrorRow {
  readonly status: number;
  readonly retryable: boolean;
  readonly fault: Fault;
  /** One public sentence. It never carries a vendor's words, an id that the caller did not send, or a value. */
  readonly title: string;
  /** What the reader should do next. */
  readonly action: string;
}

function row(status: number, retryable: boolean, fault: Fault, title: string, action: string): ErrorRow {
  return { status, retryable, fault, title, action };
}

export const ERRORS = {
  REQUEST_INVALID: row(
    400,
    false,
    'caller',
    'The request is not valid.',
    'Correct the fields listed in `errors`.',
  ),
  REQUEST_TOO_LARGE: row(413, false, 'caller', 'The request body is too large.', 'Send at most 1 MiB.'),
  UNSUPPORTED_MEDIA_TYPE: row(
    415,
    false,
    'caller',
    'The body must be application/json in UTF-8.',
    'Set Content-Type: application/json and send no content encoding.',
  ),
  UNAUTHENTICATED: row(
    401,
    false,
    'caller',
    'No valid API key came with the request.',
    'Send Authorization: Bearer <API key>; ask a tenant admin for a new key if this one was revoked or has expired.',
  ),
  FORBIDDEN: row(
    403,
    false,
    'caller',
    'This API key may not do that.',
    'Use an API key whose role, scopes and purposes allow it.',
  ),
  NOT_FOUND: row(404, false, 'caller', 'There is no such thing here.', 'Check the path and the ids in it.'),
  METHOD_NOT_ALLOWED: row(
    405,
    false,
    'caller',
    'The path does not take this method.',
    'See /docs for the methods of each path.',
  ),
  CONFLICT: row(
    409,
    false,
    'caller',
    'The present state does not allow this.',
    'Read the current state and try again from there.',
  ),
  TENANT_SUSPENDED: row(
    403,
    false,
    'platform',
    'The tenant is suspended by the operator.',
    'Ask the operator of the platform.',
  ),
  TENANT_BUSY: row(
    429,
    true,
    'caller',
    'Too many requests of this tenant are waiting.',
    'Slow down and retry after the time in Retry-After.',
  ),
  ENVELOPE_MALFORMED: row(
    400,
    false,
    'caller',
    'The envelope is not one of ours.',
    'Send the envelope exactly as encrypt returned it.',
  ),
  DECRYPT_FAILED: row(
    400,
    false,
    'caller',
    'The envelope does not open.',
    'Check that tenant, scope, purpose, resource id and encryption context are those of the encrypt call and that the envelope is unchanged.',
  ),
  CUSTOMER_KEY_NOT_ACTIVE: row(
    409,
    false,
    'customer',
    'The scope has no active customer key.',
    'A tenant admin must register, verify and activate a customer key for this scope.',
  ),
  CUSTOMER_KEY_DISABLED: row(
    424,
    false,
    'customer',
    'The tenant admin has disabled the customer key in Keytether.',
    'A tenant admin can activate it again.',
  ),
  KMS_ACCESS_DENIED: row(
    424,
    false,
    'customer',
    "The customer's KMS refuses us the key.",
    'The customer must allow our principal in the key policy, grant or role.',
  ),
  KMS_KEY_DISABLED: row(
    424,
    false,
    'customer',
    "The customer key is disabled in the customer's KMS.",
    'The customer must enable the key.',
  ),
  KMS_KEY_PENDING_DELETION: row(
    424,
    false,
    'customer',
    'The customer key is scheduled for deletion.',
    'The customer must cancel the deletion before its date.',
  ),
  KMS_KEY_NOT_FOUND: row(
    424,
    false,
    'customer',
    "The customer key does not exist in the customer's KMS.",
    'Check the key reference and the region; a deleted key cannot be brought back.',
  ),
  KMS_MISCONFIGURED: row(
    424,
    false,
    'customer',
    'The way to the customer key is not set up correctly.',
    'Verify the customer key again and follow its setup text.',
  ),
  KMS_INTEGRITY: row(
    424,
    false,
    'customer',
    "The customer's KMS did not return the key that was wrapped.",
    'Check that the key reference still names the same key; report it if it does.',
  ),
  KMS_THROTTLED: row(
    503,
    true,
    'customer',
    "The customer's KMS is limiting calls.",
    'Retry after the time in Retry-After; the customer may raise the quota.',
  ),
  KMS_UNREACHABLE: row(
    503,
    true,
    'customer',
    "The customer's KMS could not be reached.",
    'Retry after the time in Retry-After.',
  ),
  KMS_TIMEOUT: row(
    503,
    true,
    'customer',
    "The customer's KMS did not answer in time.",
    'Retry after the time in Retry-After.',
  ),
  KMS_UNAVAILABLE: row(
    503,
    true,
    'customer',
    "The customer's KMS has a fault of its own.",
    'Retry after the time in Retry-After.',
  ),
  KMS_CONTRACT_VIOLATION: row(
    503,
    true,
    'platform',
    'The KMS driver gave an answer outside its contract.',
    'Report it with the request id.',
  ),
  RELEASE_EXPIRED: row(
    503,
    true,
    'platform',
    "The customer's KMS answer was too old when the result was ready.",
    'Retry.',
  ),
  DEADLINE_EXCEEDED: row(
    503,
    true,
    'platform',
    'The request was not finished within its deadline.',
    'Retry after the time in Retry-After.',
  ),
  LOG_UNAVAILABLE: row(
    503,
    true,
    'platform',
    'The usage log cannot be written, so nothing is released.',
    'Retry after the time in Retry-After.',
  ),
  CHECKPOINT_PENDING: row(
    503,
    true,
    'platform',
    'No signed checkpoint covers this yet.',
    'Retry after the time in Retry-After; report it if it lasts.',
  ),
  STORE_UNAVAILABLE: row(
    503,
    true,
    'platform',
    'The database cannot be reached.',
    'Retry after the time in Retry-After.',
  ),
  RECORD_KEY_UNAVAILABLE: row(
    503,
    true,
    'platform',
    'A key that authenticates stored records is not loaded on this replica.',
    'The operator must distribute the record key.',
  ),
  OVERLOADED: row(
    503,
    true,
    'platform',
    'The service has no room for another request.',
    'Retry after the time in Retry-After.',
  ),
  SHUTTING_DOWN: row(
    503,
    true,
    'platform',
    'This replica is shutting down.',
    'Retry; another replica answers.',
  ),
  KEY_RECORD_TAMPERED: row(
    500,
    false,
    'platform',
    'A stored key record is not authentic.',
    'Report it: the database was changed by someone else.',
  ),
  INTERNAL: row(500, false, 'platform', 'Something failed on our side.', 'Report it with the request id.'),
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof ERRORS;

/** Codes that a call to a customer's KMS can end in. */
export type KmsCode = Extract<ErrorCode, `KMS_${string}`>;

export const KMS_CODES = Object.keys(ERRORS).filter((code) => code.startsWith('KMS_')) as readonly KmsCode[];

export interface FailureOptions {
  readonly cause?: unknown;
  /** Short machine word for the usage log, such as `commitment` or `tag`. Never shown to the caller. */
  readonly detail?: string;
  /** Field errors of a refused request: paths and rules, never values. */
  readonly errors?: readonly { readonly path: string; readonly rule: string }[];
  readonly retryAfterSeconds?: number;
  /** Where the record of the refusal stands, when it is durable. */
  readonly receipt?: Receipt;
}

/** The one error class that the service throws on purpose. */
export class ServiceError extends Error {
  readonly code: ErrorCode;
  readonly detail: string | undefined;
  readonly errors: readonly { readonly path: string; readonly rule: string }[] | undefined;
  readonly retryAfterSeconds: number | undefined;
  readonly receipt: Receipt | undefined;

  constructor(code: ErrorCode, options: FailureOptions = {}) {
    super(
      `${code}: ${ERRORS[code].title}`,
      options.cause === undefined ? undefined : { cause: options.cause },
    );
    this.name = 'ServiceError';
    this.code = code;
    this.detail = options.detail;
    this.errors = options.errors;
    this.retryAfterSeconds = options.retryAfterSeconds;
    this.receipt = options.receipt;
  }
}

/** The code of a thrown value; anything that is not ours is `INTERNAL`. Works across realms: it looks at `code`. */
export function codeOf(error: unknown): ErrorCode {
  const code = (error as { code?: unknown } | null | undefined)?.code;
  return typeof code === 'string' && Object.hasOwn(ERRORS, code) ? (code as ErrorCode) : 'INTERNAL';
}
