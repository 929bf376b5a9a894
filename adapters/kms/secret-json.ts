/**
 * Moves key bytes past a vendor's client, which would leave base64 copies of them in strings and pooled buffers that nobody can
 * zero. On the way out a placeholder is serialized and replaced in the body; on the way in the value is taken out of the
 * body before it is parsed.
 */
import { secretBytes } from '../../src/secret-bytes.ts';

const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const ARRAY = 0x5b;
const ARRAY_END = 0x5d;
const OBJECT = 0x7b;
const OBJECT_END = 0x7d;
const BACKSLASH = 0x5c;
const FILLER = 0x41;
const ALPHABET = new TextEncoder().encode('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/');
const PAD = 0x3d;

/**
 * Finds the string at `path` (names of nested objects, outermost first) in a JSON body, returns its bytes in a buffer of their
 * own and overwrites its text with `A`, which is still base64. Undefined when there is no such member; throws a SyntaxError
 * when its value is no base64. The caller owns and zeroes what is returned.
 */
export function takeSecret(body: Uint8Array, path: readonly string[]): Uint8Array | undefined {
  const at = findMember(body, path);
  if (!at) return undefined;
  const [start, end] = at;
  let sextets = 0;
  let accumulator = 0;
  let length = 0;
  const decoded = secretBytes(Math.floor(((end - start) * 3) / 4));
  for (let i = start; i < end; i += 1) {
    const byte = body[i] ?? 0;
    body[i] = byte === PAD ? PAD : FILLER;
    // The only escape that JSON allows in base64 text is that of the solidus.
    if (byte === BACKSLASH || byte === PAD) continue;
    const value = ALPHABET.indexOf(byte);
    if (value < 0) {
      decoded.fill(0);
      throw new SyntaxError(`${path.join('.')} is no base64`);
    }
    accumulator = ((accumulator << 6) | value) & 0xffffff;
    sextets += 1;
    if (sextets % 4 === 0) {
      decoded[length] = accumulator >> 16;
      decoded[length + 1] = (accumulator >> 8) & 0xff;
      decoded[length + 2] = accumulator & 0xff;
      length += 3;
    }
  }
  if (sextets % 4 === 2) {
    decoded[length] = (accumulator >> 4) & 0xff;
    length += 1;
  } else if (sextets % 4 === 3) {
    decoded[length] = (accumulator >> 10) & 0xff;
    decoded[length + 1] = (accumulator >> 2) & 0xff;
    length += 2;
  }
  const key = secretBytes(length);
  key.set(decoded.subarray(0, length));
  decoded.fill(0);
  return key;
}

/**
 * A copy of `body`, unpooled, in which the base64 of `placeholder` is replaced by that of `key` of the same length. The
 * caller zeroes it. Throws when the placeholder is not there exactly once.
 */
export function replacePlaceholder(body: Uint8Array, placeholder: Uint8Array, key: Uint8Array): Uint8Array {
  const text = Buffer.from(placeholder).toString('base64');
  const view = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  const at = view.indexOf(text);
  if (at < 0 || view.indexOf(text, at + 1) >= 0 || key.length !== placeholder.length) {
    throw new Error('the serialized request does not hold the placeholder once');
  }
  const replaced = secretBytes(body.length);
  replaced.set(body);
  for (let i = 0, to = at; i < key.length; i += 3, to += 4) {
    const left = key.length - i;
    const a = key[i] ?? 0;
    const b = left > 1 ? (key[i + 1] ?? 0) : 0;
    const c = left > 2 ? (key[i + 2] ?? 0) : 0;
    replaced[to] = ALPHABET[a >> 2] ?? 0;
    replaced[to + 1] = ALPHABET[((a & 3) << 4) | (b >> 4)] ?? 0;
    replaced[to + 2] = left > 1 ? (ALPHABET[((b & 15) << 2) | (c >> 6)] ?? 0) : PAD;
    replaced[to + 3] = left > 2 ? (ALPHABET[c & 63] ?? 0) : PAD;
  }
  return replaced;
}

/** Start and end of the text of a string member, without its quotes. */
function findMember(body: Uint8Array, path: readonly string[]): readonly [number, number] | undefined {
  let depth = 0;
  // How many names of the path we are inside of. The object that we are in lies on the path when depth is one more.
  let matched = 0;
  let nameDue = false;
  let member = '';
  for (let i = 0; i < body.length; i += 1) {
    const byte = body[i];
    const onPath = depth === matched + 1 && member === path[matched];
    if (byte === COLON) nameDue = false;
    if (byte === COMMA || byte === OBJECT || byte === ARRAY) member = '';
    if (byte === COMMA || byte === OBJECT) nameDue = true;
    if (byte === OBJECT && onPath && matched < path.length - 1) matched += 1;
    if (byte === OBJECT || byte === ARRAY) depth += 1;
    if (byte === OBJECT_END || byte === ARRAY_END) {
      depth -= 1;
      matched = Math.max(0, Math.min(matched, depth - 1));
    }
    if (byte !== QUOTE) continue;
    const start = i + 1;
    i = endOfString(body, start);
    if (onPath && !nameDue && matched === path.length - 1) return [start, i];
    const isName = nameDue && depth === matched + 1 && i - start === path[matched]?.length;
    // A name of another length is never decoded, so no value becomes a string here.
    member = isName ? String.fromCharCode(...body.subarray(start, i)) : '';
  }
  return undefined;
}

function endOfString(body: Uint8Array, start: number): number {
  let i = start;
  while (i < body.length && body[i] !== QUOTE) i += body[i] === BACKSLASH ? 2 : 1;
  return i;
}
