/** The proof that one entry is in a log, as one text that is verified without the log: c2sp.org/tlog-proof, version 1. */
import {
  type Checkpoint,
  fromBase64,
  type NoteKey,
  parseCheckpoint,
  parseDecimal,
  splitNote,
  verifyNote,
} from './note.ts';
import { HASH_BYTES, leafHash, verifyInclusion } from './tree.ts';

const FIRST_LINE = 'c2sp.org/tlog-proof@v1';
/** No tree of at most 2^53 leaves has a longer path. */
const MAX_HASHES = 53;

export interface LogProof {
  readonly index: number;
  /** From the leaf's sibling up to the root's child, 32 bytes each. */
  readonly hashes: readonly Uint8Array[];
  /** The signed note, as it was published. */
  readonly checkpoint: string;
}

/** Writes a proof. Throws RangeError for parts that no proof may have; whether they prove anything is not looked at. */
export function encodeProof(proof: LogProof): string {
  const hashes = proof.hashes.map((hash) => `${Buffer.from(hash).toString('base64')}\n`).join('');
  const text = `${FIRST_LINE}\nindex ${proof.index}\n${hashes}\n${proof.checkpoint}`;
  if (parseProof(text) === undefined) throw new RangeError('not the parts of a proof');
  return text;
}

/**
 * Reads a proof without verifying it; undefined where it is malformed. A line of extra data, which the format allows and
 * nothing authenticates, is skipped.
 */
export function parseProof(text: string): LogProof | undefined {
  const end = text.indexOf('\n\n');
  if (end < 0) return undefined;
  const [first, ...lines] = text.slice(0, end).split('\n');
  const checkpoint = text.slice(end + 2);
  if (first !== FIRST_LINE || splitNote(checkpoint) === undefined) return undefined;
  const extra = lines[0]?.startsWith('extra ') ? lines.shift()?.slice('extra '.length) : undefined;
  if (extra !== undefined && fromBase64(extra) === undefined) return undefined;
  const [indexLine = '', ...path] = lines;
  const index = indexLine.startsWith('index ') ? parseDecimal(indexLine.slice('index '.length)) : undefined;
  if (index === undefined || path.length > MAX_HASHES) return undefined;
  const hashes = path.map(fromBase64).filter((hash) => hash?.length === HASH_BYTES) as Uint8Array[];
  if (hashes.length !== path.length) return undefined;
  return { index, hashes, checkpoint };
}

export interface VerifiedProof {
  readonly index: number;
  readonly checkpoint: Checkpoint;
}

/**
 * Verifies that `entry` is in the log of `origin` under a checkpoint that one of the keys signed; undefined where
 * anything is wrong. Never throws for any text.
 */
export function verifyProof(
  text: string,
  entry: Uint8Array,
  log: { readonly origin: string; readonly keys: readonly NoteKey[] },
): VerifiedProof | undefined {
  const proof = parseProof(text);
  const note = proof && verifyNote(proof.checkpoint, log.keys);
  const checkpoint = note && parseCheckpoint(note.text);
  if (proof === undefined || checkpoint === undefined || checkpoint.origin !== log.origin) return undefined;
  const { index, hashes } = proof;
  if (!verifyInclusion(index, checkpoint.size, leafHash(entry), hashes, checkpoint.root)) return undefined;
  return { index, checkpoint };
}
