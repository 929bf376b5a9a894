/**
 * A key record: what a key is (immutable) and who can unwrap it at present (mutable). It holds no key in the clear.
 * FORMAT.md has the table. Parsing is strict: there is one spelling of each record.
 */
import { MAGIC } from '../brand.ts';
import { isOwnPurpose, isPurpose, isScope } from './context.ts';
import { ID_BYTES, Reader, sameBytes, utf8, Writer } from './encoding.ts';
import { SUITE } from './message.ts';
import {
  type Authenticator,
  appendAuthenticator,
  checkAuthenticator,
  type RecordKeys,
  readAuthenticator,
  tampered,
} from './record-auth.ts';

export const COMMITMENT_BYTES = 32;
export const MAX_WRAPPED_BYTES = 4096;
export const MAX_WRAPS = 4;
const VERSION = 1;

const KINDS = ['root', 'data'] as const;
const STATES = ['active', 'retired'] as const;
const MODES = ['one', 'any', 'all'] as const;

export type KeyKind = (typeof KINDS)[number];
export type KeyState = (typeof STATES)[number];
/** `one` wrap; `any` of 2 to 4 suffices; or S is the XOR of `all` 2 to 4. Data keys are `one`. */
export type WrapMode = (typeof MODES)[number];

/** What never changes about a key, but for the commitment, which is computed from it and from S. */
export interface KeyIdentity {
  readonly kind: KeyKind;
  /** 16 bytes. */
  readonly keyId: Uint8Array;
  /** 1 or more, counted within tenant, scope and purpose. */
  readonly keyVersion: number;
  /** Milliseconds since 1970. */
  readonly createdMs: number;
  readonly tenant: string;
  readonly scope: string;
  /** Empty for a root. */
  readonly purpose: string;
}

export interface WrapEntry {
  /** 16 bytes: the binding id for a root, the root's key id for a data key. */
  readonly wrapperId: Uint8Array;
  readonly kmsKeyVersion: string;
  readonly wrapAlg: string;
  /** 1 to 4,096 bytes. */
  readonly wrapped: Uint8Array;
}

/** What a rewrap, a retirement or a re-authentication replaces, by compare-and-swap on `generation`. */
export interface KeyWrapping {
  readonly generation: number;
  readonly state: KeyState;
  readonly mode: WrapMode;
  readonly wraps: readonly WrapEntry[];
}

/** A parsed record. Byte fields are views into the parsed object. */
export interface KeyRecord extends KeyIdentity, KeyWrapping, Authenticator {
  readonly suite: typeof SUITE;
  readonly commitment: Uint8Array;
  /** The immutable bytes, commitment included: what a data key's wrap is bound to. */
  readonly immutable: Uint8Array;
}

/** The immutable bytes before the commitment. Throws RangeError for a field outside the format. */
export function encodeKeyIdentity(key: KeyIdentity): Uint8Array {
  const tenant = utf8(key.tenant);
  const scope = utf8(key.scope);
  const purpose = utf8(key.purpose);
  const problem = identityProblem(key);
  if (problem !== undefined) throw new RangeError(`key record: ${problem}`);
  return new Writer(42 + tenant.length + scope.length + purpose.length)
    .raw(MAGIC.keyRecord)
    .u8(VERSION)
    .u8(KINDS.indexOf(key.kind) + 1)
    .u8(SUITE)
    .u8(0)
    .raw(key.keyId)
    .u32(key.keyVersion)
    .u64(key.createdMs)
    .lp16(tenant)
    .lp16(scope)
    .lp16(purpose).bytes;
}

/** The mutable bytes before the authenticator. Throws RangeError for a field outside the format. */
export function encodeKeyWrapping(kind: KeyKind, wrapping: KeyWrapping): Uint8Array {
  const problem = wrappingProblem(kind, wrapping);
  if (problem !== undefined) throw new RangeError(`key record: ${problem}`);
  const wraps = wrapping.wraps.map((wrap) => ({
    id: wrap.wrapperId,
    version: utf8(wrap.kmsKeyVersion),
    alg: utf8(wrap.wrapAlg),
    wrapped: wrap.wrapped,
  }));
  let length = 11;
  for (const wrap of wraps)
    length += ID_BYTES + 6 + wrap.version.length + wrap.alg.length + wrap.wrapped.length;
  const out = new Writer(length)
    .u64(wrapping.generation)
    .u8(STATES.indexOf(wrapping.state) + 1)
    .u8(MODES.indexOf(wrapping.mode) + 1)
    .u8(wraps.length);
  for (const wrap of wraps) out.raw(wrap.id).lp16(wrap.version).lp16(wrap.alg).lp16(wrap.wrapped);
  return out.bytes;
}

