/**
 * Driver for the development KMS of `local/keystore.ts`: the whole contract on a laptop, with a switch for every class of
 * failure. Wrapped bytes: format 01, key version u32, nonce 12, AES-256-GCM ciphertext and tag over the wrap context.
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { z } from 'zod';
import type { KmsCode } from '../../src/errors.ts';
import { contextBytes, contextMap } from '../../src/kms/context.ts';
import type { CallOptions, CustomerKeyHandle, KmsDriver, WrapContext } from '../../src/kms/driver.ts';
import { KmsFailure } from '../../src/kms/driver.ts';
import type { LocalKey, LocalKeystore, LocalUsage } from './local/keystore.ts';
import { nameOf, openLocalKeystore } from './local/keystore.ts';

export type { LocalKeystore, LocalSwitches, LocalUsage } from './local/keystore.ts';
export { openLocalKeystore } from './local/keystore.ts';

const FORMAT = 1;
const HEAD = 17;
const TAG = 16;

const access = z.strictObject({
  /** Whom the key's policy sees. A tenant's own name lets the policy deny one tenant. */
  principal: z
    .string()
    .regex(/^[A-Za-z0-9._:/-]{1,128}$/)
    .default('keytether'),
});
type Access = z.infer<typeof access>;

/** What the KMS itself would write into its log, and the code that we make of it. */
const REFUSALS = {
  AccessDenied: ['refused', 'KMS_ACCESS_DENIED'],
  KeyDisabled: ['refused', 'KMS_KEY_DISABLED'],
  KeyPendingDeletion: ['refused', 'KMS_KEY_PENDING_DELETION'],
  KeyNotFound: ['refused', 'KMS_KEY_NOT_FOUND'],
  InvalidCiphertext: ['integrity', 'KMS_INTEGRITY'],
  Throttled: ['transient', 'KMS_THROTTLED'],
} as const satisfies Record<string, readonly [KmsFailure['failureClass'], KmsCode]>;
type Refusal = keyof typeof REFUSALS;

/**
 * The keys and switches are those of `openLocalKeystore(folder)`. `production: true` makes every `open` fail: a key in a file
 * is no customer's key. The folder is made on first open.
 */
export function createLocalKms(options: {
  readonly folder: string;
  readonly production: boolean;
  readonly now?: () => number;
}): KmsDriver<Access> {
  const { folder, production, now = Date.now } = options;
  const admits = createThrottle(now);
  return {
    provider: 'local',
    access,
    prepareAccess: (submitted) => submitted,
    parseKeyRef(keyRef) {
      if (nameOf(keyRef) === undefined) throw misconfigured('key-ref');
      return keyRef;
    },
    async open(keyRef, { principal }) {
      if (production) throw misconfigured('development-only');
      return openHandle({ keystore: openLocalKeystore(folder, now), keyRef, principal, now, admits });
    },
  };
}

function openHandle(options: {
  readonly keystore: LocalKeystore;
  readonly keyRef: string;
  readonly principal: string;
  readonly now: () => number;
  readonly admits: (perSecond: number) => boolean;
}): CustomerKeyHandle {
  const { keystore, keyRef, principal, now, admits } = options;
  let closed = false;

  /** One call: what the network and the KMS do around `act`, and the line in the KMS's log. */
  const serve = async <T>(
    operation: LocalUsage['operation'],
    context: Record<string, string>,
    call: CallOptions,
    act: (key: LocalKey) => T,
  ): Promise<{ value: T; requestId: string }> => {
    if (closed) throw new KmsFailure('transient', 'KMS_CONTRACT_VIOLATION', { detail: 'closed' });
    const { latencyMs, callsPerSecond, reachable } = keystore.switches();
    if (!reachable) throw new KmsFailure('transient', 'KMS_UNREACHABLE');
    await pause(latencyMs, call.signal);
    const requestId = randomBytes(16).toString('hex');
    const log = (outcome: string) =>
      keystore.appendUsage({
        time: new Date(now()).toISOString(),
        request_id: requestId,
        correlation_id: call.correlationId,
        principal,
        operation,
        key: keyRef,
        encryption_context: context,
        outcome,
      });
    try {
      if (callsPerSecond !== null && !admits(callsPerSecond)) throw new Refused('Throttled');
      const key = keystore.readKey(keyRef);
      if (!key) throw new Refused('KeyNotFound');
      if (key.denied.includes('*') || key.denied.includes(principal)) throw new Refused('AccessDenied');
      const value = act(key);
      log('ok');
      return { value, requestId };
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      log(error.refusal);
      const [failureClass, code] = REFUSALS[error.refusal];
      throw new KmsFailure(failureClass, code, { requestId });
    }
  };

  return {
    async describe(call) {
      const { value } = await serve('DescribeKey', {}, call, (key) => ({
        keyId: keyRef,
        state: stateOf(key),
        bindsContext: true,
        keyVersion: String(key.versions.length),
      }));
      return value;
    },
    async wrap(key, context, call) {
      const { value, requestId } = await serve('Encrypt', contextMap(context), call, (stored) => {
        assertUsable(stored);
        const version = stored.versions.length;
        return { wrapped: seal(keystore, stored, version, key, context), keyVersion: String(version) };
      });
      return { ...value, keyId: keyRef, algorithm: 'AES-256-GCM', requestId };
    },
    async unwrap(wrapped, context, call) {
      const { value, requestId } = await serve('Decrypt', contextMap(context), call, (stored) => {
        assertUsable(stored);
        return unseal(keystore, stored, wrapped, context);
      });
      return { key: value, keyId: keyRef, requestId };
    },
    async checkSetup(call) {
      await serve('DescribeKey', {}, call, () => undefined);
      return [];
    },
    async close() {
      closed = true;
    },
  };
}

