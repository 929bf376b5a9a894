/**
 * Bytes, texts and ids as the format spells them. Integers are big-endian; LP16(x) is a u16 length and the bytes.
 */
import { randomFillSync } from 'node:crypto';
import { ServiceError } from '../errors.ts';

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

export const ID_BYTES = 16;
const ID_CHARS = 26;
const ID_ALPHABET = 'abcdefghijklmnopqrstuvwxyz234567';

/**
 * A zeroed buffer of its own, outside the JavaScript heap at every size. `new Uint8Array(n)` of 64 bytes or fewer
 * lives on the heap, where the collector moves it and leaves copies, so key bytes never go there.
 */
export function ownBytes(length: number): Uint8Array {
  return new Uint8Array(new ArrayBuffer(length));
}

/** 16 bytes from the operating system's generator: the id of a key, a binding or a principal. */
export function newId(): Uint8Array {
  return randomFillSync(ownBytes(ID_BYTES));
}

/** Whether two byte strings are equal. Not constant-time: for ids and stored bytes, never for MACs or secrets. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

/**
 * The UTF-8 bytes of a text.
 *
 * @throws ServiceError REQUEST_INVALID, detail `text`, on a lone surrogate or U+0000.
 */
export function utf8(text: string): Uint8Array {
  checkText(text);
  return encoder.encode(text);
}

/** The number of UTF-8 bytes of a text. Throws like {@link utf8}. */
export function utf8Length(text: string): number {
  checkText(text);
  return Buffer.byteLength(text);
}

function checkText(text: string): void {
  if (!text.isWellFormed() || text.includes('\0'))
    throw new ServiceError('REQUEST_INVALID', { detail: 'text' });
}

/** The text of UTF-8 bytes, or undefined when they are not well-formed or hold U+0000. */
export function decodeUtf8(bytes: Uint8Array): string | undefined {
  try {
    const text = decoder.decode(bytes);
    return text.includes('\0') ? undefined : text;
  } catch {
    return undefined;
  }
}

export function u16(value: number): Uint8Array {
  return new Writer(2).u16(value).bytes;
}

export function u32(value: number): Uint8Array {
  return new Writer(4).u32(value).bytes;
}

/** `value` is a whole number from 0 to 2^53 - 1; larger ones are not part of the format. */
export function u64(value: number): Uint8Array {
  return new Writer(8).u64(value).bytes;
}

/** A u16 length and the bytes. Throws RangeError above 65,535 bytes. */
export function lp16(bytes: Uint8Array): Uint8Array {
  return new Writer(2 + bytes.length).lp16(bytes).bytes;
}

function checkRange(value: number, max: number): void {
  if (!Number.isInteger(value) || value < 0 || value > max) throw new RangeError('integer out of range');
}

/** Fills one buffer of a length that the caller has computed. Every method throws RangeError past its end. */
export class Writer {
  readonly bytes: Uint8Array;
  #at = 0;
  readonly #buffer: Buffer;

  constructor(length: number) {
    this.bytes = ownBytes(length);
    this.#buffer = Buffer.from(this.bytes.buffer);
  }

  /** The number of bytes written so far. */
  get length(): number {
    return this.#at;
  }

  u8(value: number): this {
    checkRange(value, 0xff);
    this.bytes[this.#advance(1)] = value;
    return this;
  }

  u16(value: number): this {
    checkRange(value, 0xffff);
    this.#buffer.writeUInt16BE(value, this.#advance(2));
    return this;
  }

  u32(value: number): this {
    checkRange(value, 0xffffffff);
    this.#buffer.writeUInt32BE(value, this.#advance(4));
    return this;
  }

  u64(value: number): this {
    checkRange(value, Number.MAX_SAFE_INTEGER);
    this.#buffer.writeBigUInt64BE(BigInt(value), this.#advance(8));
    return this;
  }

  raw(bytes: Uint8Array): this {
    this.bytes.set(bytes, this.#advance(bytes.length));
    return this;
  }

  lp16(bytes: Uint8Array): this {
    return this.u16(bytes.length).raw(bytes);
  }

  /** LP16 of the UTF-8 bytes of a text that {@link utf8Length} has accepted. */
  text(text: string): this {
    const length = Buffer.byteLength(text);
    this.u16(length);
    this.#buffer.write(text, this.#advance(length), length, 'utf8');
    return this;
  }

  #advance(length: number): number {
    const at = this.#at;
    if (at + length > this.bytes.length) throw new RangeError('write past the end');
    this.#at = at + length;
    return at;
  }
}

/** Reads one buffer from front to back. `fail(word)` makes the error that is thrown for anything irregular. */
export class Reader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #fail: (word: string) => Error;
  #at = 0;

