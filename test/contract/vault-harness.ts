/** What both harnesses of the Vault driver share. */

/** Texts that a Vault, a URL parser or a person might understand, and that we refuse. */
export const HOSTILE_VAULT_KEYS = [
  'k',
  'transit/keys/k',
  '/v1/transit/keys/k',
  'https://vault.example',
  'https://vault.example/v1/transit/keys/',
  'https://vault.example/v1/transit/keys/k/',
  'https://vault.example/v1//transit/keys/k',
  'https://vault.example/v1/keys/k',
  'https://vault.example/v2/transit/keys/k',
  'https://vault.example/v1/transit/keys/k/rotate',
  'https://vault.example/v1/transit/encrypt/k',
  'https://vault.example/v1/transit/../sys/keys/k',
  'https://vault.example/v1/transit/./keys/k',
  'https://vault.example/v1/transit/keys/..',
  'https://vault.example/v1/transit/keys/a..b',
  'https://vault.example/v1/transit/keys/k.',
  'https://vault.example/v1/transit/keys/%6b',
  'https://vault.example/v1/transit%2fkeys/k',
  'https://vault.example:443/v1/transit/keys/k',
  'https://vault.example:08200/v1/transit/keys/k',
  'https://vault.example:99999/v1/transit/keys/k',
  'https://vault.example:/v1/transit/keys/k',
  'https://Vault.example/v1/transit/keys/k',
  'https://vault.example./v1/transit/keys/k',
  'https://user@vault.example/v1/transit/keys/k',
  'https://user:word@vault.example/v1/transit/keys/k',
  'HTTPS://vault.example/v1/transit/keys/k',
  'http://vault.example/v1/transit/keys/k',
  'http://localhost/v1/transit/keys/k',
  'ftp://vault.example/v1/transit/keys/k',
  'https:/vault.example/v1/transit/keys/k',
  'https:\\\\vault.example/v1/transit/keys/k',
  `https://vault.example/v1/transit/keys/${'k'.repeat(200)}`,
];

export const VAULT_SOURCES = [
  'vault',
  'vault/address',
  'vault/classify',
  'vault/login',
  'vault/request',
  'http',
  'secret-json',
  'session',
].map((part) => `adapters/kms/${part}.ts`);

/** What `adapters/README.md` tells a customer to allow, for keys under the mount `transit`. */
export function vaultPolicy(...keys: string[]): string {
  return keys
    .flatMap((key) => [
      `path "transit/encrypt/${key}" { capabilities = ["update"]  required_parameters = ["plaintext", "associated_data"] }`,
      `path "transit/decrypt/${key}" { capabilities = ["update"]  required_parameters = ["ciphertext", "associated_data"] }`,
      `path "transit/keys/${key}" { capabilities = ["read"] }`,
    ])
    .join('\n');
}
