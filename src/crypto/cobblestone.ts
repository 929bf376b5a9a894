/**
 * Cobblestone-256: C2SP chunked-encryption at commit 5ba5ee8 with SHA-512 and AEAD_AES_256_GCM.
 *
 *     salt 24 ‖ commitment 32 ‖ n × (16,384 ‖ tag 16) ‖ (0 to 16,383 ‖ tag 16)
 *
 * The last chunk is always short: that is the end mark. Chunk i has nonce base_nonce XOR i and no associated data.
 * The context is bound in the key derivation, and the commitment is compared before any block is decrypted.
 */
import { createCipheriv, createDecipheriv, randomFillSync } from 'node:crypto';
import { ServiceError } from '../errors.ts';
import { ownBytes } from './encoding.ts';
import { equalSecret, expandSha512 } from './mac.ts';

export const KEY_BYTES = 32;
export const SALT_BYTES = 24;
export const CHUNK_BYTES = 16384;
export const TAG_BYTES = 16;
export const SEALED_CHUNK_BYTES = CHUNK_BYTES + TAG_BYTES;
/** Salt and commitment. */
export const PREFIX_BYTES = 56;

const INFO_LABEL = new TextEncoder().encode('c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0');
const NONCE_BYTES = 12;
const COMMITMENT_AT = KEY_BYTES + NONCE_BYTES;
const DERIVED_BYTES = COMMITMENT_AT + 32;
const MAX_CHUNKS = 2 ** 38;

/** Why a message does not open; the `detail` of the error. */
export type OpenFailure = 'commitment' | 'tag' | 'truncated';

export function openFailed(detail: OpenFailure): ServiceError {
  return new ServiceError('DECRYPT_FAILED', { detail });
}

/** The single-use secrets of one message: key 32 ‖ base nonce 12 ‖ commitment 32, in a buffer that the caller zeroes. */
export function deriveMessageSecrets(key: Uint8Array, salt: Uint8Array, context: Uint8Array): Uint8Array {
  if (key.length !== KEY_BYTES) throw new RangeError('the input key has 32 bytes');
  if (salt.length !== SALT_BYTES) throw new RangeError('the salt has 24 bytes');
  return expandSha512(key, [INFO_LABEL, salt, context], DERIVED_BYTES);
}

export function commitmentOf(secrets: Uint8Array): Uint8Array {
  return secrets.subarray(COMMITMENT_AT, DERIVED_BYTES);
}

/** The length of a sealed message: salt, commitment, and one tag for each chunk. */
export function sealedLength(plaintextLength: number): number {
  return PREFIX_BYTES + plaintextLength + TAG_BYTES * (Math.floor(plaintextLength / CHUNK_BYTES) + 1);
}

/**
 * Seals one chunk of at most 16,384 bytes into `out` at `at`, which takes its length and 16 bytes more.
 * `index` counts from zero and never repeats under the same secrets.
 */
export function sealChunk(
  secrets: Uint8Array,
  index: number,
  plaintext: Uint8Array,
  out: Uint8Array,
  at: number,
): void {
  const nonce = nonceOf(secrets, index);
  const cipher = withoutStackTraces(() =>
    createCipheriv('aes-256-gcm', secrets.subarray(0, KEY_BYTES), nonce, { authTagLength: TAG_BYTES }),
  );
  out.set(cipher.update(plaintext), at);
  cipher.final();
  out.set(cipher.getAuthTag(), at + plaintext.length);
}

/**
 * Opens one sealed chunk of 16 to 16,400 bytes. Returns the plaintext in a buffer of its own that the caller zeroes.
 *
 * @throws ServiceError DECRYPT_FAILED, detail `tag`; the plaintext is zeroed first.
 */
export function openChunk(secrets: Uint8Array, index: number, sealed: Uint8Array): Uint8Array {
  const nonce = nonceOf(secrets, index);
  const decipher = withoutStackTraces(() =>
    createDecipheriv('aes-256-gcm', secrets.subarray(0, KEY_BYTES), nonce, { authTagLength: TAG_BYTES }),
  );
  const length = sealed.length - TAG_BYTES;
  decipher.setAuthTag(sealed.subarray(length));
  const plaintext = decipher.update(sealed.subarray(0, length));
  try {
    decipher.final();
  } catch {
    plaintext.fill(0);
    throw openFailed('tag');
  }
  return new Uint8Array(plaintext.buffer, plaintext.byteOffset, plaintext.byteLength);
}

