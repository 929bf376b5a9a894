/** A head: which key is current for a tenant, scope and purpose, and for a root through which binding it is reached. */
import { MAGIC } from '../brand.ts';
import { isOwnPurpose, isPurpose, isScope } from './context.ts';
import { ID_BYTES, ownBytes, Reader, sameBytes, utf8, Writer } from './encoding.ts';
import {
  type Authenticator,
  appendAuthenticator,
  checkAuthenticator,
  type RecordKeys,
  readAuthenticator,
  tampered,
} from './record-auth.ts';

const VERSION = 1;

export interface Head {
  readonly tenant: string;
  readonly scope: string;
  /** Empty for the head of a root. */
  readonly purpose: string;
  /** 16 bytes, or undefined when there is no key yet. */
  readonly keyId: Uint8Array | undefined;
  /** 0 when there is no key yet. */
  readonly keyVersion: number;
  /** 16 bytes, or undefined when there is no customer key yet; always undefined in the head of a data key. */
  readonly bindingId: Uint8Array | undefined;
  readonly generation: number;
}

export type StoredHead = Head & Authenticator;

/** The bytes before the authenticator. Throws RangeError for a field outside the format. */
export function encodeHead(head: Head): Uint8Array {
  const problem = headProblem(head);
  if (problem !== undefined) throw new RangeError(`head: ${problem}`);
  const tenant = utf8(head.tenant);
  const scope = utf8(head.scope);
  const purpose = utf8(head.purpose);
  const none = ownBytes(ID_BYTES);
  return new Writer(55 + tenant.length + scope.length + purpose.length)
    .raw(MAGIC.head)
    .u8(VERSION)
    .lp16(tenant)
    .lp16(scope)
    .lp16(purpose)
    .raw(head.keyId ?? none)
    .u32(head.keyVersion)
    .raw(head.bindingId ?? none)
    .u64(head.generation).bytes;
}

/** The whole object, signed with the signing record key. */
export function authenticateHead(head: Head, recordKeys: RecordKeys): Uint8Array {
  return appendAuthenticator('auth-head', [encodeHead(head)], recordKeys);
}

/** Parses without checking the HMAC. Throws ServiceError KEY_RECORD_TAMPERED; the detail names the irregular field. */
export function parseHead(object: Uint8Array): StoredHead {
  const reader = new Reader(object, tampered);
  if (!sameBytes(reader.raw(4), MAGIC.head)) throw tampered('magic');
  if (reader.u8() !== VERSION) throw tampered('version');
  const head: Head = {
    tenant: reader.text(),
    scope: reader.text(),
    purpose: reader.text(),
    keyId: readOptionalId(reader),
    keyVersion: reader.u32(),
    bindingId: readOptionalId(reader),
    generation: reader.u64(),
  };
  const problem = headProblem(head);
  if (problem !== undefined) throw tampered(problem);
  return { ...head, ...readAuthenticator(reader) };
}

/** Parses and checks the HMAC. Throws ServiceError KEY_RECORD_TAMPERED or RECORD_KEY_UNAVAILABLE. */
export function verifyHead(object: Uint8Array, recordKeys: RecordKeys): StoredHead {
  const head = parseHead(object);
  checkAuthenticator('auth-head', object, head, recordKeys);
  return head;
}

function isZero(id: Uint8Array): boolean {
  return id.every((byte) => byte === 0);
}

function readOptionalId(reader: Reader): Uint8Array | undefined {
  const id = reader.raw(ID_BYTES);
  return isZero(id) ? undefined : id;
}

function headProblem(head: Head): string | undefined {
  if (head.tenant === '') return 'tenant';
  if (!isScope(head.scope)) return 'scope';
  const isRoot = head.purpose === '';
  if (!isRoot && !isPurpose(head.purpose) && !isOwnPurpose(head.purpose)) return 'purpose';
  for (const id of [head.keyId, head.bindingId]) {
    if (id !== undefined && (id.length !== ID_BYTES || isZero(id))) return 'id';
  }
  if ((head.keyId === undefined) !== (head.keyVersion === 0)) return 'key-version';
  return !isRoot && head.bindingId !== undefined ? 'binding-id' : undefined;
}
