/**
 * Whose credentials sign our calls: the machine's own, a static key from a platform secret, or short sessions of a role in the
 * customer's account.
 */
import { z } from 'zod';
import type { DriverHost } from '../../../src/kms/driver.ts';
import { KmsFailure } from '../../../src/kms/driver.ts';
import { createSessionSource, type SessionSource } from '../session.ts';

export interface AwsCredentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
  readonly expiration?: Date;
}

const secretFormat = z.strictObject({
  accessKeyId: z.string().min(16).max(128),
  secretAccessKey: z.string().min(1).max(256),
  sessionToken: z.string().min(1).max(8192).optional(),
});

/** JSON `{accessKeyId, secretAccessKey, sessionToken?}` in a platform secret. */
export async function readStatic(host: DriverHost, secretId: string): Promise<AwsCredentials> {
  const bytes = await host.secret(secretId, 'signs');
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

/** One fetch at a time for all callers; credentials are kept until shortly before they expire. */
export function createCredentialSource(
  fetch: () => Promise<AwsCredentials>,
  now: () => number = Date.now,
): SessionSource<AwsCredentials> {
  return createSessionSource(async () => {
    const value = await fetch();
    const end = value.expiration?.getTime() ?? Number.POSITIVE_INFINITY;
    return { value, renewAt: end - RENEW_MS, endsAt: end - UNUSABLE_MS };
  }, now);
}
