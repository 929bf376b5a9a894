/**
 * The keys of the AWS KMS protocol server: states, policy, material and the symmetric ciphertext blob.
 *
 * Follows the AWS KMS API reference (Encrypt, Decrypt, DescribeKey, CreateKey, DisableKey, EnableKey, ScheduleKeyDeletion,
 * CancelKeyDeletion, RotateKeyOnDemand: request and response members, limits, errors) and the Developer Guide's "Key
 * states of AWS KMS keys" (which state gives which error).
 */
import { createCipheriv, createDecipheriv, randomBytes, randomUUID } from 'node:crypto';

export type KeyState =
  | 'Enabled'
  | 'Disabled'
  | 'PendingDeletion'
  | 'PendingImport'
  | 'Unavailable'
  | 'Creating'
  | 'Updating';

export interface ServerKey {
  readonly id: string;
  readonly arn: string;
  readonly region: string;
  readonly createdMs: number;
  state: KeyState;
  /** The state before the last change and when that was, for the propagation delay. */
  before: { state: KeyState; untilMs: number };
  deletionMs: number | undefined;
  /** Principals (ARN or access key id) that the key policy denies; `*` denies all. */
  readonly denied: Set<string>;
  /** AES-256 key material, oldest first. */
  readonly materials: Buffer[];
}

/** An error answer of the protocol. */
export class AwsError extends Error {
  readonly type: string;
  readonly status: number;
  constructor(type: string, message: string, status = 400) {
    super(message);
    this.type = type;
    this.status = status;
  }
}

export interface Keys {
  create(region: string): ServerKey;
  /** By ARN or bare id, in one region. Throws NotFoundException. */
  find(region: string, keyId: string): ServerKey;
  byArn(arn: string): ServerKey;
  setState(key: ServerKey, state: KeyState): void;
}

export function createKeys(account: string, propagationMs: () => number): Keys {
  const keys = new Map<string, ServerKey>();
  const find = (region: string, keyId: string): ServerKey => {
    const arn = keyId.startsWith('arn:') ? keyId : `arn:aws:kms:${region}:${account}:key/${keyId}`;
    const key = keys.get(arn);
    if (key?.region !== region) throw new AwsError('NotFoundException', `Key '${arn}' does not exist`);
    return key;
  };
  return {
    create(region) {
      const id = randomUUID();
      const key: ServerKey = {
        id,
        arn: `arn:aws:kms:${region}:${account}:key/${id}`,
        region,
        createdMs: Date.now(),
        state: 'Enabled',
        before: { state: 'Enabled', untilMs: 0 },
        deletionMs: undefined,
        denied: new Set(),
        materials: [randomBytes(32)],
      };
      keys.set(key.arn, key);
      return key;
    },
    find,
    byArn: (arn) => find(arn.split(':')[3] ?? '', arn),
    setState(key, state) {
      key.before = { state: key.state, untilMs: Date.now() + propagationMs() };
      key.state = state;
    },
  };
}

/** The state that a cryptographic call sees: the old one until a change has propagated. */
function effectiveState(key: ServerKey): KeyState {
  return Date.now() < key.before.untilMs ? key.before.state : key.state;
}

export function assertUsable(key: ServerKey): void {
  const state = effectiveState(key);
  if (state === 'Enabled' || state === 'Updating') return;
  if (state === 'Disabled') throw new AwsError('DisabledException', `${key.arn} is disabled.`);
  const words: Record<Exclude<KeyState, 'Enabled' | 'Updating' | 'Disabled'>, string> = {
    PendingDeletion: 'is pending deletion.',
    PendingImport: 'is pending import.',
    Unavailable: 'is unavailable.',
    Creating: 'is creating.',
  };
  throw new AwsError('KMSInvalidStateException', `${key.arn} ${words[state]}`);
}

const FORMAT = 1;
const HEAD = 1 + 16 + 4 + 12;
const TAG = 16;

export function encrypt(key: ServerKey, plaintext: Uint8Array, context: Record<string, string>): Buffer {
  const blob = Buffer.alloc(HEAD + plaintext.length + TAG);
  blob[0] = FORMAT;
  blob.write(key.id.replaceAll('-', ''), 1, 'hex');
  blob.writeUInt32BE(key.materials.length, 17);
  randomBytes(12).copy(blob, 21);
  const material = key.materials.at(-1);
  if (!material) throw new AwsError('KMSInternalException', 'no material', 500);
  const cipher = createCipheriv('aes-256-gcm', material, blob.subarray(21, HEAD));
  cipher.setAAD(aad(blob, context));
  cipher.update(plaintext).copy(blob, HEAD);
  cipher.final();
  cipher.getAuthTag().copy(blob, HEAD + plaintext.length);
  return blob;
}

/** The id of the key that a blob names, or InvalidCiphertextException. */
export function keyIdInBlob(blob: Uint8Array): string {
  if (blob.length <= HEAD + TAG || blob[0] !== FORMAT) throw invalidCiphertext();
  const hex = Buffer.from(blob.buffer, blob.byteOffset + 1, 16).toString('hex');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

export function decrypt(key: ServerKey, blob: Buffer, context: Record<string, string>): Buffer {
  const material = key.materials[blob.readUInt32BE(17) - 1];
  if (!material) throw invalidCiphertext();
  const decipher = createDecipheriv('aes-256-gcm', material, blob.subarray(21, HEAD));
  decipher.setAAD(aad(blob, context));
  decipher.setAuthTag(blob.subarray(-TAG));
  const plaintext = decipher.update(blob.subarray(HEAD, -TAG));
  try {
    decipher.final();
  } catch {
    throw invalidCiphertext();
  }
  return plaintext;
}

function invalidCiphertext(): AwsError {
  return new AwsError('InvalidCiphertextException', '');
}

/** Binds the blob's own head and the context, whose pairs are a set: order does not count, split does. */
function aad(blob: Uint8Array, context: Record<string, string>): Buffer {
  const pairs = Object.entries(context).sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  return Buffer.concat([blob.subarray(0, 21), Buffer.from(JSON.stringify(pairs))]);
}
