/**
 * Names and bytes that are fixed for ever once data exists. Nothing else in the tree spells them.
 */

/** First four bytes of every stored or returned object: 8E 4B 54 and one letter. */
export const MAGIC = {
  message: Uint8Array.of(0x8e, 0x4b, 0x54, 0x4d),
  keyRecord: Uint8Array.of(0x8e, 0x4b, 0x54, 0x52),
  binding: Uint8Array.of(0x8e, 0x4b, 0x54, 0x42),
  head: Uint8Array.of(0x8e, 0x4b, 0x54, 0x48),
} as const;

/** Names that separate the uses of one hash, MAC or KDF from another. */
export type LabelName =
  | 'auth-record'
  | 'auth-binding'
  | 'auth-head'
  | 'auth-principal'
  | 'key-record'
  | 'key-wrap'
  | 'message'
  | 'kms-aad';

/** The bytes of a label: `keytether/v1 <name>` and a zero byte. */
export function label(name: LabelName): Uint8Array {
  return new TextEncoder().encode(`keytether/v1 ${name}\0`);
}

/** Names of the pairs that go to the customer's KMS with every wrap and unwrap. */
export const KMS_CONTEXT_NAMES = {
  tenant: 'keytether:tenant',
  scope: 'keytether:scope',
  key: 'keytether:key',
} as const;

/** Prefixes of ids (16 random bytes, base32) and of secrets. */
export const ID_PREFIX = {
  tenant: 'ten_',
  key: 'key_',
  customerKey: 'ckey_',
  principal: 'prn_',
} as const;

export const API_KEY_PREFIX = 'ktt_';
export const LEAF_VERSION = 'keytether.log/1';
export const HEADER = {
  requestId: 'Keytether-Request-Id',
  receipt: 'Keytether-Receipt',
  next: 'Keytether-Next',
} as const;

/** The tree that holds what belongs to no tenant: operator acts, writer starts, unauthenticated refusals. */
export const SYSTEM_TENANT = 'system';
/** The scope that a request means when it names none. */
export const DEFAULT_SCOPE = 'default';
