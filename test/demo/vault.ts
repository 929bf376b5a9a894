/** The demonstration of `src/reconcile/demo.ts` with a real Vault and its file audit device. Needs Go to build Vault once. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { DemoKms } from '../../src/reconcile/demo.ts';
import { vaultLog } from '../../src/reconcile/vault.ts';
import { startVault } from '../kms-servers/vault.ts';

const POLICY = ['encrypt', 'decrypt']
  .map((verb) => `path "transit/${verb}/acme" { capabilities = ["update"] }`)
  .concat('path "transit/keys/acme" { capabilities = ["read"] }')
  .join('\n');

export default async function openVaultDemo(folder: string): Promise<DemoKms> {
  const vault = await startVault();
  const origin = `http://${vault.host}:${vault.port}`;
  const auditFile = join(folder, 'vault-audit.log');
  const secretsFolder = join(folder, 'secrets');
  const setPolicy = async (policy: string) => {
    await vault.request('PUT', 'sys/policies/acl/keytether', { policy });
  };
  await vault.request('POST', 'sys/mounts/transit', { type: 'transit' });
  await vault.request('POST', 'transit/keys/acme', { type: 'aes256-gcm96' });
  await setPolicy(POLICY);
  const issued = await vault.request('POST', 'auth/token/create', { policies: ['keytether'] });
  const token = (issued as { auth: { client_token: string } }).auth.client_token;
  // What the thief will decrypt; made before the log begins.
  const plaintext = Buffer.alloc(32).toString('base64');
  const stolen = (await vault.request('POST', 'transit/encrypt/acme', { plaintext })) as {
    data: { ciphertext: string };
  };
  await vault.request('PUT', 'sys/config/auditing/request-headers/x-correlation-id', { hmac: false });
  await vault.request('PUT', 'sys/audit/file', { type: 'file', options: { file_path: auditFile } });
  return {
    vendor: 'vault',
    config: { secretsFolder, kmsEndpoints: [origin] },
    tour: {
      provider: 'vault',
      keyRef: `${origin}/v1/transit/keys/acme`,
      access: { auth: { type: 'token', secretId: 'vault' } },
      prepare(tenant) {
        mkdirSync(join(secretsFolder, tenant), { recursive: true });
        writeFileSync(join(secretsFolder, tenant, 'vault'), token);
      },
      switchOff: () => setPolicy('path "transit/decrypt/acme" { capabilities = ["deny"] }'),
      switchOn: () => setPolicy(POLICY),
      log: () => {
        const { events } = vaultLog.parse('audit', readFileSync(auditFile));
        return events.flatMap(({ cid }) => cid ?? []);
      },
    },
    async rogueDecrypt() {
      const { ciphertext } = stolen.data;
      await vault.request('POST', 'transit/decrypt/acme', { ciphertext });
    },
    log: async () => readFileSync(auditFile),
    close: () => vault.stop(),
  };
}
