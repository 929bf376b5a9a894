/**
 * Signed notes (c2sp.org/signed-note v1.0.0) with Ed25519 signatures (type 0x01), and the checkpoints they carry
 * (c2sp.org/tlog-checkpoint v1.0.0). Reading is stricter than the pages where that costs no interoperability: base64 is
 * canonical and checkpoints have no extension lines.
 */
import { createHash, createPublicKey, type KeyObject, sign, verify } from 'node:crypto';

const ED25519 = 0x01;
/** What stands before the 32 bytes of an Ed25519 public key in SubjectPublicKeyInfo (RFC 8410). */
const SPKI_PREFIX = Buffer.from('302a300506032b6570032100', 'hex');
const MAX_NOTE_CHARACTERS = 1_000_000;
const MAX_SIGNATURES = 100;

/** A name and the 32 bytes of its Ed25519 public key. */
export interface NoteKey {
  readonly name: string;
  readonly publicKey: Uint8Array;
}

/** Whoever holds the private key. `sign` gives the 64-byte Ed25519 signature of the bytes as they are (RFC 8032, not pre-hashed). */
export interface NoteSigner extends NoteKey {
  sign(bytes: Uint8Array): Uint8Array | Promise<Uint8Array>;
}

/** A signer with a private key of this process. Throws RangeError for a key of another type. */
export function localSigner(name: string, privateKey: KeyObject): NoteSigner {
  if (privateKey.type !== 'private' || privateKey.asymmetricKeyType !== 'ed25519') {
    throw new RangeError('a note signer needs an Ed25519 private key');
  }
  checkName(name);
  const spki = createPublicKey(privateKey).export({ format: 'der', type: 'spki' });
  return {
    name,
    publicKey: new Uint8Array(spki.subarray(SPKI_PREFIX.length)),
    sign: (bytes) => sign(null, bytes, privateKey),
  };
}

/** SHA-256(name ‖ 0x0A ‖ 0x01 ‖ public key)[:4], as 8 lower-case hex digits. Throws RangeError for a bad name or key length. */
export function keyId(key: NoteKey): string {
  checkName(key.name);
  if (key.publicKey.length !== 32) throw new RangeError('an Ed25519 public key has 32 bytes');
  const digest = createHash('sha256')
    .update(`${key.name}\n`)
    .update(Uint8Array.of(ED25519))
    .update(key.publicKey)
    .digest('hex');
  return digest.slice(0, 8);
}

/** The verifier key as text: `<name>+<key id>+<base64(0x01 ‖ public key)>`. */
export function encodeVerifierKey(key: NoteKey): string {
  const encoded = Buffer.concat([Uint8Array.of(ED25519), key.publicKey]).toString('base64');
  return `${key.name}+${keyId(key)}+${encoded}`;
}

/** Reads a verifier key; undefined where it is malformed, of another type, or its id is not that of its name and key. */
export function parseVerifierKey(text: string): NoteKey | undefined {
  const [, name, id, encoded] = /^([^+]+)\+([0-9a-f]{8})\+(.+)$/.exec(text) ?? [];
  if (name === undefined || encoded === undefined || !isName(name)) return undefined;
  const bytes = fromBase64(encoded);
  if (bytes?.length !== 33 || bytes[0] !== ED25519) return undefined;
  const key = { name, publicKey: bytes.slice(1) };
  return keyId(key) === id ? key : undefined;
}

/** The public key in the form that OpenSSL reads: PEM of SubjectPublicKeyInfo. */
export function publicKeyPem(key: NoteKey): string {
  return publicKeyObject(key).export({ format: 'pem', type: 'spki' }).toString();
}

/** Signs a text that ends in a newline. Throws RangeError for a text that no note may have. */
export async function signNote(text: string, signer: NoteSigner): Promise<string> {
  if (!text.endsWith('\n') || !isNoteText(text)) throw new RangeError('not the text of a note');
  const id = Buffer.from(keyId(signer), 'hex');
  const signature = await signer.sign(new TextEncoder().encode(text));
  if (signature.length !== 64) throw new RangeError('an Ed25519 signature has 64 bytes');
  return `${text}\n— ${signer.name} ${Buffer.concat([id, signature]).toString('base64')}\n`;
}

export interface NoteSignature {
  readonly name: string;
  /** 8 hex digits. */
  readonly keyId: string;
  /** Without the key id. */
  readonly signature: Uint8Array;
}

export interface Note {
  /** With its last newline. */
  readonly text: string;
  readonly signatures: readonly NoteSignature[];
}

