/**
 * Whose credentials sign our calls: the machine's own, a static key from a platform secret, or short sessions of a role in the
 * customer's account. A source keeps what it has until it expires or is dropped.
 */
import { z } from 'zod';
import type { DriverHost } from '../../../src/kms/driver.ts';
import { KmsFailure } from '../../../src/kms/driver.ts';

export interface AwsCredentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
  readonly expiration?: Date;
}

export interface CredentialSource {
  /** Waits at most until `signal`; other waiters of the same answer are not disturbed. */
  get(signal: AbortSignal): Promise<AwsCredentials>;
  /** Forgets what the KMS has called expired or unknown, so that the next call asks again. */
  drop(): void;
}

const secretFormat = z.strictObject({
  accessKeyId: z.string().min(16).max(128),
  secretAccessKey: z.string().min(1).max(256),
  sessionToken: z.string().min(1).max(8192).optional(),
});

/** JSON `{accessKeyId, secretAccessKey, sessionToken?}` in a platform secret. */
export async function readStatic(host: DriverHost, secretId: string): Promise<AwsCredentials> {
  const bytes = await host.secret(secretId);
  try {
    const { sessionToken, ...pair } = secretFormat.parse(JSON.parse(new TextDecoder().decode(bytes)));
    return sessionToken === undefined ? pair : { ...pair, sessionToken };
  } catch {
    // The parser's message may quote the secret.
    throw new KmsFailure('misconfigured', 'KMS_MISCONFIGURED', { detail: 'secret-format' });
  } finally {
    bytes.fill(0);
  }
}

/** The machine's own credentials, as the SDK finds them in its environment, files and metadata service. */
export async function ambient(): Promise<() => Promise<AwsCredentials>> {
  const { fromNodeProviderChain } = await import('@aws-sdk/credential-providers');
  return fromNodeProviderChain();
}

/** How long before its end a session is renewed while it still serves, and when it no longer serves. */
const RENEW_MS = 300_000;
const UNUSABLE_MS = 30_000;
/** The least time between two renewals while the session still serves. */
const PAUSE_MS = 10_000;

/**
 * One fetch at a time for all callers. A session is renewed in the background before it ends; a renewal that fails
 * is noticed by callers only when the session has really ended.
 */
export function createCredentialSource(
  fetch: () => Promise<AwsCredentials>,
  now: () => number = Date.now,
): CredentialSource {
  let held: AwsCredentials | undefined;
  let fetching: Promise<AwsCredentials> | undefined;
  let lastStart = Number.NEGATIVE_INFINITY;

  const forget = (ended: Promise<AwsCredentials>): void => {
    if (fetching === ended) fetching = undefined;
  };

  const start = (): Promise<AwsCredentials> => {
    if (fetching) return fetching;
    lastStart = now();
    const current = fetch()
      .then((credentials) => {
        held = credentials;
        return credentials;
      })
      .finally(() => forget(current));
    fetching = current;
    return current;
  };

  return {
    async get(signal) {
      const left = held ? (held.expiration?.getTime() ?? Number.POSITIVE_INFINITY) - now() : 0;
      if (held && left > UNUSABLE_MS) {
        if (left < RENEW_MS && now() - lastStart > PAUSE_MS) start().catch(() => {});
        return held;
      }
      const current = start();
      // Nobody joins a fetch that has already kept someone waiting too long.
      return untilAborted(current, signal, () => forget(current));
    },
    drop() {
      held = undefined;
    },
  };
}

async function untilAborted<T>(promise: Promise<T>, signal: AbortSignal, then: () => void): Promise<T> {
  const aborted = Promise.withResolvers<never>();
  const onAbort = () => {
    then();
    aborted.reject(new KmsFailure('transient', 'KMS_TIMEOUT', { detail: 'credentials' }));
  };
  if (signal.aborted) onAbort();
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
