/** A binding: one customer key and how it is reached. Replaced by compare-and-swap on its version; another KMS key is a new binding. */
import { MAGIC } from '../brand.ts';
import { ID_BYTES, Reader, sameBytes, utf8, Writer } from './encoding.ts';
import {
  type Authenticator,
  appendAuthenticator,
  checkAuthenticator,
  type RecordKeys,
  readAuthenticator,
  tampered,
} from './record-auth.ts';

const VERSION = 1;
/** In the order of their bytes, 1 first. */
export const BINDING_STATES = ['registered', 'verified', 'active', 'disabled'] as const;

export type BindingState = (typeof BINDING_STATES)[number];

export interface Binding {
  /** 16 bytes. */
  readonly bindingId: Uint8Array;
  /** 1 or more, raised by every change. */
  readonly version: number;
  readonly state: BindingState;
  readonly tenant: string;
  readonly provider: string;
  /** The vendor's full name of the key. */
  readonly keyRef: string;
  /** The stored bytes of the access (endpoint, region, role, external id, CA, secret id), at most 65,535. */
  readonly access: Uint8Array;
}

export type StoredBinding = Binding & Authenticator;

/** The bytes before the authenticator. Throws RangeError for a field outside the format. */
export function encodeBinding(binding: Binding): Uint8Array {
  const problem = bindingProblem(binding);
  if (problem !== undefined) throw new RangeError(`binding: ${problem}`);
  const tenant = utf8(binding.tenant);
  const provider = utf8(binding.provider);
  const keyRef = utf8(binding.keyRef);
  return new Writer(34 + tenant.length + provider.length + keyRef.length + binding.access.length)
    .raw(MAGIC.binding)
    .u8(VERSION)
    .raw(binding.bindingId)
    .u32(binding.version)
    .u8(BINDING_STATES.indexOf(binding.state) + 1)
    .lp16(tenant)
    .lp16(provider)
    .lp16(keyRef)
    .lp16(binding.access).bytes;
}

/** The whole object, signed with the signing record key. */
export function authenticateBinding(binding: Binding, recordKeys: RecordKeys): Uint8Array {
  return appendAuthenticator('auth-binding', [encodeBinding(binding)], recordKeys);
}

/** Parses without checking the HMAC. Throws ServiceError KEY_RECORD_TAMPERED; the detail names the irregular field. */
export function parseBinding(object: Uint8Array): StoredBinding {
  const reader = new Reader(object, tampered);
  if (!sameBytes(reader.raw(4), MAGIC.binding)) throw tampered('magic');
  if (reader.u8() !== VERSION) throw tampered('version');
  const bindingId = reader.raw(ID_BYTES);
  const version = reader.u32();
  const state = BINDING_STATES[reader.u8() - 1];
  if (state === undefined) throw tampered('state');
  const binding: Binding = {
    bindingId,
    version,
    state,
    tenant: reader.text(),
    provider: reader.text(),
    keyRef: reader.text(),
    access: reader.lp16(),
  };
  const problem = bindingProblem(binding);
  if (problem !== undefined) throw tampered(problem);
  return { ...binding, ...readAuthenticator(reader) };
}

/** Parses and checks the HMAC. Throws ServiceError KEY_RECORD_TAMPERED or RECORD_KEY_UNAVAILABLE. */
export function verifyBinding(object: Uint8Array, recordKeys: RecordKeys): StoredBinding {
  const binding = parseBinding(object);
  checkAuthenticator('auth-binding', object, binding, recordKeys);
  return binding;
}

function bindingProblem(binding: Binding): string | undefined {
  if (binding.bindingId.length !== ID_BYTES) return 'binding-id';
  if (binding.version < 1) return 'binding-version';
  if (binding.tenant === '') return 'tenant';
  if (binding.provider === '') return 'provider';
  return binding.keyRef === '' ? 'key-ref' : undefined;
}