/** Splits a note into text and signatures without verifying any; undefined where it is malformed. */
export function splitNote(note: string): Note | undefined {
  if (note.length > MAX_NOTE_CHARACTERS || !isNoteText(note) || !note.endsWith('\n')) return undefined;
  const end = note.lastIndexOf('\n\n');
  if (end < 0) return undefined;
  const lines = note.slice(end + 2, -1).split('\n');
  if (lines.length > MAX_SIGNATURES) return undefined;
  const signatures: NoteSignature[] = [];
  for (const line of lines) {
    const signature = parseSignature(line);
    if (signature === undefined) return undefined;
    signatures.push(signature);
  }
  return { text: note.slice(0, end + 1), signatures };
}

export interface VerifiedNote {
  readonly text: string;
  /** The keys, among those given, that signed it. Never empty. */
  readonly keys: readonly NoteKey[];
}

/**
 * Verifies a note against known keys: undefined unless it is well-formed, at least one of them signed it, and each
 * signature that claims to be of one of them verifies. Signatures of other keys are ignored. Never throws for any note.
 */
export function verifyNote(note: string, known: readonly NoteKey[]): VerifiedNote | undefined {
  const parts = splitNote(note);
  if (parts === undefined) return undefined;
  const bytes = new TextEncoder().encode(parts.text);
  const keys = new Set<NoteKey>();
  for (const { name, keyId: id, signature } of parts.signatures) {
    const key = known.find((candidate) => candidate.name === name && keyId(candidate) === id);
    if (key === undefined) continue;
    if (signature.length !== 64 || !verify(null, bytes, publicKeyObject(key), signature)) return undefined;
    keys.add(key);
  }
  return keys.size === 0 ? undefined : { text: parts.text, keys: [...keys] };
}

/** What a log says of itself at one size. */
export interface Checkpoint {
  readonly origin: string;
  readonly size: number;
  /** 32 bytes. */
  readonly root: Uint8Array;
}

/** The text of a checkpoint: origin, size, root, each on a line. Throws RangeError for an origin, size or root that it cannot hold. */
export function encodeCheckpoint(checkpoint: Checkpoint): string {
  const text = `${checkpoint.origin}\n${checkpoint.size}\n${Buffer.from(checkpoint.root).toString('base64')}\n`;
  if (!isNoteText(text) || parseCheckpoint(text) === undefined) throw new RangeError('not a checkpoint');
  return text;
}

/** Reads the text of a checkpoint; undefined where it is malformed, has extension lines, or a size beyond 2^53 − 1. */
export function parseCheckpoint(text: string): Checkpoint | undefined {
  const [origin, size, root, end, ...more] = text.split('\n');
  if (!origin || size === undefined || root === undefined || end !== '' || more.length > 0) return undefined;
  const leaves = parseDecimal(size);
  const hash = fromBase64(root);
  if (leaves === undefined || hash?.length !== 32) return undefined;
  return { origin, size: leaves, root: hash };
}

/** A decimal without sign or leading zeroes, at most 2^53 − 1; else undefined. */
export function parseDecimal(text: string): number | undefined {
  const value = /^(0|[1-9][0-9]{0,15})$/.test(text) ? Number(text) : Number.NaN;
  return Number.isSafeInteger(value) ? value : undefined;
}

/** Canonical padded base64 of any length; else undefined. */
export function fromBase64(text: string): Uint8Array | undefined {
  const bytes = Buffer.from(text, 'base64');
  return bytes.toString('base64') === text ? new Uint8Array(bytes) : undefined;
}

function parseSignature(line: string): NoteSignature | undefined {
  const [dash, name, encoded, ...more] = line.split(' ');
  if (dash !== '—' || name === undefined || encoded === undefined || more.length > 0) return undefined;
  const bytes = fromBase64(encoded);
  if (!isName(name) || bytes === undefined || bytes.length < 5) return undefined;
  return { name, keyId: Buffer.from(bytes.subarray(0, 4)).toString('hex'), signature: bytes.slice(4) };
}

function publicKeyObject(key: NoteKey): KeyObject {
  const spki = Buffer.concat([SPKI_PREFIX, key.publicKey]);
  return createPublicKey({ key: spki, format: 'der', type: 'spki' });
}

function isName(name: string): boolean {
  return name.isWellFormed() && /^[^\p{White_Space}\p{Cc}+]+$/u.test(name);
}

function checkName(name: string): void {
  if (!isName(name)) throw new RangeError('not the name of a note key');
}

/** Valid UTF-8 and no control character below U+0020 but newlines. */
function isNoteText(text: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what this line refuses.
  return text.isWellFormed() && !/[\0-\x09\x0b-\x1f]/.test(text);
}
