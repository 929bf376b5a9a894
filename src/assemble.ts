/** Puts one replica together from its settings, and takes it apart in reverse order. */
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { createDrivers } from '../adapters/index.ts';
import { type CheckpointerOptions, startCheckpointer } from './audit/checkpointer.ts';
import { newEventId } from './audit/leaf.ts';
import { openSigner, type Signer } from './audit/signer.ts';
import { newLogKeyFile, parseLogKeys } from './audit/signer-keys.ts';
import { createSignerMemory } from './audit/signer-memory.ts';
import { remoteSigner } from './audit/signer-process.ts';
import { createUsageLog } from './audit/usage-log.ts';
import { watchDurability, watchPublication } from './audit/watches.ts';
import { SYSTEM_TENANT } from './brand.ts';
import type { Config, OwnSigner } from './config.ts';
import { ownBytes } from './crypto/encoding.ts';
import { createHttpServer } from './http/server.ts';
import type { Services } from './http/services.ts';
import { detailOf, journal } from './journal.ts';
import { DEFAULT_LIMITS, Gate } from './keyring/gate.ts';
import { createKeyring } from './keyring/keyring.ts';
import { newRecordKeyFile, parseRecordKeys } from './keyring/record-keys.ts';
import { createKmsCaller } from './kms/caller.ts';
import { KmsFailure, type SecretUse } from './kms/driver.ts';
import { createCallers } from './service/callers.ts';
import { type Core, originOf, recordNow } from './service/core.ts';
import { createServices } from './service/services.ts';
import { mintToken, parseToken } from './service/token.ts';
import { pruneFlights } from './store/flights.ts';
import { appendUnits } from './store/log.ts';
import { openDatabase } from './store/open.ts';
import { readUnpublished } from './store/publication.ts';
import { readRound } from './store/rounds.ts';

const BUILD = 'keytether/0.1.0';
const DAY_MS = 86_400_000;
/** How often nameless refusals are written and ended flights forgotten; longer than any request lives. */
const CHORES_MS = 60_000;
const TENANT_NAME = /^ten_[a-z2-7]{26}$/;
/** Checkpoints that lag by more show in the readiness; how often that is looked at, and on how many trees. */
const LAG_MS = 30_000;
const LAG_CHECK_MS = 5_000;
const LAG_TREES = 1_000;
const SECRET_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

export interface Replica {
  /** Where it listens, such as `http://127.0.0.1:8700`. */
  readonly url: string;
  /** Finishes what is in flight, within `boundMs`, then writes the rest of the log and zeroes the record keys. */
  stop(boundMs?: number): Promise<void>;
}

/** Parts of a replica that can come from elsewhere. */
export interface Parts {
  readonly openDatabase: typeof openDatabase;
  readonly createDrivers: typeof createDrivers;
  readonly Gate: typeof Gate;
}

/** Starts a replica. In development it makes what is missing: folder, database, record key, operator's token. */
export async function startReplica(config: Config, parts: Partial<Parts> = {}): Promise<Replica> {
  const use: Parts = { openDatabase, createDrivers, Gate, ...parts };
  if (!config.production) {
    makeSecrets(config);
    if (config.signer !== undefined && 'folder' in config.signer) makeSigner(config.signer);
  }
  const db = await use.openDatabase(
    config.databaseUrl === undefined
      ? { folder: join(config.folder, 'database') }
      : { url: config.databaseUrl },
    { connections: config.connections },
  );
  if (config.production) await db.assertPosture();
  const recordKeys = parseRecordKeys(readFileSync(config.recordKeysFile));
  const writer = { id: newEventId(), build: BUILD };
  const durability = await db.durability();
  const durable = watchDurability(
    durability,
    () => db.durability(),
    (now) => journal({ event: 'durability', detail: now }),
  );
  const published = watchPublication(() => readUnpublished(db, LAG_TREES));
  const log = createUsageLog({
    async append(units) {
      durable.assert();
      return appendUnits(db, writer.id, units);
    },
  });
  const kms = createKmsCaller({
    drivers: use.createDrivers({
      production: config.production,
      localFolder: config.production ? undefined : join(config.folder, 'kms'),
    }),
    host: {
      secret: (id, use, tenant) => readSecret(config, id, use, tenant),
      endpointAllowed: (url) => config.kmsEndpoints.some((allowed) => sameOrigin(allowed, url)),
    },
    attemptMs: DEFAULT_LIMITS.attemptMs,
  });
  const { logHost } = config;
  const core: Core = {
    db,
    log,
    kms,
    recordKeys,
    writer,
    durability,
    assertDurable: durable.assert,
    logHost,
  };
  const checkpointer = config.signer && startCheckpointer(checkpointing(config.signer, core));
  const callers = createCallers(core);
  const keyring = createKeyring({
    kms,
    log,
    recordKeys,
    writer,
    // The caller ends an attempt itself; the gate's own bound is for a caller that fails to.
    limits: {
      ...DEFAULT_LIMITS,
      attemptMs: DEFAULT_LIMITS.attemptMs + 100,
      flightsPerTenant: config.flightsPerTenant,
    },
    rotation: { maxAgeMs: config.rotateDays * DAY_MS, maxMessages: config.rotateMessages },
    readRound: (tenant, question) => readRound(db, tenant, question),
    recheck: callers.recheck,
    Gate: use.Gate,
  });
  const services = createServices(
    core,
    keyring,
    callers,
    ({ requestId, route, code, error }) => {
      // A reader who is ahead of the next checkpoint is no failure; checkpoints that do not come show in the readiness.
      if (code === 'CHECKPOINT_PENDING') return;
      journal({ event: 'failure', requestId, route, code, detail: detailOf(error) });
    },
    () => ({
      durable: !durable.weakened,
      published: published.lagMs < LAG_MS && (checkpointer?.refused.size ?? 0) === 0,
    }),
  );
  const operator = parseToken(readFileSync(config.operatorTokenFile, 'utf8').trim());
  if (operator?.kind !== 'operator') throw new Error('the operator token file holds no operator token');
  await callers.ensureOperator(operator);
  await recordNow(core, SYSTEM_TENANT, { typ: 'writer.start', durability });

  const http = createHttpServer({ services: services satisfies Services, direct: config.direct });
  const { address, port } = await http.listen(config.port, config.host);
  const chores = setInterval(() => {
    services.flushUnauthenticated().catch(() => {});
    pruneFlights(db, CHORES_MS).catch(() => {});
    void durable.check();
  }, CHORES_MS).unref();
  const looks = setInterval(() => void published.check(), LAG_CHECK_MS).unref();

  let stopped: Promise<void> | undefined;
  async function stop(boundMs: number): Promise<void> {
    clearInterval(chores);
    clearInterval(looks);
    await http.stop(boundMs);
    await services.flushUnauthenticated().catch(() => {});
    await checkpointer?.stop();
    await log.close();
    await kms.close();
    await db.close();
    recordKeys.signing.key.fill(0);
  }
  return {
    url: `http://${address.includes(':') ? `[${address}]` : address}:${port}`,
    stop: (boundMs = 10_000) => (stopped ??= stop(boundMs)),
  };
}

