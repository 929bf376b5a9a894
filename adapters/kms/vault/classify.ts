/**
 * What an error of Vault or OpenBao, or of the way to it, means. By its words, since one status has many causes: 400 is a deleted
 * key, a version out of use and a changed ciphertext alike. Sources: Vault 1.13.1 (`builtin/logical/transit`, `sdk/helper/keysutil`,
 * `http`, `builtin/credential/approle`), run; for OpenBao 2.6 and the JWT and Kubernetes logins their documentation, not run;
 * `sys/health` API page for 472 and 473.
 */
import type { KmsCode } from '../../../src/errors.ts';
import type { KmsFailureClass } from '../../../src/kms/driver.ts';
import { KmsFailure } from '../../../src/kms/driver.ts';

/** A login, an operation with the key, or reading the key's settings. */
export type VaultCall = 'login' | 'use' | 'read-key';

/** An answer that is no success. Holds Vault's words and nothing of the request. */
export class VaultAnswer extends Error {
  readonly status: number;
  /** Empty where the answer is not Vault's JSON. */
  readonly errors: readonly string[];
  readonly json: boolean;
  readonly retryAfterMs: number | undefined;

  constructor(
    status: number,
    errors: readonly string[] | undefined,
    retryAfterMs: number | undefined = undefined,
  ) {
    super(`Vault answered ${status}`);
    this.name = 'VaultAnswer';
    this.status = status;
    this.errors = errors ?? [];
    this.json = errors !== undefined;
    this.retryAfterMs = retryAfterMs;
  }
}

/** The detail of a denial that another token may mend. */
export const PERMISSION_DENIED = 'permission-denied';

type Meaning = readonly [KmsFailureClass, KmsCode, detail?: string];
type Row = readonly [words: RegExp, meaning: Meaning];

const NOT_FOUND: readonly [KmsFailureClass, KmsCode] = ['refused', 'KMS_KEY_NOT_FOUND'];
const DISABLED: readonly [KmsFailureClass, KmsCode] = ['refused', 'KMS_KEY_DISABLED'];
const DENIED: readonly [KmsFailureClass, KmsCode] = ['refused', 'KMS_ACCESS_DENIED'];
const MISCONFIGURED: readonly [KmsFailureClass, KmsCode] = ['misconfigured', 'KMS_MISCONFIGURED'];
const UNAVAILABLE: readonly [KmsFailureClass, KmsCode] = ['transient', 'KMS_UNAVAILABLE'];
const INTEGRITY: readonly [KmsFailureClass, KmsCode] = ['integrity', 'KMS_INTEGRITY'];
const THROTTLED: Meaning = ['transient', 'KMS_THROTTLED'];
const TIMEOUT: Meaning = ['transient', 'KMS_TIMEOUT'];
const UNREACHABLE: Meaning = ['transient', 'KMS_UNREACHABLE'];

/** The type of key that our encrypt names so that Vault makes none: see `vault.ts`. */
export const NO_SUCH_TYPE = 'ecdsa-p256';

const ANYWHERE: readonly Row[] = [
  [/namespace .*(is|has been) locked/i, [...DENIED, 'namespace-locked']],
  [/quota exceeded/, THROTTLED],
  [/(vault|barrier) is sealed/i, [...UNAVAILABLE, 'sealed']],
  [/local node not active|standby|no active/i, [...UNAVAILABLE, 'standby']],
];

const BY_CALL: Readonly<Record<VaultCall, readonly Row[]>> = {
  use: [
    [/encryption key not found/, NOT_FOUND],
    [new RegExp(`key type ${NO_SUCH_TYPE} not supported for this operation`), NOT_FOUND],
    [/soft-deleted key/, [...DISABLED, 'soft-deleted']],
    [/disallowed by policy \(too old\)/, [...DISABLED, 'version-too-old']],
    [/version is too new/, [...MISCONFIGURED, 'version-too-new']],
    [/message authentication failed|unable to decrypt|invalid ciphertext/, INTEGRITY],
    [
      /provided for non-AEAD cipher suite|missing 'context'|not supported for key type/,
      [...MISCONFIGURED, 'key-type'],
    ],
    [/permission denied|invalid token|bad token|missing client token/, [...DENIED, PERMISSION_DENIED]],
    [/no handler for route|unsupported path/, [...NOT_FOUND, 'mount']],
  ],
  'read-key': [
    [/permission denied|invalid token|bad token|missing client token/, [...DENIED, PERMISSION_DENIED]],
    [/no handler for route|unsupported path/, [...NOT_FOUND, 'mount']],
  ],
  login: [
    // What we hold has run out, which the customer did not do.
    [/expired/i, [...MISCONFIGURED, 'our-credentials']],
    [/missing (role_id|secret_id|role|jwt|token)/, [...MISCONFIGURED, 'our-credentials']],
    [
      /invalid (role|secret)|role .*could not be found|error (validating|verifying) |not authorized|lookup failed|permission denied/i,
      [...DENIED, 'login'],
    ],
    [/no handler for route|unsupported path/, [...DENIED, 'login-mount']],
  ],
};

/** Codes of the socket, DNS and TLS. */
const NETWORK =
  /^(ECONN|ENOTFOUND$|EAI_|EPIPE$|ETIMEDOUT$|EHOST|ENET|EPROTO$|ERR_TLS|ERR_SSL|CERT_|UNABLE_TO_|DEPTH_ZERO|SELF_SIGNED|HPE_)/;

function meaningOfAnswer({ status, errors, json }: VaultAnswer, call: VaultCall): Meaning {
  for (const [words, meaning] of [...ANYWHERE, ...BY_CALL[call]]) {
    if (errors.some((text) => words.test(text))) return meaning;
  }
  // The only answer whose meaning is in its status: reading a key that is not there gives no words.
  if (call === 'read-key' && status === 404 && json && errors.length === 0) return NOT_FOUND;
  if (status === 429) return THROTTLED;
  // Disaster recovery secondaries and performance standbys of Vault Enterprise.
  if (status === 472 || status === 473) return [...UNAVAILABLE, 'standby'];
  return [...UNAVAILABLE, json ? 'unrecognised' : 'not-json'];
}

function meaningOfError(name: string, code: string): Meaning {
  if (name === 'TimeoutError' || name === 'AbortError') return TIMEOUT;
  if (name === 'SyntaxError') return [...UNAVAILABLE, 'not-json'];
  if (NETWORK.test(code)) return UNREACHABLE;
  return [...UNAVAILABLE, 'unrecognised'];
}

/** The failure that an answer or an error is. A KmsFailure passes unchanged. */
export function classify(error: unknown, call: VaultCall): KmsFailure {
  if (error instanceof KmsFailure) return error;
  if (error instanceof VaultAnswer) {
    const [failureClass, code, detail = ''] = meaningOfAnswer(error, call);
    const { retryAfterMs } = error;
    const wait = retryAfterMs === undefined ? {} : { retryAfterMs };
    return new KmsFailure(failureClass, code, { cause: error, detail, ...wait });
  }
  const { name, code } = (typeof error === 'object' && error !== null ? error : {}) as Record<
    string,
    unknown
  >;
  const [failureClass, kmsCode, detail = ''] = meaningOfError(text(name), text(code));
  return new KmsFailure(failureClass, kmsCode, { cause: error, detail });
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}
