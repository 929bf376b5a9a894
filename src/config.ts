/**
 * The settings, from the environment: the only place that reads it. Secrets come from files; what could hold a secret
 * is taken from the environment itself in development only.
 */
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import { z } from 'zod';

const count = (least: number, most: number, fallback: number) =>
  z.coerce.number().int().min(least).max(most).default(fallback);
const path = z.string().min(1).optional();

const environment = z.object({
  KEYTETHER_MODE: z.enum(['development', 'production']).optional(),
  DATABASE_URL: z.string().optional(),
  DATABASE_URL_FILE: path,
  MIGRATE_DATABASE_URL: z.string().optional(),
  MIGRATE_DATABASE_URL_FILE: path,
  DATABASE_CONNECTIONS: count(2, 100, 10),
  KEYTETHER_FOLDER: z.string().default('.keytether'),
  KEYTETHER_HOST: z.string().optional(),
  KEYTETHER_PORT: count(0, 65_535, 8700),
  KEYTETHER_RECORD_KEYS_FILE: path,
  KEYTETHER_OPERATOR_TOKEN_FILE: path,
  KEYTETHER_LOG_KEY_FILE: path,
  KEYTETHER_SIGNER_FOLDER: path,
  KEYTETHER_SIGNER_SOCKET: path,
  KEYTETHER_SECRETS_FOLDER: path,
  KEYTETHER_KMS_ENDPOINTS: z.string().default(''),
  KEYTETHER_LOG_HOST: z
    .string()
    .regex(/^[a-z0-9.-]{1,200}$/)
    .default('keytether.local'),
  KEYTETHER_WORKERS: z.coerce.number().int().min(1).max(64).optional(),
  KEYTETHER_FLIGHTS_PER_TENANT: count(1, 8, 2),
  KEYTETHER_ROTATE_DAYS: count(1, 3650, 90),
  KEYTETHER_ROTATE_MESSAGES: count(1, 2 ** 32, 2 ** 32),
  KEYTETHER_EXPRESS_ONLY: z.enum(['0', '1']).default('0'),
  NODE_OPTIONS: z.string().optional(),
});

/** The signer in this process: its key file, and the folder of its memory. */
export interface OwnSigner {
  readonly keyFile: string;
  readonly folder: string;
}

export interface Config {
  readonly production: boolean;
  /** The database server's address, or undefined for the embedded engine. */
  readonly databaseUrl: string | undefined;
  readonly connections: number;
  /** Development: database, development KMS, generated secrets. */
  readonly folder: string;
  readonly host: string;
  readonly port: number;
  readonly recordKeysFile: string;
  readonly operatorTokenFile: string;
  readonly secretsFolder: string | undefined;
  /** Addresses of KMSs, besides the vendors' own, that tenants may name: scheme, host and port. */
  readonly kmsEndpoints: readonly string[];
  readonly logHost: string;
  /** Who signs checkpoints: this process, a signer behind a unix socket, or nobody that this replica knows. */
  readonly signer: OwnSigner | { readonly socket: string } | undefined;
  readonly flightsPerTenant: number;
  readonly rotateDays: number;
  readonly rotateMessages: number;
  /** Processes that share the port; one replica each. */
  readonly workers: number;
  /** Whether encrypt and decrypt go in front of Express's router. */
  readonly direct: boolean;
}

type Settings = z.infer<typeof environment>;
type Environment = Readonly<Record<string, string | undefined>>;

/** Reads and checks the settings. Throws an Error that names the setting and what to do, never its value. */
export function readConfig(env: Environment): Config {
  const set = parse(env);
  const production = isProduction(set);
  const databaseUrl = address('DATABASE_URL', set.DATABASE_URL, set.DATABASE_URL_FILE, production);
  const folder = resolve(set.KEYTETHER_FOLDER);
  const file = (
    name: 'KEYTETHER_RECORD_KEYS_FILE' | 'KEYTETHER_OPERATOR_TOKEN_FILE',
    fallback: string,
  ): string => {
    const chosen = set[name];
    if (chosen !== undefined) return resolve(chosen);
    if (production)
      throw new Error(`${name}: set it to the file's path; \`npm run init -- FOLDER\` makes one`);
    return join(folder, fallback);
  };
  if (production && databaseUrl === undefined)
    throw new Error('DATABASE_URL: production needs a PostgreSQL server');
  if (production && set.NODE_OPTIONS) throw new Error('NODE_OPTIONS: must not be set in production');
  const host = set.KEYTETHER_HOST ?? (production ? '0.0.0.0' : '127.0.0.1');
  if (!production && !['127.0.0.1', '::1', 'localhost'].includes(host)) {
    throw new Error('KEYTETHER_HOST: development listens on the loopback address only');
  }
  return {
    production,
    databaseUrl,
    connections: set.DATABASE_CONNECTIONS,
    folder,
    host,
    port: set.KEYTETHER_PORT,
    recordKeysFile: file('KEYTETHER_RECORD_KEYS_FILE', 'record-keys'),
    operatorTokenFile: file('KEYTETHER_OPERATOR_TOKEN_FILE', 'operator-token'),
    secretsFolder:
      set.KEYTETHER_SECRETS_FOLDER === undefined ? undefined : resolve(set.KEYTETHER_SECRETS_FOLDER),
    kmsEndpoints: set.KEYTETHER_KMS_ENDPOINTS.split(',')
      .map((each) => each.trim())
      .filter((each) => each !== ''),
    logHost: set.KEYTETHER_LOG_HOST,
    workers:
      databaseUrl === undefined ? 1 : (set.KEYTETHER_WORKERS ?? (production ? availableParallelism() : 1)),
    signer: signerOf(set, production ? undefined : folder),
    flightsPerTenant: set.KEYTETHER_FLIGHTS_PER_TENANT,
    rotateDays: set.KEYTETHER_ROTATE_DAYS,
    rotateMessages: set.KEYTETHER_ROTATE_MESSAGES,
    direct: set.KEYTETHER_EXPRESS_ONLY === '0',
  };
}

