/**
 * The development KMS: keys in a folder, one JSON file each, and a key file that stands for the HSM. Every read goes to the
 * files, so that a switch thrown by one process counts for the next call in every other. Not for production: whoever
 * reads the folder has the keys. Administration is for one process at a time.
 *
 *     hsm.key            32 bytes, seals the key versions
 *     switches.json      latency, throttle, reachability
 *     keys/<name>.json   state, policy and versions of one key
 *     usage.jsonl        the key-usage log, one line per call
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import {
  appendFileSync,
  closeSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';

const KEY_NAME = /^[a-z0-9][a-z0-9-]{0,63}$/;
const DAY_MS = 86_400_000;

const keyFile = z.strictObject({
  format: z.literal('keytether-local-kms/1'),
  name: z.string().regex(KEY_NAME),
  createdMs: z.int(),
  enabled: z.boolean(),
  /** When the key will be gone; null while no deletion is scheduled. */
  deletionMs: z.int().nullable(),
  /** Principals that the key's policy denies; `*` denies all. */
  denied: z.array(z.string()),
  /** Sealed key material, oldest first; the version is the position plus one. Rotation appends. */
  versions: z.array(z.base64()).min(1),
});

const switchesFile = z.strictObject({
  /** Added to every answer, in milliseconds. */
  latencyMs: z.int().min(0).default(0),
  /** Calls per second that one process may make; null is no limit. */
  callsPerSecond: z.int().min(0).nullable().default(null),
  reachable: z.boolean().default(true),
});

export type LocalKey = z.infer<typeof keyFile>;
export type LocalSwitches = z.infer<typeof switchesFile>;

/** One line of the key-usage log, as a customer's own KMS would write it. */
export interface LocalUsage {
  readonly time: string;
  readonly request_id: string;
  readonly correlation_id: string;
  readonly principal: string;
  readonly operation: 'Encrypt' | 'Decrypt' | 'DescribeKey';
  readonly key: string;
  readonly encryption_context: Readonly<Record<string, string>>;
  readonly outcome: string;
}

export interface LocalKeystore {
  /** Makes an enabled key and returns its full key reference. Throws when the name is taken or not `[a-z0-9-]`. */
  createKey(name: string): string;
  listKeys(): readonly string[];
  /** The key as stored, or undefined where there is none or its deletion date has passed. */
  readKey(keyRef: string): LocalKey | undefined;
  enable(keyRef: string): void;
  disable(keyRef: string): void;
  /** Takes effect at once for use, and for good after `days`. */
  scheduleDeletion(keyRef: string, days?: number): void;
  /** Leaves the key disabled, as cloud vendors do. */
  cancelDeletion(keyRef: string): void;
  /** Denies one principal, or with `*` all, until `allow`. */
  deny(keyRef: string, principal: string): void;
  allow(keyRef: string, principal: string): void;
  /** A new version that wraps from now on; older ones still unwrap. */
  rotate(keyRef: string): void;
  setSwitches(change: Partial<LocalSwitches>): void;
  switches(): LocalSwitches;
  /** The material of one version (1 is the first) in a buffer that the caller zeroes, or undefined. */
  material(key: LocalKey, version: number): Uint8Array | undefined;
  appendUsage(line: LocalUsage): void;
  usage(): readonly LocalUsage[];
}

const REF_PREFIX = 'local-kms://keys/';

/** The name in a full key reference, or undefined for any other text. */
export function nameOf(keyRef: string): string | undefined {
  const name = keyRef.startsWith(REF_PREFIX) ? keyRef.slice(REF_PREFIX.length) : '';
  return KEY_NAME.test(name) ? name : undefined;
}

export function keyRefOf(name: string): string {
  return REF_PREFIX + name;
}

