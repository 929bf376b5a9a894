/** Fixed values that the crypto tests share. Byte patterns make a mixed-up field visible. */
import type {
  Binding,
  Head,
  KeyIdentity,
  KeyWrapping,
  PrincipalFields,
  RecordKeys,
} from '../../src/crypto/records.ts';

/** `length` bytes that count up from `first`. */
export function bytes(length: number, first: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (first + i) & 0xff);
}

export const RECORD_KEY_1 = bytes(32, 0xa0);
export const RECORD_KEY_2 = bytes(32, 0xc0);

/** `rk-2` signs, `rk-1` is still believed, `rk-0` is retired, others are unknown. */
export const recordKeys: RecordKeys = {
  signing: { id: 'rk-2', key: RECORD_KEY_2 },
  find: (id) => {
    if (id === 'rk-2') return { key: RECORD_KEY_2 };
    if (id === 'rk-1') return { key: RECORD_KEY_1 };
    return id === 'rk-0' ? 'retired' : undefined;
  },
};

/** Signs with a key of another id. */
export function signingAs(id: string, key: Uint8Array): RecordKeys {
  return { ...recordKeys, signing: { id, key } };
}

export const ROOT_IDENTITY: KeyIdentity = {
  kind: 'root',
  keyId: bytes(16, 0x10),
  keyVersion: 1,
  createdMs: 1_790_000_000_000,
  tenant: 'ten_aaaqeayeaudaocajbifqydiob4',
  scope: 'default',
  purpose: '',
};

export const DATA_IDENTITY: KeyIdentity = {
  ...ROOT_IDENTITY,
  kind: 'data',
  keyId: bytes(16, 0x30),
  purpose: 'customer-records',
};

export const WRAPPING: KeyWrapping = {
  generation: 7,
  state: 'active',
  mode: 'one',
  wraps: [
    {
      wrapperId: bytes(16, 0x50),
      kmsKeyVersion: '3',
      wrapAlg: 'AES-256-GCM',
      wrapped: bytes(60, 0x60),
    },
  ],
};

export const BINDING: Binding = {
  bindingId: bytes(16, 0x50),
  version: 2,
  state: 'active',
  tenant: ROOT_IDENTITY.tenant,
  provider: 'aws',
  keyRef: 'arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab',
  access: new TextEncoder().encode('{"region":"eu-central-1"}'),
};

export const HEAD: Head = {
  tenant: ROOT_IDENTITY.tenant,
  scope: 'default',
  purpose: '',
  keyId: ROOT_IDENTITY.keyId,
  keyVersion: 1,
  bindingId: BINDING.bindingId,
  generation: 9,
};

export const PRINCIPAL: PrincipalFields = {
  tenant: ROOT_IDENTITY.tenant,
  principal: 'prn_aaaqeayeaudaocajbifqydiob4',
  role: 'service',
  scopes: ['default'],
  purposes: ['customer-records', 'invoices'],
  expiresMs: 1_800_000_000_000,
  state: 'active',
  secretSha256: bytes(32, 0x70),
};

/** The outcome of `run` as a vector spells it: `success`, or the code and detail of the error. */
export function outcomeOf(run: () => unknown): string {
  try {
    run();
    return 'success';
  } catch (error) {
    const { code, detail } = error as { code?: string; detail?: string };
    return code === undefined ? `unexpected ${String(error)}` : `${code}/${detail}`;
  }
}
