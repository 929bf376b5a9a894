/** A peer: HashiCorp Vault's transit decrypt, file audit on, key in its own memory. */
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { startVault, type Vault } from '../test/kms-servers/vault.ts';
import { goVersion } from '../test/support/go-program.ts';
import type { Pace } from './floor-row.ts';
import type { PlannedRequest } from './load.ts';
import { measureRow, type Row } from './row.ts';

const POLICY = 'path "transit/decrypt/k" { capabilities = ["update"] }';
const Encrypted = z.object({ data: z.object({ ciphertext: z.string() }) });
const Issued = z.object({ auth: z.object({ client_token: z.string() }) });

/** Mounts transit, makes the key, switches the audit device on, and prepares one decrypt of 64 bytes. */
async function prepareDecrypt(vault: Vault, auditFile: string): Promise<PlannedRequest> {
  await vault.request('POST', 'sys/mounts/transit', { type: 'transit' });
  await vault.request('POST', 'transit/keys/k', { type: 'aes256-gcm96' });
  await vault.request('PUT', 'sys/audit/file', { type: 'file', options: { file_path: auditFile } });
  await vault.request('PUT', 'sys/policies/acl/decrypt', { policy: POLICY });
  const issued = Issued.parse(
    await vault.request('POST', 'auth/token/create', { policies: ['decrypt'], no_default_policy: true }),
  );
  const context = Buffer.from('{"column":"iban","table":"invoices"}').toString('base64');
  const plaintext = randomBytes(64).toString('base64');
  const sealed = Encrypted.parse(
    await vault.request('POST', 'transit/encrypt/k', { plaintext, associated_data: context }),
  );
  return {
    method: 'POST',
    path: '/v1/transit/decrypt/k',
    headers: { 'X-Vault-Token': issued.auth.client_token, 'Content-Type': 'application/json' },
    body: JSON.stringify({ ciphertext: sealed.data.ciphertext, associated_data: context }),
    expect: plaintext,
  };
}

/**
 * One row for each number of connections, or why there are none.
 * @throws Error when Go is there and Vault does not build, start or answer.
 */
export async function vaultRows(
  connections: readonly number[],
  pace: Pace,
): Promise<{ rows: readonly Row[] } | { skipped: string }> {
  if ((await goVersion()) === undefined) return { skipped: 'Go is not installed' };
  const folder = await mkdtemp(join(tmpdir(), 'keytether-bench-vault-'));
  const auditFile = join(folder, 'audit.log');
  const vault = await startVault();
  try {
    const request = await prepareDecrypt(vault, auditFile);
    const rows: Row[] = [];
    for (const count of connections) {
      rows.push(
        await measureRow({
          name: 'Vault 1.13.1 transit decrypt, file audit on',
          processes: [{ name: 'server', pid: vault.pid, tree: false }],
          plan: {
            host: vault.host,
            port: vault.port,
            connections: count,
            requestSets: [[request]],
            ...pace,
            drainMs: 5_000,
            maxRequests: 50_000_000,
            pauseAfterErrorMs: 50,
          },
        }),
      );
      // Vault appends some 20 MB each second.
      await truncate(auditFile, 0);
    }
    return { rows };
  } finally {
    await vault.stop();
    await rm(folder, { recursive: true, force: true });
  }
}
