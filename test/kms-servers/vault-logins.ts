/**
 * Logins of the protocol server: AppRole, JWT and Kubernetes, with the words of the plugins that Vault 1.13 ships
 * (`builtin/credential/approle`, `vault-plugin-auth-jwt`, `vault-plugin-auth-kubernetes`) and their HTTP API pages.
 */
import { generateKeyPairSync, type KeyObject, randomUUID, sign, verify } from 'node:crypto';
import { Refusal } from './vault-transit.ts';

export interface Role {
  policies: string[];
  ttlSeconds: number;
}

interface JwtRole extends Role {
  readonly audience: string;
  readonly subject: string;
}

export function createLogins(now: () => number) {
  const issuer = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const appRoles = new Map<string, Role & { readonly secretIds: Set<string> }>();
  const jwtRoles = new Map<string, JwtRole>();
  const kubernetesRoles = new Map<string, Role & { readonly serviceAccountTokens: Set<string> }>();

  return {
    appRoles,
    jwtRoles,
    kubernetesRoles,
    /** A JWT of the issuer that the JWT method trusts, or of `key`. */
    jwt(claims: Record<string, unknown>, key: KeyObject = issuer.privateKey): string {
      const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
      const text = `${part({ alg: 'ES256', typ: 'JWT' })}.${part({ jti: randomUUID(), ...claims })}`;
      return `${text}.${sign('sha256', Buffer.from(text), { key, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`;
    },
    login(method: string, body: Record<string, unknown>): Role {
      if (method === 'approle') {
        const role = appRoles.get(String(body.role_id));
        if (!role) throw new Refusal(400, 'invalid role ID');
        if (!role.secretIds.has(String(body.secret_id))) throw new Refusal(400, 'invalid secret id');
        return role;
      }
      if (typeof body.jwt !== 'string') throw new Refusal(400, 'missing token');
      if (method === 'jwt') {
        const role = jwtRoles.get(String(body.role));
        if (!role) throw new Refusal(400, `role "${String(body.role)}" could not be found`);
        checkClaims(claimsOf(body.jwt, issuer.publicKey), role, now());
        return role;
      }
      const role = kubernetesRoles.get(String(body.role));
      if (!role) throw new Refusal(400, `invalid role name "${String(body.role)}"`);
      if (!role.serviceAccountTokens.has(body.jwt)) throw new Refusal(403, 'permission denied');
      return role;
    },
  };
}

function claimsOf(jwt: string, key: KeyObject): Record<string, unknown> {
  const [head = '', claims = '', signature = ''] = jwt.split('.');
  const signed = Buffer.from(`${head}.${claims}`);
  if (!verify('sha256', signed, { key, dsaEncoding: 'ieee-p1363' }, Buffer.from(signature, 'base64url'))) {
    throw new Refusal(400, 'error validating token: error verifying token signature: no known key');
  }
  return JSON.parse(Buffer.from(claims, 'base64url').toString('utf8')) as Record<string, unknown>;
}

function checkClaims(claims: Record<string, unknown>, role: JwtRole, nowMs: number): void {
  if (Number(claims.exp) * 1000 < nowMs) {
    throw new Refusal(400, 'error validating token: invalid expiration time (exp) claim: token is expired');
  }
  if (claims.aud !== role.audience) {
    throw new Refusal(
      400,
      'error validating token: invalid audience (aud) claim: audience claim does not match',
    );
  }
  if (claims.sub !== role.subject) {
    throw new Refusal(400, 'error validating token: invalid subject (sub) claim');
  }
}
