/** The stored objects and rows that a record key authenticates. Each has a module of its own; this is their front. */
export {
  authenticateBinding,
  BINDING_STATES,
  type Binding,
  type BindingState,
  encodeBinding,
  parseBinding,
  type StoredBinding,
  verifyBinding,
} from './binding.ts';
export { authenticateHead, encodeHead, type Head, parseHead, type StoredHead, verifyHead } from './head.ts';
export {
  authenticateKeyRecord,
  encodeKeyIdentity,
  encodeKeyWrapping,
  type KeyIdentity,
  type KeyKind,
  type KeyRecord,
  type KeyState,
  type KeyWrapping,
  parseKeyImmutable,
  parseKeyRecord,
  verifyKeyRecord,
  type WrapEntry,
  type WrapMode,
} from './key-record.ts';
export { encodePrincipal, type PrincipalFields, principalMac, verifyPrincipal } from './principal.ts';
export type { Authenticator, RecordKeys } from './record-auth.ts';