/** The whole object, from immutable bytes (with commitment) and a wrapping, signed with the signing record key. */
export function authenticateKeyRecord(
  immutable: Uint8Array,
  wrapping: KeyWrapping,
  recordKeys: RecordKeys,
): Uint8Array {
  const { kind } = parseKeyImmutable(immutable);
  return appendAuthenticator('auth-record', [immutable, encodeKeyWrapping(kind, wrapping)], recordKeys);
}

/** Parses immutable bytes alone. Throws ServiceError KEY_RECORD_TAMPERED like {@link parseKeyRecord}. */
export function parseKeyImmutable(bytes: Uint8Array): KeyIdentity & { commitment: Uint8Array } {
  const reader = new Reader(bytes, tampered);
  const identity = readIdentity(reader);
  const commitment = reader.raw(COMMITMENT_BYTES);
  reader.end();
  return { ...identity, commitment };
}

/**
 * Parses a whole record without checking its HMAC.
 *
 * @throws ServiceError KEY_RECORD_TAMPERED; the detail names the first irregular field in byte order.
 */
export function parseKeyRecord(object: Uint8Array): KeyRecord {
  const reader = new Reader(object, tampered);
  const identity = readIdentity(reader);
  const commitment = reader.raw(COMMITMENT_BYTES);
  const immutable = object.subarray(0, reader.offset);
  const wrapping = readWrapping(reader, identity.kind);
  return { ...identity, suite: SUITE, commitment, immutable, ...wrapping, ...readAuthenticator(reader) };
}

/**
 * Parses a record and checks its HMAC.
 *
 * @throws ServiceError KEY_RECORD_TAMPERED, or RECORD_KEY_UNAVAILABLE when its record key is not loaded.
 */
export function verifyKeyRecord(object: Uint8Array, recordKeys: RecordKeys): KeyRecord {
  const record = parseKeyRecord(object);
  checkAuthenticator('auth-record', object, record, recordKeys);
  return record;
}

function readIdentity(reader: Reader): KeyIdentity {
  if (!sameBytes(reader.raw(4), MAGIC.keyRecord)) throw tampered('magic');
  if (reader.u8() !== VERSION) throw tampered('version');
  const kind = KINDS[reader.u8() - 1];
  if (kind === undefined) throw tampered('kind');
  if (reader.u8() !== SUITE) throw tampered('suite');
  if (reader.u8() !== 0) throw tampered('flags');
  const identity: KeyIdentity = {
    kind,
    keyId: reader.raw(ID_BYTES),
    keyVersion: reader.u32(),
    createdMs: reader.u64(),
    tenant: reader.text(),
    scope: reader.text(),
    purpose: reader.text(),
  };
  const problem = identityProblem(identity);
  if (problem !== undefined) throw tampered(problem);
  return identity;
}

function readWrapping(reader: Reader, kind: KeyKind): KeyWrapping {
  const generation = reader.u64();
  const state = STATES[reader.u8() - 1];
  if (state === undefined) throw tampered('state');
  const mode = MODES[reader.u8() - 1];
  if (mode === undefined) throw tampered('mode');
  const count = reader.u8();
  if (count > MAX_WRAPS) throw tampered('count');
  const wraps: WrapEntry[] = [];
  for (let i = 0; i < count; i++) {
    wraps.push({
      wrapperId: reader.raw(ID_BYTES),
      kmsKeyVersion: reader.text(),
      wrapAlg: reader.text(),
      wrapped: reader.lp16(),
    });
  }
  const wrapping = { generation, state, mode, wraps };
  const problem = wrappingProblem(kind, wrapping);
  if (problem !== undefined) throw tampered(problem);
  return wrapping;
}

function identityProblem(key: KeyIdentity): string | undefined {
  if (key.keyId.length !== ID_BYTES) return 'key-id';
  if (key.keyVersion < 1) return 'key-version';
  if (key.tenant === '') return 'tenant';
  if (!isScope(key.scope)) return 'scope';
  const purposeFits =
    key.kind === 'root' ? key.purpose === '' : isPurpose(key.purpose) || isOwnPurpose(key.purpose);
  return purposeFits ? undefined : 'purpose';
}

function wrappingProblem(kind: KeyKind, { mode, wraps }: KeyWrapping): string | undefined {
  if (kind === 'data' && mode !== 'one') return 'mode';
  const countFits = mode === 'one' ? wraps.length === 1 : wraps.length >= 2 && wraps.length <= MAX_WRAPS;
  if (!countFits) return 'count';
  for (const [i, wrap] of wraps.entries()) {
    if (wrap.wrapped.length < 1 || wrap.wrapped.length > MAX_WRAPPED_BYTES) return 'wrapped';
    // The same wrapper twice would let one KMS key stand for two.
    const known = wraps.slice(0, i).some((other) => sameBytes(other.wrapperId, wrap.wrapperId));
    if (known || wrap.wrapperId.length !== ID_BYTES) return 'wrapper';
  }
  return undefined;
}
