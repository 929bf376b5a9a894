/** The SDK's KMS client without what this driver does itself, and with the key bytes kept out of it. */
import { randomBytes } from 'node:crypto';
import type { KMSClient, KMSClientConfig } from '@aws-sdk/client-kms';
import { replacePlaceholder } from '../secret-json.ts';
import type { AwsCredentials } from './credentials.ts';
import type { Transport } from './transport.ts';

export interface ClientSettings {
  readonly region: string;
  /** Scheme, host and port. */
  readonly endpoint: string;
  readonly transport: Transport;
}

/** Settings that keep an SDK client from retrying and from reading the environment or a profile. */
export function isolated({ region, endpoint, transport }: ClientSettings) {
  return {
    region,
    endpoint,
    maxAttempts: 1,
    retryMode: 'standard',
    defaultsMode: 'standard',
    useDualstackEndpoint: false,
    useFipsEndpoint: false,
    userAgentAppId: async () => undefined,
    authSchemePreference: async () => [],
    requestHandler: transport as unknown as NonNullable<KMSClientConfig['requestHandler']>,
  } as const;
}

/** Middleware for what we do ourselves (the user agent) or not at all (logging, tracing by environment). */
const NOT_NEEDED = ['getUserAgentMiddleware', 'recursionDetectionMiddleware', 'loggerMiddleware'];

/** `credentials` is asked for every call. */
export function createClient(
  sdk: typeof import('@aws-sdk/client-kms'),
  settings: ClientSettings,
  credentials: () => Promise<AwsCredentials>,
) {
  const client = new sdk.KMSClient({
    ...isolated(settings),
    authSchemePreference: [],
    // The mark keeps the SDK from remembering what it was given.
    credentials: Object.assign(credentials, { memoized: true }),
  });
  for (const name of NOT_NEEDED) client.middlewareStack.remove(name);
  // One attempt needs no retry strategy; the name stays, since the signer's place is relative to it.
  client.middlewareStack.add((next) => next, {
    name: 'retryMiddleware',
    step: 'finalizeRequest',
    priority: 'high',
    override: true,
  });
  return { client, outgoing: substitutePlaintext(client) };
}

/**
 * Has the SDK serialize a random placeholder and puts the key's base64 into the body before it is signed. `forget` zeroes
 * that body.
 */
function substitutePlaintext(client: KMSClient) {
  const pending = new Map<Uint8Array, { key: Uint8Array; body?: Uint8Array }>();
  client.middlewareStack.add(
    (next) => (args) => {
      const placeholder = (args.input as { Plaintext?: Uint8Array }).Plaintext;
      const entry = placeholder && pending.get(placeholder);
      if (!placeholder || !entry) return next(args);
      const request = args.request as { body: Uint8Array };
      entry.body = replacePlaceholder(request.body, placeholder, entry.key);
      request.body = entry.body;
      return next(args);
    },
    { step: 'build', name: 'keytetherPlaintext', priority: 'high' },
  );
  return {
    placeholderFor(key: Uint8Array): Uint8Array {
      const placeholder = new Uint8Array(randomBytes(key.length));
      pending.set(placeholder, { key });
      return placeholder;
    },
    forget(placeholder: Uint8Array): void {
      pending.get(placeholder)?.body?.fill(0);
      pending.delete(placeholder);
    },
  };
}
