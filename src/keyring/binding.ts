/** A customer key and how it is reached, as the stored binding says it. */
import { createHash } from 'node:crypto';
import { ID_PREFIX } from '../brand.ts';
import { encodeId } from '../crypto/encoding.ts';
import { tampered } from '../crypto/record-auth.ts';
import type { StoredBinding, WrapEntry } from '../crypto/records.ts';
import type { KmsTarget } from '../kms/caller.ts';

/** What the `access` bytes of a binding hold: the driver's own part, and the scopes that want a flight for each use. */
export interface StoredAccess {
  /** JSON text as `checkTarget` returned it. */
  readonly access: string;
  readonly perUse: readonly string[];
}

/** The bytes that a binding authenticates. */
export function encodeAccess({ access, perUse }: StoredAccess): Uint8Array {
  return new TextEncoder().encode(JSON.stringify({ access: JSON.parse(access), perUse: [...perUse].sort() }));
}

/** Reads what {@link encodeAccess} wrote. Throws KEY_RECORD_TAMPERED. */
export function decodeAccess(bytes: Uint8Array): StoredAccess {
  try {
    const { access, perUse } = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
    return { access: JSON.stringify(access), perUse };
  } catch (error) {
    throw tampered('access', error);
  }
}

export function bindingIdText(bindingId: Uint8Array): string {
  return encodeId(ID_PREFIX.customerKey, bindingId);
}

export function keyIdText(keyId: Uint8Array): string {
  return encodeId(ID_PREFIX.key, keyId);
}

/** Where to call for this binding. */
export function targetOf(binding: StoredBinding): KmsTarget {
  return {
    tenant: binding.tenant,
    bindingId: bindingIdText(binding.bindingId),
    version: binding.version,
    provider: binding.provider,
    keyRef: binding.keyRef,
    access: decodeAccess(binding.access).access,
  };
}

/** 32 bytes that name one wrap entry of one root: what a refusal fences. */
export function wrapEntryName(rootId: Uint8Array, wrap: WrapEntry): Uint8Array {
  return createHash('sha256').update(rootId).update(wrap.wrapperId).update(wrap.wrapped).digest();
}
