/**
 * HashiCorp Vault 1.13.1 (MPL-2.0, never shipped) as a child process: built once from `vault/` into the user's cache,
 * in memory, on loopback.
 */
import { fileURLToPath } from 'node:url';
import { Child } from '../support/child.ts';
import { goProgram } from '../support/go-program.ts';

const SOURCE = fileURLToPath(new URL('./vault/', import.meta.url));
const FILES = ['go.mod', 'go.sum', 'main.go'] as const;
const READY_TIMEOUT_MS = 60_000;

/** A running Vault, unsealed, with nothing mounted but what Vault mounts itself. */
export interface Vault {
  readonly pid: number;
  readonly host: string;
  readonly port: number;
  readonly rootToken: string;
  /** @throws Error with Vault's own words for an answer that is not 2xx. */
  request(method: 'GET' | 'POST' | 'PUT' | 'DELETE', path: string, body?: unknown): Promise<unknown>;
  stop(): Promise<void>;
}

/** The path of the built program; builds it where it is not cached. */
export function vaultProgram(): Promise<string> {
  return goProgram('vault', SOURCE, FILES);
}

/** Starts a Vault. The caller stops it. @throws Error when it cannot be built or does not come up. */
export async function startVault(): Promise<Vault> {
  const child = new Child({ command: await vaultProgram(), args: [] });
  try {
    const { address, token } = await child.line(
      (line) => JSON.parse(line) as { address: string; token: string },
      READY_TIMEOUT_MS,
    );
    const url = new URL(address);
    return {
      pid: child.pid,
      host: url.hostname,
      port: Number(url.port),
      rootToken: token,
      request: async (method, path, body) => {
        const answer = await fetch(new URL(`/v1/${path}`, url), {
          method,
          headers: { 'X-Vault-Token': token },
          ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        });
        const text = await answer.text();
        if (!answer.ok) throw new Error(`vault ${method} ${path}: ${answer.status} ${text.trim()}`);
        return text === '' ? undefined : JSON.parse(text);
      },
      stop: () => child.stop(),
    };
  } catch (error) {
    await child.stop();
    throw error;
  }
}

/**
 * Has Vault write its audit log to `file`, with our correlation id as it was sent. Vault 1.13.1 shows no header unless it is told
 * to; `hmac: false` keeps it readable.
 */
export async function auditTo(vault: Vault, file: string): Promise<void> {
  await vault.request('PUT', 'sys/config/auditing/request-headers/x-correlation-id', { hmac: false });
  await vault.request('PUT', 'sys/audit/file', { type: 'file', options: { file_path: file } });
}
