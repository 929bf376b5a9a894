/**
 * The signer's keys: Ed25519 private keys in PEM (PKCS #8), one after the other in a file. The first signs and is what the log
 * names; those behind it sign too, so that who trusts an older key can follow until it is taken out.
 */
import { createPrivateKey, generateKeyPairSync, type KeyObject } from 'node:crypto';

const BLOCK = /-----BEGIN PRIVATE KEY-----[A-Za-z0-9+/=\s]+-----END PRIVATE KEY-----/g;
const MAX_KEYS = 4;

/** The content of a new key file. */
export function newLogKeyFile(): string {
  const { privateKey } = generateKeyPairSync('ed25519');
  return privateKey.export({ format: 'pem', type: 'pkcs8' }).toString();
}

/** Throws an Error that says what is wrong, and no byte of the file. */
export function parseLogKeys(text: string): readonly KeyObject[] {
  const blocks = text.match(BLOCK) ?? [];
  if (blocks.length === 0 || blocks.length > MAX_KEYS || text.replaceAll(BLOCK, '').trim() !== '') {
    throw new Error(`the log key file must hold 1 to ${MAX_KEYS} private keys in PEM and nothing else`);
  }
  return blocks.map((block) => {
    const key = readKey(block);
    if (key?.asymmetricKeyType !== 'ed25519')
      throw new Error('the log key file holds a key that is not Ed25519');
    return key;
  });
}

function readKey(block: string): KeyObject | undefined {
  try {
    return createPrivateKey(block);
  } catch {
    return undefined;
  }
}
