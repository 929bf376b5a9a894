/**
 * The authenticator at the end of every stored object: LP16 auth_id ‖ HMAC-SHA-256 32, made with a record key that
 * lives outside the database. It authenticates and opens nothing: it keeps a database writer from pointing a tenant at
 * another key, choosing what is current, or minting a caller.
 */
import { label } from '../brand.ts';
import { ServiceError } from '../errors.ts';
import { type Reader, utf8, Writer } from './encoding.ts';
import { equalSecret, hmac } from './mac.ts';

export const MAC_BYTES = 32;
const RECORD_KEY_BYTES = 32;
const LABELS = {
  'auth-record': label('auth-record'),
  'auth-binding': label('auth-binding'),
  'auth-head': label('auth-head'),
} as const;

/** The kinds of object that end in an authenticator. */
export type AuthLabel = keyof typeof LABELS;

/** The record keys of this replica. Keys have 32 bytes; ids are non-empty text. */
export interface RecordKeys {
  /** The one that new authenticators are made with. */
  readonly signing: { readonly id: string; readonly key: Uint8Array };
  /** The key of an id; `retired` when it must no longer be believed; undefined when it is not loaded here. */
  find(id: string): { readonly key: Uint8Array } | 'retired' | undefined;
}

/** What a parsed object says about its authenticator. */
export interface Authenticator {
  readonly authId: string;
  readonly mac: Uint8Array;
}

export function tampered(detail: string, cause?: unknown): ServiceError {
  return new ServiceError('KEY_RECORD_TAMPERED', cause === undefined ? { detail } : { detail, cause });
}

/** `body` ‖ LP16 auth_id ‖ HMAC(label ‖ all of that). */
export function appendAuthenticator(
  name: AuthLabel,
  body: readonly Uint8Array[],
  recordKeys: RecordKeys,
): Uint8Array {
  const authId = utf8(recordKeys.signing.id);
  if (authId.length === 0) throw new RangeError('a record key has an id');
  let length = 2 + authId.length + MAC_BYTES;
  for (const part of body) length += part.length;
  const object = new Writer(length);
  for (const part of body) object.raw(part);
  object.lp16(authId);
  return object.raw(macOf(name, recordKeys.signing.key, object.bytes.subarray(0, object.length))).bytes;
}

/** Reads the authenticator and the end of the object. */
export function readAuthenticator(reader: Reader): Authenticator {
  const authId = reader.text();
  if (authId === '') throw tampered('auth-id');
  const mac = reader.raw(MAC_BYTES);
  reader.end();
  return { authId, mac };
}

/**
 * Checks the HMAC of a whole object that was parsed before.
 *
 * @throws ServiceError RECORD_KEY_UNAVAILABLE for an unknown auth_id; KEY_RECORD_TAMPERED, detail `retired` or `mac`.
 */
export function checkAuthenticator(
  name: AuthLabel,
  object: Uint8Array,
  { authId, mac }: Authenticator,
  recordKeys: RecordKeys,
): void {
  const key = recordKeyOf(authId, recordKeys);
  const expected = macOf(name, key, object.subarray(0, object.length - MAC_BYTES));
  if (!equalSecret(expected, mac)) throw tampered('mac');
}

/** The record key of an id, or the error that its absence is. */
export function recordKeyOf(authId: string, recordKeys: RecordKeys): Uint8Array {
  const found = recordKeys.find(authId);
  if (found === undefined) throw new ServiceError('RECORD_KEY_UNAVAILABLE', { detail: 'auth-id' });
  if (found === 'retired') throw tampered('retired');
  return found.key;
}

/** HMAC-SHA-256 of label ‖ bytes under a record key. */
function macOf(name: AuthLabel, key: Uint8Array, bytes: Uint8Array): Uint8Array {
  if (key.length !== RECORD_KEY_BYTES) throw new RangeError('a record key has 32 bytes');
  return hmac('sha256', key, LABELS[name], bytes);
}
