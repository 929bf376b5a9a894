/**
 * LocalStack without a container: installs the pinned packages into a virtual environment of the user's cache folder, keyed by
 * the requirements, and starts it on loopback.
 *
 *     node localstack/start.ts [--port <n>]              prints its address and keys as one JSON line, runs until SIGINT
 *     node localstack/start.ts [--port <n>] -- <command> runs the command with LOCALSTACK_URL and LOCALSTACK_KEYS, then stops
 *
 * Needs python3 (3.10 or 3.11) with venv, and curl.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs, promisify } from 'node:util';

const run = promisify(execFile);
const REQUIREMENTS = join(import.meta.dirname, 'requirements.txt');
const READY_MS = 60_000;

/** Returns the interpreter of a virtual environment that has the pinned packages; a second run takes no time. */
async function install(): Promise<string> {
  const key = createHash('sha256').update(readFileSync(REQUIREMENTS)).digest('hex').slice(0, 16);
  const cache = process.env.XDG_CACHE_HOME || join(homedir(), '.cache');
  const folder = join(cache, 'keytether', `localstack-${key}`);
  const python = join(folder, 'bin', 'python');
  const complete = join(folder, 'complete');
  if (existsSync(complete)) return python;
  process.stderr.write(`installing LocalStack into ${folder}\n`);
  rmSync(folder, { recursive: true, force: true });
  await run('python3', ['-m', 'venv', folder]);
  await run(python, ['-m', 'pip', 'install', '--quiet', '--requirement', REQUIREMENTS], {
    maxBuffer: 64 * 1024 * 1024,
  });
  writeFileSync(complete, '');
  return python;
}

interface Running {
  readonly url: string;
  stop(): Promise<void>;
}

async function start(python: string, port: number): Promise<Running> {
  const home = mkdtempSync(join(tmpdir(), 'keytether-localstack-'));
  const url = `http://127.0.0.1:${port}`;
  const child = spawn(python, ['-m', 'localstack.runtime.main'], {
    cwd: home,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH: process.env.PATH,
      HOME: home,
      TMPDIR: home,
      // The default server ignores the host and listens on every interface.
      GATEWAY_SERVER: 'hypercorn',
      GATEWAY_LISTEN: `127.0.0.1:${port}`,
      SERVICES: 'kms',
      EAGER_SERVICE_LOADING: '1',
      SKIP_SSL_CERT_DOWNLOAD: '1',
      DISABLE_EVENTS: '1',
      DNS_ADDRESS: '127.0.0.1',
    },
  });
  const output: string[] = [];
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => output.push(String(text)));
  const stop = async () => {
    await end(child);
    rmSync(home, { recursive: true, force: true });
  };
  try {
    await ready(url, child);
  } catch (error) {
    process.stderr.write(output.join(''));
    await stop();
    throw error;
  }
  return { url, stop };
}

async function ready(url: string, child: ChildProcess): Promise<void> {
  const until = Date.now() + READY_MS;
  while (Date.now() < until) {
    if (child.exitCode !== null) throw new Error('LocalStack ended before it was ready');
    const health = await fetch(`${url}/_localstack/health`).then(
      (answer) => answer.json() as Promise<{ services?: { kms?: string } }>,
      () => undefined,
    );
    if (health?.services?.kms === 'running') return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error('LocalStack is not ready in time');
}

/** Asks the process to end, and insists after five seconds. */
async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), 5000);
  await gone;
  clearTimeout(timer);
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const { values, positionals } = parseArgs({
  options: { port: { type: 'string' } },
  allowPositionals: true,
});
const running = await start(await install(), values.port ? Number(values.port) : await freePort());
const env = { ...process.env, LOCALSTACK_URL: running.url };
try {
  const { stdout } = await run('sh', [join(import.meta.dirname, 'init-kms.sh')], { env });
  const keys = stdout.trim();
  const [command, ...args] = positionals;
  if (command === undefined) {
    console.log(JSON.stringify({ url: running.url, keys: JSON.parse(keys) }));
    await new Promise((resolve) => {
      process.once('SIGINT', resolve);
      process.once('SIGTERM', resolve);
    });
  } else {
    const child = spawn(command, args, { stdio: 'inherit', env: { ...env, LOCALSTACK_KEYS: keys } });
    process.exitCode = await new Promise<number>((resolve) =>
      child.once('exit', (code) => resolve(code ?? 1)),
    );
  }
} finally {
  await running.stop();
}
