/**
 * HashiCorp Vault 1.13.1 (MPL-2.0, never shipped) as a child process: built once from `vault/` into the user's cache,
 * in memory, on loopback.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { access, copyFile, mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Child } from '../support/child.ts';

const SOURCE = fileURLToPath(new URL('./vault/', import.meta.url));
const FILES = ['go.mod', 'go.sum', 'main.go'] as const;
/** The first build fetches and compiles about 200 modules. */
const BUILD_TIMEOUT_MS = 15 * 60_000;
const READY_TIMEOUT_MS = 60_000;

const execute = promisify(execFile);

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

/** Go's version line, or undefined where Go is not installed. */
export async function goVersion(): Promise<string | undefined> {
  try {
    return (await execute('go', ['version'])).stdout.trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

/** The folder for this source, this compiler and this machine's architecture. */
async function cacheFolder(compiler: string): Promise<string> {
  const hash = createHash('sha256').update(compiler).update('\0');
  for (const file of FILES) hash.update(await readFile(join(SOURCE, file))).update('\0');
  const root = process.env.XDG_CACHE_HOME || join(homedir(), '.cache');
  return join(root, 'keytether', 'vault', hash.digest('hex').slice(0, 24));
}

/** Builds beside its final place and renames, so that two builders cannot see each other's half. */
async function build(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  const work = await mkdtemp(join(folder, 'build-'));
  try {
    for (const file of FILES) await copyFile(join(SOURCE, file), join(work, file));
    await execute('go', ['build', '-mod=mod', '-trimpath', '-ldflags=-s -w', '-o', 'vault', '.'], {
      cwd: work,
      timeout: BUILD_TIMEOUT_MS,
    });
    await rename(join(work, 'vault'), join(folder, 'vault'));
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/**
 * The path of the Vault program, built when it is not in the cache (minutes the first time).
 * @throws Error where Go is missing or the build fails.
 */
export async function vaultProgram(): Promise<string> {
  const compiler = await goVersion();
  if (compiler === undefined) throw new Error('Go is not installed');
  const folder = await cacheFolder(compiler);
  const program = join(folder, 'vault');
  if (!(await exists(program))) await build(folder);
  return program;
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
