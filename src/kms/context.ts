/** The wrap context in the two forms that a KMS takes: bytes, or a map of names and values. */
import { KMS_CONTEXT_NAMES, label } from '../brand.ts';
import type { WrapContext } from './driver.ts';

/** For a KMS whose context is additional data: label `kms-aad` and the three values, each after its u16 length. */
export function contextBytes(context: WrapContext): Uint8Array {
  const parts = [context.tenant, context.scope, context.key].map((text) => new TextEncoder().encode(text));
  const head = label('kms-aad');
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + 2 + part.length, head.length));
  bytes.set(head);
  let at = head.length;
  for (const part of parts) {
    new DataView(bytes.buffer).setUint16(at, part.length);
    bytes.set(part, at + 2);
    at += 2 + part.length;
  }
  return bytes;
}

/** For a KMS whose context is a map. */
export function contextMap(context: WrapContext): Record<string, string> {
  return {
    [KMS_CONTEXT_NAMES.tenant]: context.tenant,
    [KMS_CONTEXT_NAMES.scope]: context.scope,
    [KMS_CONTEXT_NAMES.key]: context.key,
  };
}