/** Seals into `out` from `at` on, where the 24 bytes of salt already stand. */
export function sealAfterSalt(
  out: Uint8Array,
  at: number,
  key: Uint8Array,
  context: Uint8Array,
  plaintext: Uint8Array,
): void {
  const secrets = deriveMessageSecrets(key, out.subarray(at, at + SALT_BYTES), context);
  try {
    out.set(commitmentOf(secrets), at + SALT_BYTES);
    const chunks = at + PREFIX_BYTES;
    for (let i = 0; i * CHUNK_BYTES <= plaintext.length; i++) {
      const chunk = plaintext.subarray(i * CHUNK_BYTES, (i + 1) * CHUNK_BYTES);
      sealChunk(secrets, i, chunk, out, chunks + i * SEALED_CHUNK_BYTES);
    }
  } finally {
    secrets.fill(0);
  }
}

/** Seals `plaintext` under a 32-byte key and any context, with a fresh random salt. The caller keeps its buffers. */
export function sealRaw(key: Uint8Array, context: Uint8Array, plaintext: Uint8Array): Uint8Array {
  const out = ownBytes(sealedLength(plaintext.length));
  randomFillSync(out, 0, SALT_BYTES);
  sealAfterSalt(out, 0, key, context, plaintext);
  return out;
}

/**
 * Opens what {@link sealRaw} made. Returns the plaintext in a buffer of its own that the caller zeroes.
 *
 * @throws ServiceError DECRYPT_FAILED with the first thing wrong in byte order: `truncated` when the prefix is not
 * complete, `commitment` (another key, salt or context), `tag` for a chunk, `truncated` when no short chunk ends it.
 */
export function openRaw(key: Uint8Array, sealed: Uint8Array, context: Uint8Array): Uint8Array {
  if (sealed.length < PREFIX_BYTES) throw openFailed('truncated');
  const secrets = deriveMessageSecrets(key, sealed.subarray(0, SALT_BYTES), context);
  try {
    if (!equalSecret(sealed.subarray(SALT_BYTES, PREFIX_BYTES), commitmentOf(secrets)))
      throw openFailed('commitment');
    return openChunks(secrets, sealed.subarray(PREFIX_BYTES));
  } finally {
    secrets.fill(0);
  }
}

function openChunks(secrets: Uint8Array, chunks: Uint8Array): Uint8Array {
  const full = Math.floor(chunks.length / SEALED_CHUNK_BYTES);
  const lastLength = chunks.length - full * SEALED_CHUNK_BYTES - TAG_BYTES;
  if (full === 0 && lastLength >= 0) return openChunk(secrets, 0, chunks);
  const out = ownBytes(full * CHUNK_BYTES + Math.max(lastLength, 0));
  let complete = false;
  try {
    for (let i = 0; i <= full; i++) {
      const sealed = chunks.subarray(i * SEALED_CHUNK_BYTES, (i + 1) * SEALED_CHUNK_BYTES);
      if (sealed.length < TAG_BYTES) throw openFailed('truncated');
      const plaintext = openChunk(secrets, i, sealed);
      out.set(plaintext, i * CHUNK_BYTES);
      plaintext.fill(0);
    }
    complete = true;
    return out;
  } finally {
    if (!complete) out.fill(0);
  }
}

function nonceOf(secrets: Uint8Array, index: number): Uint8Array {
  if (index >= MAX_CHUNKS) throw new RangeError('a message has at most 2^38 chunks');
  const nonce = secrets.slice(KEY_BYTES, COMMITMENT_AT);
  let rest = index;
  for (let at = NONCE_BYTES - 1; rest > 0; at--) {
    nonce[at] = (nonce[at] ?? 0) ^ (rest & 0xff);
    rest = Math.floor(rest / 256);
  }
  return nonce;
}

/**
 * Runs `make` while new errors carry no stack. Given key bytes, Node 24.21 throws and catches two exceptions inside
 * `createCipheriv`; their stacks cost 8 µs of 11. A `KeyObject` would avoid them but keeps its copy of the key in
 * native memory until a garbage collection. `make` is synchronous, so nothing else sees the changed limit.
 */
function withoutStackTraces<T>(make: () => T): T {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = 0;
  try {
    return make();
  } finally {
    Error.stackTraceLimit = limit;
  }
}
