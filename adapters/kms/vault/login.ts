/** How a token of Vault is come by: one that a platform secret holds, or a login. */
import { z } from 'zod';
import type { DriverHost } from '../../../src/kms/driver.ts';
import { KmsFailure } from '../../../src/kms/driver.ts';
import type { Session } from '../session.ts';
import { isMountPath } from './address.ts';
import { classify } from './classify.ts';

const secretId = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/);
const name = z.string().regex(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/);
const mount = z.string().max(128).refine(isMountPath, 'the path of a mount').optional();

/** In each, `secretId` names a platform secret: the token, the AppRole's secret id, or the JWT. */
export const auth = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('token'), secretId }),
  z.strictObject({ type: z.literal('approle'), roleId: name, secretId, mount }),
  z.strictObject({ type: z.literal('jwt'), role: name, secretId, mount }),
  z.strictObject({ type: z.literal('kubernetes'), role: name, secretId, mount }),
]);
export type VaultAuth = z.infer<typeof auth>;

/** Posts to a path below `/v1/`, with a token or without. */
export type Post = (path: string, body: Record<string, string>, token: string) => Promise<unknown>;

const issued = z.object({
  auth: z.object({ client_token: z.string().min(1).max(8192), lease_duration: z.number().min(0) }),
});

/** The time in which a call that has begun with a token can end with it. */
const LAST_CALL_MS = 2_000;

/** Fetches a token. The secret is read each time, since files of tokens are replaced while we run. */
export function createLogin(auth: VaultAuth, host: DriverHost, post: Post, now: () => number) {
  const session = (answer: unknown, token?: string): Session<string> => {
    const parsed = issued.safeParse(answer);
    if (!parsed.success)
      throw new KmsFailure('transient', 'KMS_CONTRACT_VIOLATION', { detail: 'login-answer' });
    const { client_token, lease_duration: seconds } = parsed.data.auth;
    const value = token ?? headerSafe(client_token);
    if (seconds === 0) return endless(value);
    const ms = seconds * 1000;
    return { value, renewAt: now() + (ms * 2) / 3, endsAt: now() + ms - Math.min(LAST_CALL_MS, ms / 3) };
  };

  return async (): Promise<Session<string>> => {
    const secret = await readSecret(host, auth.secretId);
    if (auth.type === 'token') {
      try {
        return session(await post('auth/token/renew-self', {}, secret), secret);
      } catch (error) {
        const failure = classify(error, 'login');
        if (failure.failureClass === 'transient' && failure.detail !== 'unrecognised') throw failure;
        // A token that cannot renew itself, or is not allowed to, serves as it is for as long as it does.
        return endless(secret);
      }
    }
    const { mount = auth.type } = auth;
    const body =
      auth.type === 'approle'
        ? { role_id: auth.roleId, secret_id: secret }
        : { role: auth.role, jwt: secret };
    try {
      return session(await post(`auth/${mount}/login`, body, ''));
    } catch (error) {
      throw classify(error, 'login');
    }
  };
}

function endless(value: string): Session<string> {
  return { value, renewAt: Number.POSITIVE_INFINITY, endsAt: Number.POSITIVE_INFINITY };
}

async function readSecret(host: DriverHost, id: string): Promise<string> {
  const bytes = await host.secret(id, 'is-sent');
  try {
    return headerSafe(new TextDecoder().decode(bytes).trim());
  } finally {
    bytes.fill(0);
  }
}

function headerSafe(text: string): string {
  if (/^[\x21-\x7e]{1,16384}$/.test(text)) return text;
  throw new KmsFailure('misconfigured', 'KMS_MISCONFIGURED', { detail: 'secret-format' });
}
