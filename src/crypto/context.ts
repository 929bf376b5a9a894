/**
 * What a message is bound to and is not stored in it: tenant, scope, purpose, resource id and the caller's own pairs.
 * The encoding is injective: equal bytes mean equal values.
 */
import { label } from '../brand.ts';
import { ServiceError } from '../errors.ts';
import { utf8, utf8Length, Writer } from './encoding.ts';

/** The caller's own pairs. Names are non-empty; values may be empty; all are well-formed and free of U+0000. */
export type EncryptionContext = Readonly<Record<string, string>>;

export const CONTEXT_LIMITS = { pairs: 16, bytes: 8192, resourceIdBytes: 1024 } as const;

const LABEL_MESSAGE = label('message');
const LABEL_KMS = label('kms-aad');
const NAME = /^[a-z0-9][a-z0-9._-]{0,63}$/;
const OWN_PURPOSE = /^~[a-z0-9][a-z0-9._-]{0,62}$/;

export function isScope(text: string): boolean {
  return NAME.test(text);
}

/** A purpose that a caller may name. */
export function isPurpose(text: string): boolean {
  return NAME.test(text);
}

/** A purpose of our own, which starts with `~` and which no API route accepts. */
export function isOwnPurpose(text: string): boolean {
  return OWN_PURPOSE.test(text);
}

export interface MessageBinding {
  readonly tenant: string;
  readonly scope: string;
  readonly purpose: string;
  /** At most 1,024 bytes; empty when the caller gave none. */
  readonly resourceId: string;
  readonly context: EncryptionContext | ReadonlyMap<string, string>;
}

/**
 * The caller's pairs as u16 n ‖ n × (LP16 name ‖ LP16 value), sorted by the UTF-8 bytes of the names.
 *
 * @throws ServiceError REQUEST_INVALID, detail `context-pairs` (more than 16), `context-name` (empty),
 * `context-value` (not a string), `context-size` (names and values above 8,192 bytes) or `text`.
 */
export function encodeContext(context: EncryptionContext | ReadonlyMap<string, string>): Uint8Array {
  const given = context instanceof Map ? [...context] : Object.entries(context);
  if (given.length > CONTEXT_LIMITS.pairs) throw invalid('context-pairs');
  const pairs: { name: Uint8Array; value: string }[] = [];
  let size = 0;
  for (const [name, value] of given) {
    if (name === '') throw invalid('context-name');
    if (typeof value !== 'string') throw invalid('context-value');
    size += utf8Length(name) + utf8Length(value);
    pairs.push({ name: Buffer.from(name), value });
  }
  if (size > CONTEXT_LIMITS.bytes) throw invalid('context-size');
  pairs.sort((a, b) => Buffer.compare(a.name, b.name));
  const out = new Writer(2 + 4 * pairs.length + size).u16(pairs.length);
  for (const pair of pairs) out.lp16(pair.name).text(pair.value);
  return out.bytes;
}

/**
 * The context of one message: label `message` ‖ header 24 ‖ LP16 tenant ‖ LP16 scope ‖ LP16 purpose ‖
 * LP16 resource_id ‖ {@link encodeContext}.
 *
 * @throws ServiceError REQUEST_INVALID, detail `resource-id` above 1,024 bytes, or as {@link encodeContext}.
 */
export function messageContext(binding: MessageBinding & { readonly header: Uint8Array }): Uint8Array {
  const { header, tenant, scope, purpose, resourceId } = binding;
  const resourceIdLength = utf8Length(resourceId);
  if (resourceIdLength > CONTEXT_LIMITS.resourceIdBytes) throw invalid('resource-id');
  const pairs = encodeContext(binding.context);
  const names = utf8Length(tenant) + utf8Length(scope) + utf8Length(purpose) + resourceIdLength;
  return new Writer(LABEL_MESSAGE.length + header.length + 8 + names + pairs.length)
    .raw(LABEL_MESSAGE)
    .raw(header)
    .text(tenant)
    .text(scope)
    .text(purpose)
    .text(resourceId)
    .raw(pairs).bytes;
}

/**
 * The KMS context as bytes, for a KMS that takes associated data: label `kms-aad` ‖ LP16 tenant ‖ LP16 scope ‖
 * LP16 key, where `key` is the text id, `key_…`.
 */
export function kmsContextBytes(wrap: { tenant: string; scope: string; key: string }): Uint8Array {
  const tenant = utf8(wrap.tenant);
  const scope = utf8(wrap.scope);
  const key = utf8(wrap.key);
  return new Writer(LABEL_KMS.length + 6 + tenant.length + scope.length + key.length)
    .raw(LABEL_KMS)
    .lp16(tenant)
    .lp16(scope)
    .lp16(key).bytes;
}

function invalid(detail: string): ServiceError {
  return new ServiceError('REQUEST_INVALID', { detail });
}