class Refused extends Error {
  readonly refusal: Refusal;
  constructor(refusal: Refusal) {
    super(refusal);
    this.refusal = refusal;
  }
}

function misconfigured(detail: string): KmsFailure {
  return new KmsFailure('misconfigured', 'KMS_MISCONFIGURED', { detail });
}

function stateOf(key: LocalKey): 'enabled' | 'disabled' | 'pending-deletion' {
  if (key.deletionMs !== null) return 'pending-deletion';
  return key.enabled ? 'enabled' : 'disabled';
}

function assertUsable(key: LocalKey): void {
  const state = stateOf(key);
  if (state === 'pending-deletion') throw new Refused('KeyPendingDeletion');
  if (state === 'disabled') throw new Refused('KeyDisabled');
}

function seal(
  keystore: LocalKeystore,
  key: LocalKey,
  version: number,
  plaintext: Uint8Array,
  context: WrapContext,
): Uint8Array {
  const material = keystore.material(key, version);
  if (!material) throw new Refused('KeyNotFound');
  try {
    const wrapped = new Uint8Array(HEAD + plaintext.length + TAG);
    wrapped[0] = FORMAT;
    new DataView(wrapped.buffer).setUint32(1, version);
    wrapped.set(randomBytes(12), 5);
    const cipher = createCipheriv('aes-256-gcm', material, wrapped.subarray(5, HEAD));
    cipher.setAAD(contextBytes(context));
    wrapped.set(cipher.update(plaintext), HEAD);
    cipher.final();
    wrapped.set(cipher.getAuthTag(), HEAD + plaintext.length);
    return wrapped;
  } finally {
    material.fill(0);
  }
}

function unseal(
  keystore: LocalKeystore,
  key: LocalKey,
  wrapped: Uint8Array,
  context: WrapContext,
): Uint8Array {
  if (wrapped.length <= HEAD + TAG || wrapped[0] !== FORMAT) throw new Refused('InvalidCiphertext');
  const version = new DataView(wrapped.buffer, wrapped.byteOffset).getUint32(1);
  const material = keystore.material(key, version);
  if (!material) throw new Refused('InvalidCiphertext');
  try {
    const decipher = createDecipheriv('aes-256-gcm', material, wrapped.subarray(5, HEAD));
    decipher.setAAD(contextBytes(context));
    decipher.setAuthTag(wrapped.subarray(-TAG));
    const opened = decipher.update(wrapped.subarray(HEAD, -TAG));
    try {
      decipher.final();
    } catch {
      opened.fill(0);
      throw new Refused('InvalidCiphertext');
    }
    return opened;
  } finally {
    material.fill(0);
  }
}

/** Admits so many calls in each second of the clock. */
function createThrottle(now: () => number): (perSecond: number) => boolean {
  let second = 0;
  let count = 0;
  return (perSecond) => {
    const current = Math.floor(now() / 1000);
    if (current !== second) {
      second = current;
      count = 0;
    }
    count += 1;
    return count <= perSecond;
  };
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  const aborted = () => new KmsFailure('transient', 'KMS_TIMEOUT', { detail: 'aborted' });
  if (signal.aborted) return Promise.reject(aborted());
  if (ms === 0) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const onAbort = () => {
      clearTimeout(timer);
      reject(aborted());
    };
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', onAbort);
      resolve();
    }, ms);
    signal.addEventListener('abort', onAbort, { once: true });
  });
}