/** Opens the folder, and makes it with its HSM key on first use. */
export function openLocalKeystore(folder: string, now: () => number = Date.now): LocalKeystore {
  const keys = join(folder, 'keys');
  const hsmFile = join(folder, 'hsm.key');
  const switchFile = join(folder, 'switches.json');
  const usageFile = join(folder, 'usage.jsonl');
  mkdirSync(keys, { recursive: true, mode: 0o700 });
  if (readOptional(hsmFile) === undefined) createOnce(hsmFile, randomBytes(32));

  const pathOf = (keyRef: string): string => {
    const name = nameOf(keyRef);
    if (name === undefined) throw new Error('not a key reference of the local KMS');
    return join(keys, `${name}.json`);
  };

  const readKey = (keyRef: string): LocalKey | undefined => {
    const bytes = readOptional(pathOf(keyRef));
    if (bytes === undefined) return undefined;
    const key = keyFile.parse(JSON.parse(bytes.toString('utf8')));
    return key.deletionMs !== null && key.deletionMs <= now() ? undefined : key;
  };

  const change = (keyRef: string, edit: (key: LocalKey) => Partial<LocalKey>): void => {
    const key = readKey(keyRef);
    if (!key) throw new Error('the local KMS has no such key');
    writeAtomically(pathOf(keyRef), `${JSON.stringify({ ...key, ...edit(key) }, null, 2)}\n`);
  };

  const newVersion = (name: string, version: number): string => {
    const hsm = readFileSync(hsmFile);
    const material = randomBytes(32);
    try {
      return sealMaterial(hsm, material, versionLabel(name, version));
    } finally {
      hsm.fill(0);
      material.fill(0);
    }
  };

  const switches = (): LocalSwitches => {
    const bytes = readOptional(switchFile);
    return switchesFile.parse(bytes === undefined ? {} : JSON.parse(bytes.toString('utf8')));
  };

  return {
    createKey(name) {
      if (!KEY_NAME.test(name)) throw new Error('a key name is 1 to 64 of a-z, 0-9 and -');
      const key: LocalKey = {
        format: 'keytether-local-kms/1',
        name,
        createdMs: now(),
        enabled: true,
        deletionMs: null,
        denied: [],
        versions: [newVersion(name, 1)],
      };
      createOnce(join(keys, `${name}.json`), Buffer.from(`${JSON.stringify(key, null, 2)}\n`));
      return keyRefOf(name);
    },
    listKeys: () =>
      readdirSync(keys)
        .filter((file) => file.endsWith('.json'))
        .map((file) => keyRefOf(file.slice(0, -'.json'.length)))
        .sort(),
    readKey,
    enable: (keyRef) =>
      change(keyRef, (key) => {
        if (key.deletionMs !== null) throw new Error('cancel the deletion first');
        return { enabled: true };
      }),
    disable: (keyRef) => change(keyRef, () => ({ enabled: false })),
    scheduleDeletion: (keyRef, days = 30) =>
      change(keyRef, () => ({ enabled: false, deletionMs: now() + days * DAY_MS })),
    cancelDeletion: (keyRef) => change(keyRef, () => ({ deletionMs: null })),
    deny: (keyRef, principal) =>
      change(keyRef, (key) => ({ denied: [...new Set([...key.denied, principal])] })),
    allow: (keyRef, principal) =>
      change(keyRef, (key) => ({ denied: key.denied.filter((other) => other !== principal) })),
    rotate: (keyRef) =>
      change(keyRef, (key) => ({
        versions: [...key.versions, newVersion(key.name, key.versions.length + 1)],
      })),
    setSwitches: (wanted) =>
      writeAtomically(
        switchFile,
        `${JSON.stringify(switchesFile.parse({ ...switches(), ...wanted }), null, 2)}\n`,
      ),
    switches,
    material(key, version) {
      const sealed = key.versions[version - 1];
      if (sealed === undefined) return undefined;
      const hsm = readFileSync(hsmFile);
      try {
        return openMaterial(hsm, sealed, versionLabel(key.name, version));
      } finally {
        hsm.fill(0);
      }
    },
    appendUsage: (line) => appendFileSync(usageFile, `${JSON.stringify(line)}\n`, { mode: 0o600 }),
    usage: () =>
      (readOptional(usageFile)?.toString('utf8') ?? '')
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line) as LocalUsage),
  };
}

function versionLabel(name: string, version: number): Uint8Array {
  return new TextEncoder().encode(`${name}/${version}`);
}

function sealMaterial(hsm: Uint8Array, material: Uint8Array, aad: Uint8Array): string {
  const nonce = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', hsm, nonce);
  cipher.setAAD(aad);
  const parts = [nonce, cipher.update(material), cipher.final(), cipher.getAuthTag()];
  return Buffer.concat(parts).toString('base64');
}

/** Returns the 32 bytes in a buffer of their own. */
function openMaterial(hsm: Uint8Array, sealed: string, aad: Uint8Array): Uint8Array {
  const bytes = Buffer.from(sealed, 'base64');
  const decipher = createDecipheriv('aes-256-gcm', hsm, bytes.subarray(0, 12));
  decipher.setAAD(aad);
  decipher.setAuthTag(bytes.subarray(-16));
  const material = decipher.update(bytes.subarray(12, -16));
  try {
    decipher.final();
    return material;
  } catch (error) {
    material.fill(0);
    throw error;
  }
}

function readOptional(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Replaces the file so that a reader sees the old text or the new, also after a power cut. */
function writeAtomically(path: string, content: string): void {
  const temporary = writeTemporary(path, Buffer.from(content));
  renameSync(temporary, path);
  syncFolder(path);
}

/** Makes the file whole or not at all; throws EEXIST when it is there already. */
function createOnce(path: string, content: Uint8Array): void {
  const temporary = writeTemporary(path, content);
  try {
    linkSync(temporary, path);
  } finally {
    unlinkSync(temporary);
  }
  syncFolder(path);
}

function writeTemporary(path: string, content: Uint8Array): string {
  const temporary = `${path}.${process.pid}.${randomBytes(6).toString('hex')}.tmp`;
  const file = openSync(temporary, 'wx', 0o600);
  try {
    writeSync(file, content);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  return temporary;
}

function syncFolder(path: string): void {
  const folder = openSync(join(path, '..'), 'r');
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}
