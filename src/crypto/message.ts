/**
 * A message, which callers call an envelope: a fixed 24-byte header and a Cobblestone-256 body. See FORMAT.md.
 *
 *     magic 4 ‖ version 01 ‖ suite 01 ‖ flags 0000 ‖ key_id 16 ‖ salt 24 ‖ commitment 32 ‖ chunks
 *
 * The context is never stored: `contextOf` builds it from the authenticated request and the 24 bytes of header.
 */
import { randomFillSync } from 'node:crypto';
import { MAGIC } from '../brand.ts';
import { ServiceError } from '../errors.ts';
import { openRaw, SALT_BYTES, sealAfterSalt, sealedLength } from './cobblestone.ts';
import { type ByteStream, RawOpener, RawSealer } from './cobblestone-stream.ts';
import { ID_BYTES, ownBytes, sameBytes } from './encoding.ts';

export type { ByteStream } from './cobblestone-stream.ts';

export const HEADER_BYTES = 24;
const VERSION = 1;
/** Cobblestone-256. The reader supports no other suite; a key has exactly one. */
export const SUITE = 1;
const KEY_ID_AT = 8;

/** Builds the context of a message from its header of 24 bytes. Called once per message. */
export type ContextOf = (header: Uint8Array) => Uint8Array;

export interface MessageHeader {
  readonly suite: typeof SUITE;
  /** 16 bytes, a view into the message. */
  readonly keyId: Uint8Array;
}

/**
 * Reads the header, at fixed offsets only. Nothing in it is authenticated before the message is opened.
 *
 * @throws ServiceError ENVELOPE_MALFORMED, detail `length`, `magic`, `version`, `suite` or `flags`.
 */
export function parseMessage(message: Uint8Array): MessageHeader {
  if (message.length < HEADER_BYTES) throw malformed('length');
  if (!sameBytes(message.subarray(0, 4), MAGIC.message)) throw malformed('magic');
  if (message[4] !== VERSION) throw malformed('version');
  if (message[5] !== SUITE) throw malformed('suite');
  if (message[6] !== 0 || message[7] !== 0) throw malformed('flags');
  return { suite: SUITE, keyId: message.subarray(KEY_ID_AT, HEADER_BYTES) };
}

/** The length of the message of a plaintext: 96 bytes more, and 16 for each full 16 KiB. */
export function messageLength(plaintextLength: number): number {
  return HEADER_BYTES + sealedLength(plaintextLength);
}

/**
 * Seals `plaintext` under a 32-byte key with a fresh random salt. The caller keeps and zeroes its buffers.
 * A key seals at most 2^32 messages; counting them is the caller's.
 */
export function seal(
  key: Uint8Array,
  keyId: Uint8Array,
  contextOf: ContextOf,
  plaintext: Uint8Array,
): Uint8Array {
  return sealWith(key, keyId, contextOf, plaintext, undefined);
}

/** {@link seal} with a given salt, for published vectors only: a repeated salt under one key breaks the cipher. */
export function sealForVectors(
  key: Uint8Array,
  keyId: Uint8Array,
  contextOf: ContextOf,
  plaintext: Uint8Array,
  salt: Uint8Array,
): Uint8Array {
  return sealWith(key, keyId, contextOf, plaintext, salt);
}

/**
 * Opens a message. Returns the plaintext in a buffer of its own, which the caller zeroes.
 *
 * @throws ServiceError ENVELOPE_MALFORMED like {@link parseMessage}; DECRYPT_FAILED with detail `commitment` (another
 * key, header, salt or context), `tag` (a changed chunk) or `truncated`. What was decrypted until then is zeroed.
 */
export function open(key: Uint8Array, message: Uint8Array, contextOf: ContextOf): Uint8Array {
  parseMessage(message);
  return openRaw(key, message.subarray(HEADER_BYTES), contextOf(message.subarray(0, HEADER_BYTES)));
}

/** {@link seal} in pieces. The first piece that comes out starts with the header. */
export function createSealer(key: Uint8Array, keyId: Uint8Array, contextOf: ContextOf): ByteStream {
  const header = headerOf(keyId);
  const body = new RawSealer(key, contextOf(header));
  let pending: Uint8Array[] = [header];
  const withHeader = (ready: Uint8Array[]): Uint8Array[] => {
    const all = [...pending, ...ready];
    pending = [];
    return all;
  };
  return {
    update: (bytes) => withHeader(body.update(bytes)),
    final: () => withHeader(body.final()),
    abort: () => body.abort(),
  };
}

/** {@link open} in pieces, from the first byte of the header. Keeps a copy of `key` until the commitment is checked. */
export function createOpener(key: Uint8Array, contextOf: ContextOf): ByteStream {
  return new MessageOpener(key, contextOf);
}

class MessageOpener implements ByteStream {
  readonly #key: Uint8Array;
  readonly #contextOf: ContextOf;
  readonly #header = ownBytes(HEADER_BYTES);
  #headerLength = 0;
  #body: RawOpener | undefined;
  #failure: unknown;

  constructor(key: Uint8Array, contextOf: ContextOf) {
    this.#key = ownBytes(key.length);
    this.#key.set(key);
    this.#contextOf = contextOf;
  }

  update(bytes: Uint8Array): Uint8Array[] {
    if (this.#body !== undefined) return this.#body.update(bytes);
    if (this.#failure !== undefined) throw this.#failure;
    const piece = bytes.subarray(0, HEADER_BYTES - this.#headerLength);
    this.#header.set(piece, this.#headerLength);
    this.#headerLength += piece.length;
    if (this.#headerLength < HEADER_BYTES) return [];
    this.#body = this.#start();
    return this.#body.update(bytes.subarray(piece.length));
  }

  final(): Uint8Array[] {
    if (this.#body !== undefined) return this.#body.final();
    this.#failure ??= malformed('length');
    this.abort();
    throw this.#failure;
  }

  abort(): void {
    this.#failure ??= new Error('the stream has ended');
    this.#key.fill(0);
    this.#body?.abort();
  }

  #start(): RawOpener {
    try {
      parseMessage(this.#header);
      return new RawOpener(this.#key, this.#contextOf(this.#header));
    } catch (error) {
      this.#failure = error;
      throw error;
    } finally {
      this.#key.fill(0);
    }
  }
}

function sealWith(
  key: Uint8Array,
  keyId: Uint8Array,
  contextOf: ContextOf,
  plaintext: Uint8Array,
  salt: Uint8Array | undefined,
): Uint8Array {
  const message = ownBytes(messageLength(plaintext.length));
  writeHeader(message, keyId);
  if (salt === undefined) randomFillSync(message, HEADER_BYTES, SALT_BYTES);
  else message.set(salt, HEADER_BYTES);
  sealAfterSalt(message, HEADER_BYTES, key, contextOf(message.subarray(0, HEADER_BYTES)), plaintext);
  return message;
}

function headerOf(keyId: Uint8Array): Uint8Array {
  const header = ownBytes(HEADER_BYTES);
  writeHeader(header, keyId);
  return header;
}

function writeHeader(target: Uint8Array, keyId: Uint8Array): void {
  if (keyId.length !== ID_BYTES) throw new RangeError('a key id has 16 bytes');
  target.set(MAGIC.message);
  target[4] = VERSION;
  target[5] = SUITE;
  target.set(keyId, KEY_ID_AT);
}

function malformed(detail: string): ServiceError {
  return new ServiceError('ENVELOPE_MALFORMED', { detail });
}
