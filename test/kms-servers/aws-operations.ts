/** The operations of the AWS KMS protocol server, read as strictly as the AWS KMS API reference writes them. */

import { randomBytes } from 'node:crypto';
import type { Keys, ServerKey } from './aws-keys.ts';
import { AwsError, assertUsable, decrypt, encrypt, keyIdInBlob } from './aws-keys.ts';

type Input = Record<string, unknown>;

export interface Caller {
  readonly region: string;
  readonly accessKeyId: string;
  readonly principal: string;
}

export interface Operation {
  /** The key that was used, for the log; empty where none. */
  readonly key: ServerKey | undefined;
  readonly output: object;
}

const MEMBERS: Readonly<Record<string, readonly string[]>> = {
  Encrypt: ['KeyId', 'Plaintext', 'EncryptionContext', 'GrantTokens', 'EncryptionAlgorithm', 'DryRun'],
  Decrypt: ['KeyId', 'CiphertextBlob', 'EncryptionContext', 'GrantTokens', 'EncryptionAlgorithm', 'DryRun'],
  DescribeKey: ['KeyId', 'GrantTokens'],
  CreateKey: ['Description'],
  DisableKey: ['KeyId'],
  EnableKey: ['KeyId'],
  ScheduleKeyDeletion: ['KeyId', 'PendingWindowInDays'],
  CancelKeyDeletion: ['KeyId'],
  RotateKeyOnDemand: ['KeyId'],
};

export function runOperation(name: string, input: Input, caller: Caller, keys: Keys): Operation {
  const members = Object.hasOwn(MEMBERS, name) ? MEMBERS[name] : undefined;
  if (!members) throw new AwsError('UnknownOperationException', '');
  for (const member of Object.keys(input)) {
    if (!members.includes(member))
      throw new AwsError('ValidationException', `${member} is no member of ${name}`);
  }
  if (name === 'CreateKey') {
    const key = keys.create(caller.region);
    return { key, output: { KeyMetadata: metadata(key) } };
  }
  if (name === 'Decrypt') return runDecrypt(input, caller, keys);
  const key = keys.find(caller.region, text(input, 'KeyId'));
  assertAllowed(key, caller, name);
  const run = BY_NAME[name];
  if (!run) throw new AwsError('UnknownOperationException', '');
  return { key, output: run(key, input, keys) };
}

const BY_NAME: Readonly<Record<string, (key: ServerKey, input: Input, keys: Keys) => object>> = {
  Encrypt(key, input) {
    const plaintext = blob(input, 'Plaintext', 4096);
    const context = contextOf(input);
    assertUsable(key);
    return {
      CiphertextBlob: encrypt(key, plaintext, context).toString('base64'),
      KeyId: key.arn,
      EncryptionAlgorithm: 'SYMMETRIC_DEFAULT',
    };
  },
  DescribeKey: (key) => ({ KeyMetadata: metadata(key) }),
  DisableKey(key, _input, keys) {
    assertNotDeleting(key);
    keys.setState(key, 'Disabled');
    return {};
  },
  EnableKey(key, _input, keys) {
    assertNotDeleting(key);
    keys.setState(key, 'Enabled');
    return {};
  },
  ScheduleKeyDeletion(key, input, keys) {
    const days = input.PendingWindowInDays ?? 30;
    if (typeof days !== 'number' || days < 7 || days > 30) throw new AwsError('ValidationException', 'days');
    assertNotDeleting(key);
    key.deletionMs = Date.now() + days * 86_400_000;
    keys.setState(key, 'PendingDeletion');
    return { KeyId: key.arn, DeletionDate: key.deletionMs / 1000, KeyState: 'PendingDeletion' };
  },
  CancelKeyDeletion(key, _input, keys) {
    key.deletionMs = undefined;
    keys.setState(key, 'Disabled');
    return { KeyId: key.arn };
  },
  RotateKeyOnDemand(key) {
    assertUsable(key);
    key.materials.push(randomBytes(32));
    return { KeyId: key.arn };
  },
};

