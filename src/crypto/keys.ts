/**
 * From the wrapped secret S to the key K, and data keys wrapped under a root.
 *
 * S is 32 random bytes of ours; a KMS or a root key wraps it. K encrypts. K and the commitment in the record come out
 * of one derivation over the record's immutable bytes, so K belongs to one tenant, scope, purpose and id even where
 * the KMS binds nothing, and a wrapper that answers with other bytes is found out.
 */
import { randomFillSync } from 'node:crypto';
import { label } from '../brand.ts';
import { codeOf, ServiceError } from '../errors.ts';
import { KEY_BYTES } from './cobblestone.ts';
import { newId, ownBytes, sameBytes, Writer } from './encoding.ts';
import { COMMITMENT_BYTES, encodeKeyIdentity, type KeyIdentity, type KeyRecord } from './key-record.ts';
import { equalSecret, expandSha512 } from './mac.ts';
import { open, parseMessage, seal } from './message.ts';
import { tampered } from './record-auth.ts';

/** The length of S and of K. */
export const SECRET_BYTES = KEY_BYTES;
/** The `wrap_alg` of a data key's wrap entry. */
export const DATA_KEY_WRAP_ALG = 'cobblestone-256';

const LABEL_RECORD = label('key-record');
const LABEL_WRAP = label('key-wrap');

export interface DerivedKey {
  /** 32 bytes that encrypt, owned by the caller, who zeroes them. */
  readonly key: Uint8Array;
  /** 32 bytes, not secret. */
  readonly commitment: Uint8Array;
}

/** K ‖ commitment = HKDF-Expand-SHA-512(S, label `key-record` ‖ immutable bytes before the commitment, 64). */
export function deriveKey(secret: Uint8Array, immutableWithoutCommitment: Uint8Array): DerivedKey {
  if (secret.length !== SECRET_BYTES) throw new RangeError('S has 32 bytes');
  const derived = expandSha512(
    secret,
    [LABEL_RECORD, immutableWithoutCommitment],
    KEY_BYTES + COMMITMENT_BYTES,
  );
  try {
    const key = ownBytes(KEY_BYTES);
    key.set(derived.subarray(0, KEY_BYTES));
    return { key, commitment: derived.slice(KEY_BYTES) };
  } finally {
    derived.fill(0);
  }
}

/**
 * K of a record, from what its wrapper returned. The caller zeroes `secret` and the returned key.
 *
 * @throws ServiceError when the bytes are not those that were wrapped, detail `commitment` or `length` (not 32 bytes):
 * KMS_INTEGRITY for a root, KEY_RECORD_TAMPERED for a data key.
 */
export function openRecordKey(
  secret: Uint8Array,
  record: Pick<KeyRecord, 'kind' | 'immutable' | 'commitment'>,
): Uint8Array {
  if (secret.length !== SECRET_BYTES) throw notTheSecret(record.kind, 'length');
  const prefix = record.immutable.subarray(0, record.immutable.length - COMMITMENT_BYTES);
  const { key, commitment } = deriveKey(secret, prefix);
  if (equalSecret(commitment, record.commitment)) return key;
  key.fill(0);
  throw notTheSecret(record.kind, 'commitment');
}

/** A new key: its immutable bytes with commitment, and S, which the caller wraps and zeroes. */
export interface NewKey {
  readonly keyId: Uint8Array;
  readonly immutable: Uint8Array;
  readonly secret: Uint8Array;
}

/** Makes a key with 32 fresh random bytes and, unless `keyId` is given, a fresh id. */
export function createKey(identity: Omit<KeyIdentity, 'keyId'> & { readonly keyId?: Uint8Array }): NewKey {
  const keyId = identity.keyId ?? newId();
  const secret = randomFillSync(ownBytes(SECRET_BYTES));
  try {
    return { keyId, immutable: commitIdentity({ ...identity, keyId }, secret), secret };
  } catch (error) {
    secret.fill(0);
    throw error;
  }
}

/** The immutable bytes of a key, commitment to `secret` included. */
export function commitIdentity(identity: KeyIdentity, secret: Uint8Array): Uint8Array {
  const prefix = encodeKeyIdentity(identity);
  const { key, commitment } = deriveKey(secret, prefix);
  key.fill(0);
  return new Writer(prefix.length + COMMITMENT_BYTES).raw(prefix).raw(commitment).bytes;
}

/**
 * Wraps a data key's S under a root's K: a message whose context is label `key-wrap` ‖ header 24 ‖ LP16 (the child's
 * immutable bytes with commitment). The caller keeps and zeroes both secrets.
 */
export function wrapDataKey(
  rootKey: Uint8Array,
  rootKeyId: Uint8Array,
  childImmutable: Uint8Array,
  childSecret: Uint8Array,
): Uint8Array {
  if (childSecret.length !== SECRET_BYTES) throw new RangeError('S has 32 bytes');
  return seal(rootKey, rootKeyId, wrapContextOf(childImmutable), childSecret);
}

/**
 * S of a data key. `rootKey` has passed its own commitment check, so whatever fails here was changed in the database.
 * Returns 32 bytes that the caller zeroes.
 *
 * @throws ServiceError KEY_RECORD_TAMPERED, detail `wrap-parent` (wrapped under another root), `wrap-secret` (not
 * 32 bytes) or `wrap-` and the detail of the message's own failure.
 */
export function unwrapDataKey(
  rootKey: Uint8Array,
  rootKeyId: Uint8Array,
  childImmutable: Uint8Array,
  wrapped: Uint8Array,
): Uint8Array {
  const secret = openWrap(rootKey, rootKeyId, childImmutable, wrapped);
  if (secret.length === SECRET_BYTES) return secret;
  secret.fill(0);
  throw tampered('wrap-secret');
}

function openWrap(
  rootKey: Uint8Array,
  rootKeyId: Uint8Array,
  childImmutable: Uint8Array,
  wrapped: Uint8Array,
): Uint8Array {
  try {
    if (!sameBytes(parseMessage(wrapped).keyId, rootKeyId)) throw tampered('wrap-parent');
    return open(rootKey, wrapped, wrapContextOf(childImmutable));
  } catch (error) {
    const isFailure = error instanceof ServiceError && codeOf(error) !== 'KEY_RECORD_TAMPERED';
    throw isFailure ? tampered(`wrap-${error.detail}`, error) : error;
  }
}

function wrapContextOf(childImmutable: Uint8Array): (header: Uint8Array) => Uint8Array {
  return (header) =>
    new Writer(LABEL_WRAP.length + header.length + 2 + childImmutable.length)
      .raw(LABEL_WRAP)
      .raw(header)
      .lp16(childImmutable).bytes;
}

function notTheSecret(kind: KeyRecord['kind'], detail: string): ServiceError {
  return new ServiceError(kind === 'root' ? 'KMS_INTEGRITY' : 'KEY_RECORD_TAMPERED', { detail });
}
