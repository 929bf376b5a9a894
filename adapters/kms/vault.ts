/**
 * Driver for the transit engine of HashiCorp Vault and OpenBao, keys of type `aes256-gcm96`. The key's name is in the path of every
 * call, the wrap context is `associated_data`, our correlation id is the header `x-correlation-id`, which an audit device
 * shows once the customer has told Vault to (see `adapters/README.md`).
 *
 * node-vault reads `VAULT_*` variables and would print bodies when told to by `DEBUG`; each of these is overridden here.
 */
import { z } from 'zod';
import { contextBytes } from '../../src/kms/context.ts';
import type {
  CallOptions,
  CustomerKeyHandle,
  DriverHost,
  KeyDescription,
  KmsDriver,
  SetupCheck,
} from '../../src/kms/driver.ts';
import { KmsFailure } from '../../src/kms/driver.ts';
import { createHttp, type Http } from './http.ts';
import { createSessionSource, type SessionSource } from './session.ts';
import { isMountPath, isOrigin, parseKey, type VaultKey } from './vault/address.ts';
import { classify, NO_SUCH_TYPE, PERMISSION_DENIED, type VaultCall } from './vault/classify.ts';
import { auth, createLogin } from './vault/login.ts';
import { createRequest, type VaultOptions } from './vault/request.ts';

const KEY_TYPE = 'aes256-gcm96';

const access = z.strictObject({
  /** Of Vault Enterprise and OpenBao, such as `team/eu`. */
  namespace: z.string().max(256).refine(isMountPath, 'the path of a namespace').optional(),
  /** Other members of the cluster that a standby may send us to; the operator must have allowed each. */
  redirectHosts: z.array(z.string().max(300).refine(isOrigin, 'https://host:port')).max(8).optional(),
  /** A platform secret with the certificates, in PEM, that alone are trusted for this Vault. */
  caSecretId: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/)
    .optional(),
  auth,
});
type Access = z.infer<typeof access>;

const encrypted = z.object({ request_id: z.string(), data: z.object({ ciphertext: z.string().max(4096) }) });
const decrypted = z.object({ request_id: z.string() });
const settings = z.object({
  data: z.object({
    type: z.string(),
    latest_version: z.number().int(),
    derived: z.boolean(),
    exportable: z.boolean(),
    allow_plaintext_backup: z.boolean(),
    soft_deleted: z.boolean().optional(),
  }),
});

export function createVaultKms(options: { readonly now?: () => number } = {}): KmsDriver<Access> {
  const { now = Date.now } = options;
  return {
    provider: 'vault',
    access,
    prepareAccess: (submitted) => submitted,
    parseKeyRef(keyRef) {
      parseKey(keyRef);
      return keyRef;
    },
    async open(keyRef, access, host) {
      const key = parseKey(keyRef);
      const { redirectHosts = [], caSecretId } = access;
      for (const origin of [key.origin, ...redirectHosts]) {
        if (!host.endpointAllowed(origin)) throw misconfigured('endpoint-not-allowed');
      }
      const ca = caSecretId === undefined ? undefined : await readCertificates(host, caSecretId);
      const http = createHttp({ ca });
      const client = await createClient(http, key.origin, [key.origin, ...redirectHosts], access.namespace);
      const post = (path: string, body: Record<string, string>, token: string) =>
        client.write(path, body, { headers: token === '' ? {} : { 'x-vault-token': token } });
      const session = createSessionSource(createLogin(access.auth, host, post, now), now);
      return openHandle({ keyRef, key, client, session, http });
    },
  };
}

interface Client {
  write(path: string, body: Record<string, string>, options: VaultOptions): Promise<unknown>;
  read(path: string, options: VaultOptions): Promise<unknown>;
}

async function createClient(
  http: Http,
  endpoint: string,
  origins: readonly string[],
  namespace = '',
): Promise<Client> {
  const { default: nodeVault } = await import('node-vault');
  const client = nodeVault({
    endpoint,
    apiVersion: 'v1',
    debug: () => {},
    'request-promise': { defaults: () => createRequest(http, origins) },
  });
  // What it took from VAULT_PREFIX, VAULT_TOKEN and VAULT_NAMESPACE.
  return Object.assign(client, { pathPrefix: '', token: '', namespace });
}

