/**
 * AssumeRole of the AWS STS query protocol, with an ExternalId that is really compared and sessions that really expire.
 *
 * Follows the AWS STS API reference (AssumeRole: parameters, limits, response and errors; "Common errors") and the IAM user
 * guide page on the external id (a trust policy's condition on `sts:ExternalId`).
 */
import { randomBytes } from 'node:crypto';
import { AwsError } from './aws-keys.ts';

export interface ServerRole {
  readonly arn: string;
  /** What the trust policy's condition asks for; undefined is a trust policy without that condition. */
  externalId: string | undefined;
  trusted: boolean;
}

export interface Session {
  readonly accessKeyId: string;
  readonly sessionToken: string;
  readonly principal: string;
  readonly expiresMs: number;
}

export interface Sts {
  addRole(name: string, externalId: string | undefined): ServerRole;
  /** The XML answer. Throws AwsError with the status and code of the query protocol. */
  assumeRole(form: URLSearchParams, requestId: string): string;
  session(accessKeyId: string): Session | undefined;
  /** Ends all sessions at once, as an admin does with a policy that denies older ones. */
  expireAll(): void;
  /** How many requests came to STS, whatever became of them. */
  readonly requests: { count: number };
}

const PARAMETERS = ['Action', 'Version', 'RoleArn', 'RoleSessionName', 'DurationSeconds', 'ExternalId'];

export function createSts(account: string): Sts {
  const roles = new Map<string, ServerRole>();
  const sessions = new Map<string, Session>();
  const requests = { count: 0 };
  return {
    requests,
    addRole(name, externalId) {
      const role: ServerRole = { arn: `arn:aws:iam::${account}:role/${name}`, externalId, trusted: true };
      roles.set(role.arn, role);
      return role;
    },
    session: (accessKeyId) => sessions.get(accessKeyId),
    expireAll() {
      for (const [id, session] of sessions) sessions.set(id, { ...session, expiresMs: 0 });
    },
    assumeRole(form, requestId) {
      for (const name of form.keys()) {
        if (!PARAMETERS.includes(name)) throw new AwsError('ValidationError', `unexpected ${name}`);
      }
      if (form.get('Action') !== 'AssumeRole' || form.get('Version') !== '2011-06-15') {
        throw new AwsError('InvalidAction', 'The action or version is not valid');
      }
      const arn = form.get('RoleArn') ?? '';
      const name = form.get('RoleSessionName') ?? '';
      const seconds = Number(form.get('DurationSeconds') ?? 3600);
      const externalId = form.get('ExternalId');
      if (!/^[\w+=,.@-]{2,64}$/.test(name)) throw new AwsError('ValidationError', 'roleSessionName');
      if (!(seconds >= 900 && seconds <= 43_200)) throw new AwsError('ValidationError', 'durationSeconds');
      if (externalId !== null && !/^[\w+=,.@:/-]{2,1224}$/.test(externalId)) {
        throw new AwsError('ValidationError', 'externalId');
      }
      const role = roles.get(arn);
      const allowed = role?.trusted && (role.externalId === undefined || role.externalId === externalId);
      if (!allowed) {
        throw new AwsError(
          'AccessDenied',
          `not authorized to perform: sts:AssumeRole on resource: ${arn}`,
          403,
        );
      }
      const principal = `${arn.replace(':iam:', ':sts:').replace(':role/', ':assumed-role/')}/${name}`;
      const session: Session = {
        accessKeyId: `ASIA${randomBytes(8).toString('hex').toUpperCase()}`,
        sessionToken: randomBytes(48).toString('base64'),
        principal,
        expiresMs: Date.now() + seconds * 1000,
      };
      sessions.set(session.accessKeyId, session);
      return `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
<AssumedRoleUser><AssumedRoleId>AROA:${name}</AssumedRoleId><Arn>${principal}</Arn></AssumedRoleUser>
<Credentials><AccessKeyId>${session.accessKeyId}</AccessKeyId>
<SecretAccessKey>${randomBytes(30).toString('base64')}</SecretAccessKey>
<SessionToken>${session.sessionToken}</SessionToken>
<Expiration>${new Date(session.expiresMs).toISOString()}</Expiration></Credentials>
</AssumeRoleResult><ResponseMetadata><RequestId>${requestId}</RequestId></ResponseMetadata></AssumeRoleResponse>`;
    },
  };
}

export function stsError(error: AwsError, requestId: string): string {
  return `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>
<Code>${error.type}</Code><Message>${error.message}</Message></Error><RequestId>${requestId}</RequestId></ErrorResponse>`;
}
