/** The one program: `start`, `tour`, `migrate`, `init FOLDER`, `signer`. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { keyRefOf, openLocalKeystore } from '../adapters/kms/local/keystore.ts';
import { apiClient } from './api-client.ts';
import { makeSecrets, makeSigner, openOwnSigner, type Replica, startReplica } from './assemble.ts';
import { serveSigner } from './audit/signer-process.ts';
import { type Config, readConfig, readMigrateUrl, readSignerConfig } from './config.ts';
import { detailOf, journal } from './journal.ts';
import { onboard } from './onboard.ts';
import { migrate } from './store/migrate.ts';
import { type TourKms, tour } from './tour.ts';
import { isWorker, superviseWorkers } from './workers.ts';

const say = (line: string): void => void process.stdout.write(`${line}\n`);

/** A development KMS in the folder of a development replica, as the customer of the tour holds it. */
function tourKms(config: Config): TourKms {
  const keystore = openLocalKeystore(join(config.folder, 'kms'));
  const name = 'acme-master-key';
  if (!keystore.listKeys().includes(name)) keystore.createKey(name);
  return {
    provider: 'local',
    keyRef: keyRefOf(name),
    access: {},
    switchOff: () => keystore.disable(keyRefOf(name)),
    switchOn: () => keystore.enable(keyRefOf(name)),
    log: () => keystore.usage().map((line) => line.correlation_id),
  };
}

function operatorOf(config: Config, url: string) {
  return apiClient(url, readFileSync(config.operatorTokenFile, 'utf8').trim());
}

/** The tour on a replica and in a folder of its own, both gone afterwards. */
async function runTour(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'keytether-tour-'));
  const config = { ...readConfig({ KEYTETHER_FOLDER: folder }), port: 0 };
  let replica: Replica | undefined;
  try {
    replica = await startReplica(config);
    say("Keytether: data tethered to your customer's key");
    await tour(operatorOf(config, replica.url), tourKms(config), say);
    say('\nThe customer held the switch all along.');
  } finally {
    await replica?.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A tenant to play with, made once, and a command that works when it is pasted. */
async function firstCommand(config: Config, url: string): Promise<string> {
  const file = join(config.folder, 'first-tenant.json');
  if (!existsSync(file)) {
    const { tenant, serviceToken } = await onboard(operatorOf(config, url), {
      name: 'First tenant',
      ...tourKms(config),
    });
    writeFileSync(file, JSON.stringify({ tenant, serviceToken }), { mode: 0o600 });
  }
  const { tenant, serviceToken } = JSON.parse(readFileSync(file, 'utf8'));
  return [
    `curl -s ${url}/v1/tenants/${tenant}/encrypt \\`,
    `  -H 'Authorization: Bearer ${serviceToken}' \\`,
    `  -H 'Content-Type: application/json' \\`,
    `  -d '{"plaintext":"aGVsbG8=","purpose":"demo"}'`,
  ].join('\n');
}

async function start(): Promise<void> {
  const config = readConfig(process.env);
  refuseInspection(config);
  if (config.workers > 1 && !isWorker()) {
    process.exitCode = await superviseWorkers(config.workers);
    return;
  }
  if (!config.production && config.databaseUrl === undefined) await runTour();
  const replica = await startReplica(config);
  stopOnSignal(() => replica.stop());
  if (config.production) {
    journal({ event: 'listening' });
    return;
  }
  say(`\nKeytether listens on ${replica.url}  (API description: ${replica.url}/docs)`);
  say(`Its folder is ${config.folder}: embedded database, development KMS. Not for production.\n`);
  if (config.databaseUrl === undefined)
    say(`${await firstCommand(config, replica.url)}\n\nStop it with Ctrl-C.`);
}

/** A debugger or a heap snapshot would show keys. */
function refuseInspection({ production }: Pick<Config, 'production'>): void {
  process.on('SIGUSR1', () => {});
  const open = process.execArgv.filter((flag) =>
    /^--(inspect|heapsnapshot|heap-prof|report-on|diagnostic)/.test(flag),
  );
  if (production && open.length > 0) throw new Error(`${open[0]}: must not be set in production`);
}

function stopOnSignal(stop: () => Promise<void>): void {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => {
      stop().then(
        () => process.exit(0),
        (error) => {
          journal({ event: 'stop-failed', detail: detailOf(error) });
          process.exit(1);
        },
      );
    });
  }
}

async function runMigrate(): Promise<void> {
  const applied = await migrate(readMigrateUrl(process.env));
  say(applied.length === 0 ? 'Nothing to do: the schema is current.' : `Applied ${applied.join(', ')}.`);
}

function init(folder: string | undefined): void {
  if (folder === undefined)
    throw new Error('init FOLDER: names the folder for keys, operator token and signer');
  mkdirSync(resolve(folder), { recursive: true, mode: 0o700 });
  const files = {
    recordKeysFile: join(resolve(folder), 'record-keys'),
    operatorTokenFile: join(resolve(folder), 'operator-token'),
  };
  const signer = { keyFile: join(resolve(folder), 'log-key'), folder: join(resolve(folder), 'signer') };
  makeSecrets(files);
  makeSigner(signer);
  const settings = {
    KEYTETHER_RECORD_KEYS_FILE: files.recordKeysFile,
    KEYTETHER_OPERATOR_TOKEN_FILE: files.operatorTokenFile,
    KEYTETHER_LOG_KEY_FILE: signer.keyFile,
    KEYTETHER_SIGNER_FOLDER: signer.folder,
  };
  for (const [name, value] of Object.entries(settings)) say(`${name}=${value}`);
}

/** The signer of checkpoints as a process of its own. */
async function runSigner(): Promise<void> {
  refuseInspection({ production: true });
  const config = readSignerConfig(process.env);
  const server = await serveSigner(await openOwnSigner(config), config.socket);
  stopOnSignal(() => server.close());
  say(`The signer listens on ${config.socket}`);
}

const commands: Readonly<Record<string, () => void | Promise<void>>> = {
  start,
  tour: runTour,
  migrate: runMigrate,
  init: () => init(process.argv[3]),
  signer: runSigner,
};

try {
  const command = commands[process.argv[2] ?? 'start'];
  if (command === undefined) throw new Error(`usage: ${Object.keys(commands).join(' | ')}`);
  await command();
} catch (error) {
  process.stderr.write(`keytether: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