function openHandle(options: {
  readonly keyRef: string;
  readonly key: VaultKey;
  readonly client: Client;
  readonly session: SessionSource<string>;
  readonly http: Http;
}): CustomerKeyHandle {
  const { keyRef, key, client, session, http } = options;
  const { mount, name } = key;
  let closed = false;

  /** Runs one call; a denial by a token that is not fresh is answered by one login and one call more. */
  const send = async (
    call: CallOptions,
    kind: VaultCall,
    run: (options: VaultOptions) => Promise<unknown>,
  ): Promise<unknown> => {
    if (closed) throw new KmsFailure('transient', 'KMS_CONTRACT_VIOLATION', { detail: 'closed' });
    const { signal, correlationId } = call;
    const attempt = async (token: string) => {
      try {
        return await run({
          signal,
          headers: { 'x-vault-token': token, 'x-correlation-id': correlationId },
        });
      } catch (error) {
        throw classify(error, kind);
      }
    };
    const token = await session.get(signal);
    try {
      return await attempt(token);
    } catch (error) {
      if ((error as KmsFailure).detail !== PERMISSION_DENIED || !session.replace(token)) throw error;
      const other = await session.get(signal);
      if (other === token) throw error;
      return await attempt(other);
    }
  };

  const readKey = async (call: CallOptions) => {
    const answer = await send(call, 'read-key', (sending) => client.read(`${mount}/keys/${name}`, sending));
    return parsed(settings, answer, 'describe').data;
  };

  return {
    async describe(call): Promise<KeyDescription> {
      const found = await readKey(call);
      return {
        keyId: keyRef,
        state: found.soft_deleted === true ? 'disabled' : 'enabled',
        bindsContext: found.type === KEY_TYPE,
        keyVersion: String(found.latest_version),
      };
    },
    async wrap(plaintext, context, call) {
      // Vault makes a key on encrypt where there is none and the policy allows `create`. With a type that it makes no
      // encryption key of, it refuses instead; for a key that exists the type is not read.
      const body = { plaintext: '', associated_data: base64(contextBytes(context)), type: NO_SUCH_TYPE };
      const answer = await send(call, 'use', (sending) =>
        client.write(`${mount}/encrypt/${name}`, body, { ...sending, plaintext }),
      );
      const { request_id: requestId, data } = parsed(encrypted, answer, 'encrypt');
      const wrapped = new TextEncoder().encode(data.ciphertext);
      const keyVersion = versionOf(data.ciphertext);
      if (keyVersion === undefined) throw violation('ciphertext');
      return { wrapped, keyId: keyRef, keyVersion, algorithm: KEY_TYPE, requestId };
    },
    async unwrap(wrapped, context, call) {
      if (closed) throw violation('closed');
      if (call.signal.aborted) throw new KmsFailure('transient', 'KMS_TIMEOUT');
      const ciphertext = new TextDecoder('latin1').decode(wrapped);
      // Vault itself takes `v0` and `v01` for `v1` and skips line ends, so a changed text would open.
      if (versionOf(ciphertext) === undefined) {
        throw new KmsFailure('integrity', 'KMS_INTEGRITY', { detail: 'ciphertext' });
      }
      let key: Uint8Array | undefined;
      const onPlaintext = (taken: Uint8Array) => {
        key = taken;
      };
      const body = { ciphertext, associated_data: base64(contextBytes(context)) };
      try {
        const answer = await send(call, 'use', (sending) =>
          client.write(`${mount}/decrypt/${name}`, body, { ...sending, onPlaintext }),
        );
        const { request_id: requestId } = parsed(decrypted, answer, 'decrypt');
        return { key: key ?? new Uint8Array(0), keyId: keyRef, requestId };
      } catch (error) {
        key?.fill(0);
        throw error;
      }
    },
    async checkSetup(call): Promise<readonly SetupCheck[]> {
      const found = await readKey(call);
      const check = (check: string, ok: boolean, action: string) => ({ check, ok, action: ok ? '' : action });
      return [
        check(
          'key-type',
          found.type === KEY_TYPE && !found.derived,
          `Make a key of type ${KEY_TYPE} that is not derived.`,
        ),
        check(
          'not-exportable',
          !found.exportable,
          'Make a key with exportable=false; it cannot be taken back.',
        ),
        check(
          'no-plaintext-backup',
          !found.allow_plaintext_backup,
          'Make a key with allow_plaintext_backup=false; it cannot be taken back.',
        ),
      ];
    },
    async close() {
      if (closed) return;
      closed = true;
      session.drop();
      http.destroy();
    },
  };
}

/** The version in `vault:v<n>:<base64>`; undefined unless the text is the one spelling of its bytes. */
function versionOf(ciphertext: string): string | undefined {
  const [, version, body = ''] = /^vault:v([1-9]\d{0,8}):([A-Za-z0-9+/]+={0,2})$/.exec(ciphertext) ?? [];
  return Buffer.from(body, 'base64').toString('base64') === body ? version : undefined;
}

function parsed<T>(schema: z.ZodType<T>, answer: unknown, what: string): T {
  const result = schema.safeParse(answer);
  if (!result.success) throw violation(what);
  return result.data;
}

async function readCertificates(host: DriverHost, id: string): Promise<string> {
  const text = new TextDecoder().decode(await host.secret(id, 'signs'));
  if (!text.includes('-----BEGIN CERTIFICATE-----')) throw misconfigured('secret-format');
  return text;
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}

function misconfigured(detail: string): KmsFailure {
  return new KmsFailure('misconfigured', 'KMS_MISCONFIGURED', { detail });
}

function violation(detail: string): KmsFailure {
  return new KmsFailure('transient', 'KMS_CONTRACT_VIOLATION', { detail });
}
