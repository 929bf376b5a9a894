/** Keeps two processes, or two openings in one, from using a PGlite folder at once, which loses committed rows. */
import { randomUUID } from 'node:crypto';
import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const FILE = 'keytether.lock';

/**
 * Takes the folder, creating it, and returns the function that gives it back. A lock whose process is gone is replaced.
 * Throws an Error that names the holder.
 */
export function lockFolder(folder: string): () => void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const path = join(folder, FILE);
  const holder = `${process.pid} ${startOf(process.pid)} ${randomUUID()}\n`;
  for (let attempt = 0; attempt < 3; attempt += 1) {
    if (create(path, holder)) return () => release(path, holder);
    const found = read(path);
    if (found === undefined) continue;
    const [pid = '', start = ''] = found.split(' ');
    if (runs(Number(pid), start)) {
      throw new Error(
        `the data folder ${folder} is in use by process ${pid}: stop it, or give this one a folder of its own`,
      );
    }
    removeStale(path, found);
  }
  throw new Error(`the data folder ${folder} is being opened by another process: try again`);
}

/** The content is complete from the moment that the file has its name: a half-written lock would look like a stale one. */
function create(path: string, holder: string): boolean {
  const draft = `${path}.${randomUUID()}`;
  writeFileSync(draft, holder, { flag: 'wx', mode: 0o600 });
  try {
    linkSync(draft, path);
    return true;
  } catch (error) {
    if ((error as { code?: unknown }).code === 'EEXIST') return false;
    throw error;
  } finally {
    rmSync(draft, { force: true });
  }
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

function release(path: string, holder: string): void {
  if (read(path) === holder) rmSync(path, { force: true });
}

/** Moves the stale lock aside; if another process replaced it meanwhile, its lock is put back. */
function removeStale(path: string, stale: string): void {
  const aside = `${path}.${randomUUID()}`;
  try {
    renameSync(path, aside);
    if (read(aside) !== stale) linkSync(aside, path);
  } catch {
    // Another process was faster; the next attempt looks again.
  }
  rmSync(aside, { force: true });
}

/** Whether the process that wrote the lock still runs; its start time tells it from a later one with the same id. */
function runs(pid: number, start: string): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as { code?: unknown }).code === 'ESRCH') return false;
  }
  const now = startOf(pid);
  return start === '-' || now === '-' || start === now;
}

/** Boot id and start time in clock ticks on Linux; `-` elsewhere. */
function startOf(pid: number): string {
  const boot = read('/proc/sys/kernel/random/boot_id')?.trim();
  const stat = read(`/proc/${pid}/stat`);
  // The command name in parentheses may hold spaces; the start time is the 20th field after it.
  const start = stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  return boot === undefined || start === undefined ? '-' : `${boot}:${start}`;
}
