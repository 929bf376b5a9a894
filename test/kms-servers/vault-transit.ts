/**
 * The transit engine of the protocol server, with the words of HashiCorp Vault 1.13.1 (`builtin/logical/transit`,
 * `sdk/helper/keysutil`) and, for soft deletion, of OpenBao 2.6.
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';

/** A 4xx answer in Vault's words. */
export class Refusal extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export interface TransitKey {
  readonly name: string;
  type: string;
  derived: boolean;
  exportable: boolean;
  allowPlaintextBackup: boolean;
  softDeleted: boolean;
  minDecryptionVersion: number;
  readonly versions: Uint8Array[];
}

export function createTransit() {
  const keys = new Map<string, TransitKey>();
  const find = (name: string): TransitKey => {
    const key = keys.get(name);
    if (!key) throw new Refusal(400, 'encryption key not found');
    if (key.softDeleted) throw new Refusal(400, 'refusing to use soft-deleted key');
    if (key.derived) {
      throw new Refusal(400, "missing 'context' for key derivation; the key was created using a derived key");
    }
    if (key.type !== 'aes256-gcm96') {
      throw new Refusal(400, `'[0].associated_data' provided for non-AEAD cipher suite ${key.type}`);
    }
    return key;
  };

  return {
    keys,
    create(name: string, change: Partial<TransitKey> = {}): TransitKey {
      const key: TransitKey = {
        name,
        type: 'aes256-gcm96',
        derived: false,
        exportable: false,
        allowPlaintextBackup: false,
        softDeleted: false,
        minDecryptionVersion: 1,
        versions: [randomBytes(32)],
        ...change,
      };
      keys.set(name, key);
      return key;
    },
    settings(name: string) {
      const key = keys.get(name);
      return (
        key && {
          name,
          type: key.type,
          derived: key.derived,
          exportable: key.exportable,
          allow_plaintext_backup: key.allowPlaintextBackup,
          latest_version: key.versions.length,
          min_decryption_version: key.minDecryptionVersion,
          ...(key.softDeleted ? { soft_deleted: true } : {}),
        }
      );
    },
    /** `may` says whether the token's policy lets Vault make a key that is not there. */
    encrypt(name: string, body: Record<string, unknown>, may: { create: boolean }) {
      const plaintext = bytesOf(body.plaintext);
      if (plaintext === undefined) throw new Refusal(400, 'missing plaintext to encrypt');
      if (!keys.has(name)) {
        if (!may.create) throw new Refusal(403, 'permission denied');
        const { type = 'aes256-gcm96' } = body;
        if (type !== 'aes256-gcm96')
          throw new Refusal(400, `key type ${type} not supported for this operation`);
        this.create(name);
      }
      const key = find(name);
      const version = key.versions.length;
      const nonce = randomBytes(12);
      const cipher = createCipheriv('aes-256-gcm', key.versions[version - 1] ?? nonce, nonce);
      cipher.setAAD(bytesOf(body.associated_data) ?? new Uint8Array(0));
      const sealed = Buffer.concat([nonce, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
      return { ciphertext: `vault:v${version}:${sealed.toString('base64')}`, key_version: version };
    },
    decrypt(name: string, body: Record<string, unknown>) {
      const text = typeof body.ciphertext === 'string' ? body.ciphertext : '';
      if (text === '') throw new Refusal(400, 'missing ciphertext to decrypt');
      const key = find(name);
      if (!text.startsWith('vault:v')) throw new Refusal(400, 'invalid ciphertext: no prefix');
      const [digits, encoded] = text.slice('vault:v'.length).split(/:(.*)/s);
      if (encoded === undefined) throw new Refusal(400, 'invalid ciphertext: wrong number of fields');
      if (!/^[+-]?\d+$/.test(digits ?? '')) {
        throw new Refusal(400, 'invalid ciphertext: version number could not be decoded');
      }
      // As Vault: version 0 of its first release means 1.
      const version = Number(digits) || 1;
      if (version > key.versions.length) throw new Refusal(400, 'invalid ciphertext: version is too new');
      if (version < key.minDecryptionVersion) {
        throw new Refusal(400, 'ciphertext or signature version is disallowed by policy (too old)');
      }
      const sealed = bytesOf(encoded);
      if (!sealed) throw new Refusal(400, 'invalid ciphertext: could not decode base64');
      if (sealed.length < 28) throw new Refusal(400, 'invalid ciphertext length');
      const end = sealed.length - 16;
      const secret = key.versions[version - 1] ?? new Uint8Array(32);
      const decipher = createDecipheriv('aes-256-gcm', secret, sealed.subarray(0, 12));
      decipher.setAAD(bytesOf(body.associated_data) ?? new Uint8Array(0));
      decipher.setAuthTag(sealed.subarray(end));
      try {
        const plain = Buffer.concat([decipher.update(sealed.subarray(12, end)), decipher.final()]);
        return { plaintext: plain.toString('base64') };
      } catch {
        throw new Refusal(400, 'cipher: message authentication failed');
      }
    },
  };
}

export type Transit = ReturnType<typeof createTransit>;

/** Standard base64 as Go reads it; undefined for anything else. */
function bytesOf(value: unknown): Uint8Array | undefined {
  if (typeof value !== 'string') return undefined;
  const text = value.replace(/[\r\n]/g, '');
  if (text.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(text)) return undefined;
  return Buffer.from(text, 'base64');
}