/**
 * The address that migrations use: its login role owns the schema. Needs no other setting, so the job that migrates holds no
 * record key. Throws like {@link readConfig}.
 */
export function readMigrateUrl(env: Environment): string {
  const set = parse(env);
  const production = isProduction(set);
  const url =
    address('MIGRATE_DATABASE_URL', set.MIGRATE_DATABASE_URL, set.MIGRATE_DATABASE_URL_FILE, production) ??
    address('DATABASE_URL', set.DATABASE_URL, set.DATABASE_URL_FILE, production);
  if (url === undefined) throw new Error('MIGRATE_DATABASE_URL: set it to the address of the database owner');
  return url;
}

function signerOf(set: Settings, folder: string | undefined): Config['signer'] {
  if (set.KEYTETHER_SIGNER_SOCKET !== undefined) return { socket: resolve(set.KEYTETHER_SIGNER_SOCKET) };
  if (folder !== undefined) {
    return {
      keyFile: resolve(set.KEYTETHER_LOG_KEY_FILE ?? join(folder, 'log-key')),
      folder: resolve(set.KEYTETHER_SIGNER_FOLDER ?? join(folder, 'signer')),
    };
  }
  return set.KEYTETHER_LOG_KEY_FILE === undefined ? undefined : ownSigner(set);
}

function ownSigner(set: Settings): OwnSigner {
  const { KEYTETHER_LOG_KEY_FILE: keyFile, KEYTETHER_SIGNER_FOLDER: folder } = set;
  if (keyFile === undefined || folder === undefined) {
    const name = keyFile === undefined ? 'KEYTETHER_LOG_KEY_FILE' : 'KEYTETHER_SIGNER_FOLDER';
    throw new Error(`${name}: set it; \`npm run init -- FOLDER\` makes the key and the signer's folder`);
  }
  return { keyFile: resolve(keyFile), folder: resolve(folder) };
}

/** The settings of a signer that is a process of its own. Throws as {@link readConfig}. */
export function readSignerConfig(env: Environment): OwnSigner & { readonly socket: string } {
  const set = parse(env);
  if (set.KEYTETHER_SIGNER_SOCKET === undefined)
    throw new Error('KEYTETHER_SIGNER_SOCKET: set it to the path of the unix socket to listen on');
  return { ...ownSigner(set), socket: resolve(set.KEYTETHER_SIGNER_SOCKET) };
}

function parse(env: Environment): Settings {
  const parsed = environment.safeParse(env);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw new Error(`${issue?.path.join('.')}: ${issue?.message}`);
}

/** Whoever names a database server means production, unless told. */
function isProduction(set: Settings): boolean {
  const given = set.DATABASE_URL !== undefined || set.DATABASE_URL_FILE !== undefined;
  return (set.KEYTETHER_MODE ?? (given ? 'production' : 'development')) === 'production';
}

/** The names of all settings, for the page that explains them. */
export const SETTINGS: readonly string[] = Object.keys(environment.shape);

function address(
  name: string,
  value: string | undefined,
  file: string | undefined,
  production: boolean,
): string | undefined {
  if (file !== undefined) return readFileSync(file, 'utf8').trim();
  if (value === undefined) return undefined;
  if (!URL.canParse(value)) throw new Error(`${name}: must be postgresql://…`);
  if (production && new URL(value).password !== '') {
    throw new Error(
      `${name}: holds a password; put the whole address into a file and name it in ${name}_FILE`,
    );
  }
  return value;
}