  constructor(bytes: Uint8Array, fail: (word: string) => Error) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#fail = fail;
  }

  get offset(): number {
    return this.#at;
  }

  u8(): number {
    return this.#view.getUint8(this.#advance(1));
  }

  u16(): number {
    return this.#view.getUint16(this.#advance(2));
  }

  u32(): number {
    return this.#view.getUint32(this.#advance(4));
  }

  /** Fails with `integer` above 2^53 - 1. */
  u64(): number {
    const value = this.#view.getBigUint64(this.#advance(8));
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw this.#fail('integer');
    return Number(value);
  }

  /** The next `length` bytes, as a view into the input. */
  raw(length: number): Uint8Array {
    const at = this.#advance(length);
    return this.#bytes.subarray(at, at + length);
  }

  lp16(): Uint8Array {
    return this.raw(this.u16());
  }

  /** LP16 of well-formed UTF-8 without U+0000; fails with `text`. */
  text(): string {
    const text = decodeUtf8(this.lp16());
    if (text === undefined) throw this.#fail('text');
    return text;
  }

  /** Fails with `trailing` unless everything was read. */
  end(): void {
    if (this.#at !== this.#bytes.length) throw this.#fail('trailing');
  }

  #advance(length: number): number {
    const at = this.#at;
    if (at + length > this.#bytes.length) throw this.#fail('length');
    this.#at = at + length;
    return at;
  }
}

/** The text form of a 16-byte id: prefix and RFC 4648 base32, lower case, unpadded, 26 characters. */
export function encodeId(prefix: string, bytes16: Uint8Array): string {
  if (bytes16.length !== ID_BYTES) throw new RangeError('an id has 16 bytes');
  let text = prefix;
  let held = 0;
  let bits = 0;
  for (const byte of bytes16) {
    held = (held << 8) | byte;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      text += ID_ALPHABET.charAt((held >>> bits) & 31);
    }
    held &= (1 << bits) - 1;
  }
  return text + ID_ALPHABET.charAt((held << (5 - bits)) & 31);
}

/** The 16 bytes of an id, or undefined when the text is not the one canonical spelling with this prefix. */
export function decodeId(prefix: string, text: string): Uint8Array | undefined {
  if (!text.startsWith(prefix) || text.length !== prefix.length + ID_CHARS) return undefined;
  const bytes = ownBytes(ID_BYTES);
  let held = 0;
  let bits = 0;
  let at = 0;
  for (const char of text.slice(prefix.length)) {
    const value = ID_ALPHABET.indexOf(char);
    if (value < 0) return undefined;
    held = (held << 5) | value;
    bits += 5;
    if (bits < 8) continue;
    bits -= 8;
    bytes[at++] = held >>> bits;
    held &= (1 << bits) - 1;
  }
  // 26 characters carry 130 bits; the two spare ones are zero in the only spelling that we accept.
  return held === 0 ? bytes : undefined;
}

/** Canonical padded RFC 4648 base64. */
export function encodeBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');
}

/** The bytes of canonical padded base64, in a buffer of their own, or undefined for any other spelling. */
export function decodeBase64(text: string): Uint8Array | undefined {
  if (text.length % 4 !== 0) return undefined;
  const padding = text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0;
  const length = (text.length / 4) * 3 - padding;
  const bytes = ownBytes(length);
  const view = Buffer.from(bytes.buffer);
  // Node's decoder also takes the URL alphabet, spaces and stray bits; the round trip refuses them.
  if (view.write(text, 'base64') !== length || view.toString('base64') !== text) return undefined;
  return bytes;
}
