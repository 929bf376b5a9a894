/**
 * The MAC of a row that says who a caller is: an API key, an invitation, a role grant or a trusted issuer.
 * The row itself is ordinary columns; only the order and spelling of what is authenticated is fixed.
 */
import { label } from '../brand.ts';
import { utf8, Writer } from './encoding.ts';
import { equalSecret, hmac } from './mac.ts';
import { type Authenticator, type RecordKeys, recordKeyOf, tampered } from './record-auth.ts';

export interface PrincipalFields {
  readonly tenant: string;
  readonly principal: string;
  readonly role: string;
  /** In the stored order, which is authenticated. */
  readonly scopes: readonly string[];
  readonly purposes: readonly string[];
  /** Milliseconds since 1970, or undefined when it does not expire. */
  readonly expiresMs: number | undefined;
  readonly state: string;
  /** 32 bytes: SHA-256 of the secret, or of the issuer's configuration. */
  readonly secretSha256: Uint8Array;
}

const LABEL = label('auth-principal');

/** The authenticator of a row, made with the signing record key. */
export function principalMac(fields: PrincipalFields, recordKeys: RecordKeys): Authenticator {
  const authId = recordKeys.signing.id;
  return { authId, mac: hmac('sha256', recordKeys.signing.key, LABEL, encodePrincipal(fields, authId)) };
}

/**
 * Checks the authenticator of a row, before anything in the row is believed.
 *
 * @throws ServiceError RECORD_KEY_UNAVAILABLE for an unknown auth id; KEY_RECORD_TAMPERED, detail `retired` or `mac`.
 */
export function verifyPrincipal(
  fields: PrincipalFields,
  stored: Authenticator,
  recordKeys: RecordKeys,
): void {
  const key = recordKeyOf(stored.authId, recordKeys);
  const expected = hmac('sha256', key, LABEL, encodePrincipal(fields, stored.authId));
  if (!equalSecret(expected, stored.mac)) throw tampered('mac');
}

/** LP16 of each field in order; a list is one field that holds the LP16 of each element. */
export function encodePrincipal(fields: PrincipalFields, authId: string): Uint8Array {
  if (fields.secretSha256.length !== 32) throw new RangeError('a SHA-256 has 32 bytes');
  const parts = [
    utf8(fields.tenant),
    utf8(fields.principal),
    utf8(fields.role),
    encodeList(fields.scopes),
    encodeList(fields.purposes),
    utf8(fields.expiresMs === undefined ? '' : decimal(fields.expiresMs)),
    utf8(fields.state),
    fields.secretSha256,
    utf8(authId),
  ];
  return lp16All(parts);
}

function encodeList(texts: readonly string[]): Uint8Array {
  return lp16All(texts.map(utf8));
}

function lp16All(parts: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of parts) length += 2 + part.length;
  const out = new Writer(length);
  for (const part of parts) out.lp16(part);
  return out.bytes;
}

function decimal(value: number): string {
  if (!Number.isSafeInteger(value) || value < 0)
    throw new RangeError('expiry is not a whole number of milliseconds');
  return String(value);
}