function runDecrypt(input: Input, caller: Caller, keys: Keys): Operation {
  const ciphertext = blob(input, 'CiphertextBlob', 6144);
  const context = contextOf(input);
  const named = input.KeyId === undefined ? undefined : keys.find(caller.region, text(input, 'KeyId'));
  if (named) assertAllowed(named, caller, 'Decrypt');
  const inside = keyIdInBlob(ciphertext);
  if (named && named.id !== inside) {
    throw new AwsError(
      'IncorrectKeyException',
      'The key ID in the request does not identify a CMK that can perform this operation.',
    );
  }
  const key = named ?? keys.find(caller.region, inside);
  assertAllowed(key, caller, 'Decrypt');
  assertUsable(key);
  const plaintext = decrypt(key, ciphertext, context);
  const output = {
    KeyId: key.arn,
    Plaintext: plaintext.toString('base64'),
    EncryptionAlgorithm: 'SYMMETRIC_DEFAULT',
    KeyMaterialId: String(key.materials.length).padStart(64, '0'),
  };
  return { key, output };
}

function assertAllowed(key: ServerKey, caller: Caller, action: string): void {
  const denied = ['*', caller.principal, caller.accessKeyId].some((who) => key.denied.has(who));
  if (!denied) return;
  throw new AwsError(
    'AccessDeniedException',
    `User: ${caller.principal} is not authorized to perform: kms:${action} on resource: ${key.arn} with an explicit deny in a resource-based policy`,
  );
}

function assertNotDeleting(key: ServerKey): void {
  if (key.state === 'PendingDeletion') {
    throw new AwsError('KMSInvalidStateException', `${key.arn} is pending deletion.`);
  }
}

function metadata(key: ServerKey): object {
  return {
    AWSAccountId: key.arn.split(':')[4],
    Arn: key.arn,
    KeyId: key.id,
    CreationDate: key.createdMs / 1000,
    ...(key.deletionMs === undefined ? {} : { DeletionDate: key.deletionMs / 1000 }),
    Enabled: key.state === 'Enabled',
    KeyState: key.state,
    KeyUsage: 'ENCRYPT_DECRYPT',
    KeySpec: 'SYMMETRIC_DEFAULT',
    EncryptionAlgorithms: ['SYMMETRIC_DEFAULT'],
    Origin: 'AWS_KMS',
    KeyManager: 'CUSTOMER',
    MultiRegion: false,
    CurrentKeyMaterialId: String(key.materials.length).padStart(64, '0'),
  };
}

function text(input: Input, member: string): string {
  const value = input[member];
  if (value === undefined) throw new AwsError('ValidationException', `${member} must not be null`);
  if (typeof value !== 'string') throw new AwsError('SerializationException', `${member} is no string`);
  if (value.length < 1 || value.length > 2048) throw new AwsError('ValidationException', `${member} length`);
  return value;
}

function blob(input: Input, member: string, max: number): Buffer {
  const encoded = input[member];
  if (encoded === undefined) throw new AwsError('ValidationException', `${member} must not be null`);
  if (typeof encoded !== 'string') throw new AwsError('SerializationException', `${member} is no string`);
  const bytes = Buffer.from(encoded, 'base64');
  if (bytes.toString('base64') !== encoded)
    throw new AwsError('SerializationException', `${member} is no base64`);
  if (bytes.length < 1 || bytes.length > max) throw new AwsError('ValidationException', `${member} length`);
  return bytes;
}

function contextOf(input: Input): Record<string, string> {
  const context = input.EncryptionContext ?? {};
  if (typeof context !== 'object' || context === null || Array.isArray(context)) {
    throw new AwsError('SerializationException', 'EncryptionContext is no map');
  }
  for (const value of Object.values(context)) {
    if (typeof value !== 'string') throw new AwsError('SerializationException', 'EncryptionContext value');
  }
  return context as Record<string, string>;
}
