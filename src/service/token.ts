/**
 * Bearer tokens: `<prefix><principal id>_<secret><checksum>` in lower-case base32 without padding, with the parts
 * `ktt_` (API key), `kto_` (operator key) or `kti_` (invitation); 26 characters for the 16 bytes of the id; 52 for the
 * 32 bytes of the secret; 7 for the CRC-32 of all text before them. The checksum finds typing errors and stray text
 * without a look at the database; it protects nothing. Only SHA-256 of the secret is ever stored: a 256-bit
 * secret needs no slow hash.
 */
import { hash, randomFillSync } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { API_KEY_PREFIX, ID_PREFIX } from '../brand.ts';

export type TokenKind = 'api-key' | 'operator' | 'invitation';

const PREFIX: Record<TokenKind, string> = { 'api-key': API_KEY_PREFIX, operator: 'kto_', invitation: 'kti_' };
const ID_END = 4 + 26;
const SECRET_START = ID_END + 1;
const SECRET_END = SECRET_START + 52;
const TOKEN_LENGTH = SECRET_END + 7;
const ALPHABET = 'abcdefghijklmnopqrstuvwxyz234567';

export interface ParsedToken {
  readonly kind: TokenKind;
  /** `prn_…`, the id to look up. */
  readonly principalId: string;
  /** 32 bytes. The secret itself does not leave this module. */
  readonly secretSha256: Uint8Array;
}

export interface MintedToken extends ParsedToken {
  /** Shown to its owner once and never stored. */
  readonly token: string;
}

/** Makes a token with a fresh principal id and a fresh 256-bit secret. */
export function mintToken(kind: TokenKind = 'api-key'): MintedToken {
  const id = randomFillSync(new Uint8Array(16));
  const secret = randomFillSync(new Uint8Array(32));
  try {
    const body = `${PREFIX[kind]}${base32(id)}_${base32(secret)}`;
    return {
      kind,
      principalId: ID_PREFIX.principal + base32(id),
      secretSha256: sha256(secret),
      token: body + checksum(body),
    };
  } finally {
    secret.fill(0);
  }
}

/** Reads a token. Undefined for any text that {@link mintToken} cannot have made; one text only for each token. */
export function parseToken(text: string): ParsedToken | undefined {
  if (text.length !== TOKEN_LENGTH || text.charCodeAt(ID_END) !== 0x5f) return undefined;
  const kind = kindOf(text);
  if (kind === undefined) return undefined;
  if (checksum(text.slice(0, SECRET_END)) !== text.slice(SECRET_END)) return undefined;
  const secret = new Uint8Array(32);
  if (!readBase32(text, 4, new Uint8Array(16)) || !readBase32(text, SECRET_START, secret)) return undefined;
  const secretSha256 = sha256(secret);
  secret.fill(0);
  return { kind, principalId: ID_PREFIX.principal + text.slice(4, ID_END), secretSha256 };
}

function kindOf(text: string): TokenKind | undefined {
  if (text.startsWith(PREFIX['api-key'])) return 'api-key';
  if (text.startsWith(PREFIX.operator)) return 'operator';
  if (text.startsWith(PREFIX.invitation)) return 'invitation';
  return undefined;
}

function sha256(bytes: Uint8Array): Uint8Array {
  return hash('sha256', bytes, 'buffer');
}

function checksum(text: string): string {
  const value = crc32(text);
  return base32(Uint8Array.of(value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255));
}

function base32(bytes: Uint8Array): string {
  let out = '';
  let held = 0;
  let bits = 0;
  for (const byte of bytes) {
    held = ((held << 8) | byte) & 0xfff;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      out += ALPHABET.charAt((held >>> bits) & 31);
    }
  }
  return bits === 0 ? out : out + ALPHABET.charAt((held << (5 - bits)) & 31);
}

/** Fills `out` from the text at `start`; false for a foreign character or spare bits that are not zero. */
function readBase32(text: string, start: number, out: Uint8Array): boolean {
  let held = 0;
  let bits = 0;
  let at = start;
  for (let i = 0; i < out.length; i++) {
    while (bits < 8) {
      const value = digit(text.charCodeAt(at++));
      if (value < 0) return false;
      held = ((held << 5) | value) & 0xfff;
      bits += 5;
    }
    bits -= 8;
    out[i] = (held >>> bits) & 255;
  }
  return (held & ((1 << bits) - 1)) === 0;
}

function digit(code: number): number {
  if (code >= 0x61 && code <= 0x7a) return code - 0x61;
  if (code >= 0x32 && code <= 0x37) return code - 0x32 + 26;
  return -1;
}