function sameOrigin(allowed: string, url: string): boolean {
  return URL.canParse(allowed) && URL.canParse(url) && new URL(allowed).origin === new URL(url).origin;
}

/**
 * One platform secret, straight into a buffer that the driver zeroes. A tenant's own are in a folder of his name; what is never
 * sent may also be the platform's, beside those folders.
 */
async function readSecret(
  { secretsFolder }: Config,
  id: string,
  use: SecretUse,
  tenant: string,
): Promise<Uint8Array> {
  if (secretsFolder === undefined || !SECRET_NAME.test(id) || !TENANT_NAME.test(tenant)) throw noSecret();
  const own = join(secretsFolder, tenant, id);
  const file = use === 'is-sent' || existsSync(own) ? own : join(secretsFolder, id);
  try {
    return await readBytes(file);
  } catch (cause) {
    throw noSecret(cause);
  }
}

async function readBytes(path: string): Promise<Uint8Array> {
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    const bytes = ownBytes(Math.min(size, 65_536));
    await file.read(bytes, 0, bytes.length, 0);
    return bytes;
  } finally {
    await file.close();
  }
}

function noSecret(cause?: unknown): KmsFailure {
  return new KmsFailure('misconfigured', 'KMS_MISCONFIGURED', { detail: 'no-secret', cause });
}

function checkpointing(signer: NonNullable<Config['signer']>, core: Core): CheckpointerOptions {
  let last = { detail: '', at: 0 };
  return {
    db: core.db,
    log: core.log,
    writer: core.writer,
    openSigner: () =>
      'socket' in signer ? Promise.resolve(remoteSigner(signer.socket)) : openOwnSigner(signer),
    originOf: (tenant) => originOf(core, tenant),
    report(event) {
      if (event.event === 'checkpoint-refused') {
        journal({ event: event.event, tenant: event.tenant, detail: event.why });
        return;
      }
      // Rounds come each second: what goes on failing in the same way is said once a minute.
      const detail = detailOf(event.error);
      const at = Date.now();
      if (detail === last.detail && at - last.at < CHORES_MS) return;
      last = { detail, at };
      journal({ event: event.event, ...(event.tenant ? { tenant: event.tenant } : {}), detail });
    },
  };
}

/** The signer in this process. */
export function openOwnSigner({ keyFile, folder }: OwnSigner): Promise<Signer> {
  return openSigner({ folder, keys: parseLogKeys(readFileSync(keyFile, 'utf8')) });
}

/** Makes a log key and an empty signer's memory where there are none. A memory is made only together with its key. */
export function makeSigner({ keyFile, folder }: OwnSigner): void {
  if (existsSync(keyFile)) return;
  createSignerMemory(folder);
  writeNew(keyFile, newLogKeyFile);
}

/** Makes the record key and the operator's token where there are none: for a laptop, and for `init`. */
export function makeSecrets(files: {
  readonly recordKeysFile: string;
  readonly operatorTokenFile: string;
}): void {
  writeNew(files.recordKeysFile, newRecordKeyFile);
  writeNew(files.operatorTokenFile, () => `${mintToken('operator').token}\n`);
}

function writeNew(file: string, content: () => string): void {
  if (existsSync(file)) return;
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  writeFileSync(file, content(), { flag: 'wx', mode: 0o600 });
  chmodSync(file, 0o600);
}
