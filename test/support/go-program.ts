/** Programs in Go that only tests need: built once from a folder of this tree into the user's cache. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { access, copyFile, mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

/** The first build fetches and compiles its modules: about 200 for Vault. */
const BUILD_TIMEOUT_MS = 15 * 60_000;

const execute = promisify(execFile);

/** Go's version line, or undefined where Go is not installed. */
export async function goVersion(): Promise<string | undefined> {
  try {
    return (await execute('go', ['version'])).stdout.trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/**
 * The path of the program of this name, built from these files of `source` when it is not in the cache (minutes the first time).
 * @throws Error where Go is missing or the build fails.
 */
export async function goProgram(name: string, source: string, files: readonly string[]): Promise<string> {
  const compiler = await goVersion();
  if (compiler === undefined) throw new Error('Go is not installed');
  const folder = await cacheFolder(name, source, files, compiler);
  const program = join(folder, name);
  if (!(await exists(program))) await build(name, source, files, folder);
  return program;
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

/** The folder for this source, this compiler and this machine's architecture. */
async function cacheFolder(
  name: string,
  source: string,
  files: readonly string[],
  compiler: string,
): Promise<string> {
  const hash = createHash('sha256').update(compiler).update('\0');
  for (const file of files) hash.update(await readFile(join(source, file))).update('\0');
  const root = process.env.XDG_CACHE_HOME || join(homedir(), '.cache');
  return join(root, 'keytether', name, hash.digest('hex').slice(0, 24));
}

/** Builds beside its final place and renames, so that two builders cannot see each other's half. */
async function build(name: string, source: string, files: readonly string[], folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  const work = await mkdtemp(join(folder, 'build-'));
  try {
    for (const file of files) await copyFile(join(source, file), join(work, file));
    await execute('go', ['build', '-mod=mod', '-trimpath', '-ldflags=-s -w', '-o', name, '.'], {
      cwd: work,
      timeout: BUILD_TIMEOUT_MS,
    });
    await rename(join(work, name), join(folder, name));
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}
