/** Sessions of a role in the customer's account, and the proof that the role asks for its external id. */
import { randomBytes } from 'node:crypto';
import type { DriverHost, SetupCheck } from '../../../src/kms/driver.ts';
import { classify } from './classify.ts';
import { type ClientSettings, isolated } from './client.ts';
import { type AwsCredentials, ambient, readStatic } from './credentials.ts';

export interface RoleAccess {
  readonly roleArn: string;
  readonly externalId: string;
  readonly sourceSecretId?: string | undefined;
}

/** The shortest session that STS gives: what the customer takes away by the role lives on for at most so long. */
const SESSION_SECONDS = 900;

/** Assumes the role, with its external id or, to prove that this is refused, without. */
export type Assume = (withExternalId: boolean) => Promise<AwsCredentials>;

export async function createRole(
  role: RoleAccess,
  host: DriverHost,
  settings: ClientSettings,
): Promise<Assume> {
  const { fromTemporaryCredentials } = await import('@aws-sdk/credential-providers');
  const { sourceSecretId } = role;
  const fetchSource = sourceSecretId === undefined ? await ambient() : () => readStatic(host, sourceSecretId);
  return async (withExternalId) => {
    const masterCredentials = await fetchSource();
    const provider = fromTemporaryCredentials({
      masterCredentials,
      params: {
        RoleArn: role.roleArn,
        RoleSessionName: `keytether-${randomBytes(8).toString('hex')}`,
        DurationSeconds: SESSION_SECONDS,
        ...(withExternalId ? { ExternalId: role.externalId } : {}),
      },
      clientConfig: isolated(settings),
    });
    return provider();
  };
}

/** A role that can be assumed without its external id is open to every other tenant of ours. */
export async function externalIdCheck(assume: Assume): Promise<SetupCheck> {
  const check = 'external-id-required';
  try {
    await assume(false);
  } catch (error) {
    const failure = classify(error);
    if (failure.code === 'KMS_ACCESS_DENIED') return { check, ok: true, action: '' };
    throw failure;
  }
  const action = "Add the condition StringEquals sts:ExternalId to the role's trust policy.";
  return { check, ok: false, action };
}
