/**
 * What comes out of the core before its record is durable. Only {@link Sealed.reveal} opens it, and that wants a
 * {@link DurableRecord}, which only the usage log makes, after the commit.
 */
import { inspect } from 'node:util';

const MADE_BY_THE_LOG = Symbol('made by the log');

/** Proof that a record is in the log for good. */
export class DurableRecord {
  /** 16 bytes. */
  readonly eid: Uint8Array;
  readonly index: number;
  /** 32 bytes. */
  readonly leafHash: Uint8Array;

  constructor(key: typeof MADE_BY_THE_LOG, eid: Uint8Array, index: number, leafHash: Uint8Array) {
    if (key !== MADE_BY_THE_LOG) throw new TypeError('only the usage log makes durable records');
    this.eid = eid;
    this.index = index;
    this.leafHash = leafHash;
  }
}

/** For the usage log alone; a test of the import rules keeps it so. */
export function durableRecord(eid: Uint8Array, index: number, leafHash: Uint8Array): DurableRecord {
  return new DurableRecord(MADE_BY_THE_LOG, eid, index, leafHash);
}

/** Bytes that wait for their record. They never show in JSON, text or inspection. */
export class Sealed {
  #bytes: Uint8Array | undefined;
  readonly #eid: Uint8Array;

  /** Takes ownership of `bytes`. `eid` names the record that must be durable first. */
  constructor(bytes: Uint8Array, eid: Uint8Array) {
    this.#bytes = bytes;
    this.#eid = eid;
  }

  /** Hands the bytes to the caller, who zeroes them. Throws a TypeError for another record, or when called again. */
  reveal(record: DurableRecord): Uint8Array {
    const bytes = this.#bytes;
    if (
      !(record instanceof DurableRecord) ||
      Buffer.compare(record.eid, this.#eid) !== 0 ||
      bytes === undefined
    ) {
      throw new TypeError('a sealed value opens once, for its own durable record');
    }
    this.#bytes = undefined;
    return bytes;
  }

  /** Zeroes the bytes; they can not be revealed any more. */
  destroy(): void {
    this.#bytes?.fill(0);
    this.#bytes = undefined;
  }

  toJSON(): string {
    return '[sealed]';
  }

  toString(): string {
    return '[sealed]';
  }

  [inspect.custom](): string {
    return '[sealed]';
  }
}
