/**
 * Cobblestone-256 in pieces: 16 KiB of buffer, plaintext given out only after its tag was checked.
 * A stream that is cut anywhere fails at `final`; a failed or ended stream fails in every later call.
 */
import { randomFillSync } from 'node:crypto';
import {
  CHUNK_BYTES,
  commitmentOf,
  deriveMessageSecrets,
  openChunk,
  openFailed,
  PREFIX_BYTES,
  SALT_BYTES,
  SEALED_CHUNK_BYTES,
  sealChunk,
  TAG_BYTES,
} from './cobblestone.ts';
import { ownBytes } from './encoding.ts';
import { equalSecret } from './mac.ts';

/** A transformation of bytes in pieces. Returned buffers belong to the caller; given ones are never kept. */
export interface ByteStream {
  /** Takes the next piece, of any length, and returns what is ready. */
  update(bytes: Uint8Array): Uint8Array[];
  /** Ends the stream and returns the rest. Key material is zeroed, also when it throws. */
  final(): Uint8Array[];
  /** Gives up: zeroes key material and buffered plaintext. Idempotent, and harmless after `final`. */
  abort(): void;
}

/** Cuts pieces of any length into blocks of one length and holds the rest. */
class Blocks {
  readonly #held: Uint8Array;
  #length = 0;

  constructor(size: number) {
    this.#held = ownBytes(size);
  }

  /** Calls `take` with each full block: a view that is valid during the call. */
  push(bytes: Uint8Array, take: (block: Uint8Array) => void): void {
    const size = this.#held.length;
    let rest = bytes;
    while (this.#length + rest.length >= size) {
      if (this.#length === 0) {
        take(rest.subarray(0, size));
        rest = rest.subarray(size);
        continue;
      }
      const missing = size - this.#length;
      this.#held.set(rest.subarray(0, missing), this.#length);
      rest = rest.subarray(missing);
      this.#length = 0;
      take(this.#held);
    }
    this.#held.set(rest, this.#length);
    this.#length += rest.length;
  }

  /** The bytes short of a block. */
  get rest(): Uint8Array {
    return this.#held.subarray(0, this.#length);
  }

  wipe(): void {
    this.#held.fill(0);
    this.#length = 0;
  }
}

/** Seals a stream: salt and commitment come out first, then the chunks. `salt` is 24 fresh random bytes unless given. */
export class RawSealer implements ByteStream {
  readonly #secrets: Uint8Array;
  readonly #blocks = new Blocks(CHUNK_BYTES);
  #prefix: Uint8Array | undefined;
  #index = 0;
  #ended = false;

  constructor(key: Uint8Array, context: Uint8Array, salt = randomFillSync(ownBytes(SALT_BYTES))) {
    this.#secrets = deriveMessageSecrets(key, salt, context);
    this.#prefix = ownBytes(PREFIX_BYTES);
    this.#prefix.set(salt);
    this.#prefix.set(commitmentOf(this.#secrets), SALT_BYTES);
  }

  update(bytes: Uint8Array): Uint8Array[] {
    if (this.#ended) throw new Error('the stream has ended');
    const ready = this.#takePrefix();
    this.#blocks.push(bytes, (block) => ready.push(this.#seal(block)));
    return ready;
  }

  final(): Uint8Array[] {
    if (this.#ended) throw new Error('the stream has ended');
    try {
      return [...this.#takePrefix(), this.#seal(this.#blocks.rest)];
    } finally {
      this.abort();
    }
  }

  abort(): void {
    this.#ended = true;
    this.#secrets.fill(0);
    this.#blocks.wipe();
  }

  #takePrefix(): Uint8Array[] {
    const prefix = this.#prefix;
    this.#prefix = undefined;
    return prefix === undefined ? [] : [prefix];
  }

  #seal(plaintext: Uint8Array): Uint8Array {
    const sealed = ownBytes(plaintext.length + TAG_BYTES);
    sealChunk(this.#secrets, this.#index++, plaintext, sealed, 0);
    return sealed;
  }
}

/**
 * Opens a stream. Keeps its own copy of `key` until salt and commitment have arrived.
 * Throws ServiceError DECRYPT_FAILED like `openRaw`, again in every call after the first failure.
 */
export class RawOpener implements ByteStream {
  readonly #key: Uint8Array;
  readonly #context: Uint8Array;
  readonly #prefix = new Blocks(PREFIX_BYTES);
  readonly #blocks = new Blocks(SEALED_CHUNK_BYTES);
  #secrets: Uint8Array | undefined;
  #index = 0;
  #failure: unknown;

  constructor(key: Uint8Array, context: Uint8Array) {
    this.#key = ownBytes(key.length);
    this.#key.set(key);
    this.#context = context;
  }

  update(bytes: Uint8Array): Uint8Array[] {
    const ready: Uint8Array[] = [];
    return this.#guard(ready, () => {
      const rest = this.#secrets === undefined ? this.#readPrefix(bytes) : bytes;
      const secrets = this.#secrets;
      if (secrets === undefined) return;
      this.#blocks.push(rest, (block) => ready.push(openChunk(secrets, this.#index++, block)));
    });
  }

  final(): Uint8Array[] {
    const ready: Uint8Array[] = [];
    this.#guard(ready, () => {
      const last = this.#blocks.rest;
      if (this.#secrets === undefined || last.length < TAG_BYTES) throw openFailed('truncated');
      ready.push(openChunk(this.#secrets, this.#index++, last));
    });
    this.abort();
    return ready;
  }

  abort(): void {
    this.#failure ??= new Error('the stream has ended');
    this.#key.fill(0);
    this.#secrets?.fill(0);
    this.#blocks.wipe();
  }

  #readPrefix(bytes: Uint8Array): Uint8Array {
    const missing = PREFIX_BYTES - this.#prefix.rest.length;
    this.#prefix.push(bytes.subarray(0, missing), (prefix) => {
      this.#secrets = deriveMessageSecrets(this.#key, prefix.subarray(0, SALT_BYTES), this.#context);
      this.#key.fill(0);
      if (!equalSecret(prefix.subarray(SALT_BYTES), commitmentOf(this.#secrets)))
        throw openFailed('commitment');
    });
    return bytes.subarray(missing);
  }

  /** Runs one step; on failure zeroes everything, what this call had opened included, and remembers the error. */
  #guard(ready: Uint8Array[], step: () => void): Uint8Array[] {
    if (this.#failure !== undefined) throw this.#failure;
    try {
      step();
      return ready;
    } catch (error) {
      for (const plaintext of ready) plaintext.fill(0);
      this.#failure = error;
      this.abort();
      throw error;
    }
  }
}
