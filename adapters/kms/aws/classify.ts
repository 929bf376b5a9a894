/**
 * What an error of AWS KMS or STS, or of the way to them, means. By name, never by HTTP status: KMS answers 400 to disabled,
 * denied, throttled and tampered alike. Sources: AWS KMS API reference (errors of Encrypt, Decrypt, DescribeKey; "Common
 * errors"), AWS STS API reference, Developer Guide "Key states of AWS KMS keys".
 */
import type { KmsCode } from '../../../src/errors.ts';
import type { KmsFailureClass } from '../../../src/kms/driver.ts';
import { KmsFailure } from '../../../src/kms/driver.ts';

type Meaning = readonly [KmsFailureClass, KmsCode, detail?: string];

const OUR_CREDENTIALS: Meaning = ['misconfigured', 'KMS_MISCONFIGURED', 'our-credentials'];
const THROTTLED: Meaning = ['transient', 'KMS_THROTTLED'];
const UNAVAILABLE: readonly [KmsFailureClass, KmsCode] = ['transient', 'KMS_UNAVAILABLE'];
const UNREACHABLE: Meaning = ['transient', 'KMS_UNREACHABLE'];
const DENIED: Meaning = ['refused', 'KMS_ACCESS_DENIED'];
const TIMEOUT: Meaning = ['transient', 'KMS_TIMEOUT'];

const BY_NAME: Readonly<Record<string, Meaning>> = {
  DisabledException: ['refused', 'KMS_KEY_DISABLED'],
  NotFoundException: ['refused', 'KMS_KEY_NOT_FOUND'],
  AccessDeniedException: DENIED,
  AccessDenied: ['refused', 'KMS_ACCESS_DENIED', 'assume-role'],
  NotAuthorized: DENIED,
  IncorrectKeyException: ['integrity', 'KMS_INTEGRITY', 'incorrect-key'],
  InvalidCiphertextException: ['integrity', 'KMS_INTEGRITY', 'invalid-ciphertext'],
  InvalidKeyUsageException: ['misconfigured', 'KMS_MISCONFIGURED', 'key-usage'],
  InvalidGrantTokenException: ['misconfigured', 'KMS_MISCONFIGURED', 'grant-token'],
  InvalidArnException: ['misconfigured', 'KMS_MISCONFIGURED', 'key-ref'],
  ValidationException: ['misconfigured', 'KMS_MISCONFIGURED', 'validation'],
  ValidationError: ['misconfigured', 'KMS_MISCONFIGURED', 'validation'],
  RegionDisabledException: ['misconfigured', 'KMS_MISCONFIGURED', 'region-disabled'],
  ThrottlingException: THROTTLED,
  Throttling: THROTTLED,
  LimitExceededException: THROTTLED,
  RequestLimitExceeded: THROTTLED,
  TooManyRequestsException: THROTTLED,
  KeyUnavailableException: UNAVAILABLE,
  KMSInternalException: UNAVAILABLE,
  DependencyTimeoutException: UNAVAILABLE,
  InternalFailure: UNAVAILABLE,
  InternalServerError: UNAVAILABLE,
  ServiceUnavailable: UNAVAILABLE,
  ServiceUnavailableException: UNAVAILABLE,
  // A proxy's or load balancer's page where JSON or XML was due.
  SyntaxError: [...UNAVAILABLE, 'not-json'],
  ExpiredTokenException: OUR_CREDENTIALS,
  ExpiredToken: OUR_CREDENTIALS,
  UnrecognizedClientException: OUR_CREDENTIALS,
  InvalidClientTokenId: OUR_CREDENTIALS,
  InvalidSignatureException: OUR_CREDENTIALS,
  SignatureDoesNotMatch: OUR_CREDENTIALS,
  IncompleteSignature: OUR_CREDENTIALS,
  IncompleteSignatureException: OUR_CREDENTIALS,
  MissingAuthenticationToken: OUR_CREDENTIALS,
  MissingAuthenticationTokenException: OUR_CREDENTIALS,
  RequestExpired: OUR_CREDENTIALS,
  OptInRequired: OUR_CREDENTIALS,
  CredentialsProviderError: OUR_CREDENTIALS,
  TimeoutError: TIMEOUT,
  AbortError: TIMEOUT,
};

/** Codes of the socket, DNS and TLS. */
const NETWORK =
  /^(ECONN|ENOTFOUND$|EAI_|EPIPE$|ETIMEDOUT$|EHOST|ENET|EPROTO$|ERR_TLS|ERR_SSL|CERT_|UNABLE_TO_|DEPTH_ZERO|SELF_SIGNED|HPE_)/;

/** `KMSInvalidStateException` names the state in its message only, and is also a general failure "with many possible causes". */
function meaningOfState(message: string): Meaning {
  if (/pending (replica )?deletion/i.test(message)) return ['refused', 'KMS_KEY_PENDING_DELETION'];
  if (/pending import/i.test(message)) return ['refused', 'KMS_KEY_DISABLED', 'pending-import'];
  if (/is disabled/i.test(message)) return ['refused', 'KMS_KEY_DISABLED'];
  return [...UNAVAILABLE, 'key-state'];
}

function meaningOf(name: string, code: string, message: string): Meaning {
  if (name === 'KMSInvalidStateException') return meaningOfState(message);
  const known = Object.hasOwn(BY_NAME, name) ? BY_NAME[name] : undefined;
  if (known) return known;
  if (NETWORK.test(code)) return UNREACHABLE;
  return [...UNAVAILABLE, 'unrecognised'];
}

/** The failure that an error of the SDK or of the socket is. A KmsFailure passes unchanged. */
export function classify(error: unknown): KmsFailure {
  if (error instanceof KmsFailure) return error;
  const fields = (typeof error === 'object' && error !== null ? error : {}) as Record<string, unknown>;
  const metadata = (fields.$metadata ?? {}) as Record<string, unknown>;
  const requestId = text(metadata.requestId ?? fields.requestId);
  const [failureClass, code, detail = ''] = meaningOf(
    text(fields.name),
    text(fields.code),
    text(fields.message),
  );
  return new KmsFailure(failureClass, code, { cause: error, requestId, detail });
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}
