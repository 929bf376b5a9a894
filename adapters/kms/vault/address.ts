/**
 * Addresses of a Vault: one spelling for each, so that what the operator has allowed is what is called. A URL parser accepts dozens of
 * spellings of one host (`127.1`, `0x7f000001`, full-width digits, user information); here only its own normal form passes.
 */
import { KmsFailure } from '../../../src/kms/driver.ts';

const LABEL = '[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?';
/** The last label of a name begins with a letter, so that no form of an IPv4 address is a name. */
const NAME = `(?:${LABEL}\\.){0,8}[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?`;
const IPV4 = '(?:\\d{1,3}\\.){3}\\d{1,3}';
const IPV6 = '\\[[0-9a-f:]{2,39}\\]';
const ORIGIN = `(?:https://(?:${NAME}|${IPV4}|${IPV6})|http://(?:127\\.0\\.0\\.1|\\[::1\\]))(?::[1-9]\\d{0,4})?`;
const SEGMENT = '[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}';
const PATH = `${SEGMENT}(?:/${SEGMENT}){0,3}`;
const KEY_NAME = '[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,126}[A-Za-z0-9_])?';

const ORIGIN_ONLY = new RegExp(`^${ORIGIN}$`);
const PATH_ONLY = new RegExp(`^${PATH}$`);
const KEY_REF = new RegExp(`^(${ORIGIN})/v1/(${PATH})/keys/(${KEY_NAME})$`);

export interface VaultKey {
  /** Scheme, host and port, as the operator must have allowed them. */
  readonly origin: string;
  /** Where the transit engine is mounted. */
  readonly mount: string;
  readonly name: string;
}

/** Whether the text is an origin in its one spelling: `https`, or `http` to the loopback address of a Vault agent beside us. */
export function isOrigin(text: string): boolean {
  return ORIGIN_ONLY.test(text) && isNormal(text);
}

/** Whether the text is the path of a mount or namespace, without slashes at its ends. */
export function isMountPath(text: string): boolean {
  return PATH_ONLY.test(text) && !text.includes('..');
}

/** Takes `https://host[:port]/v1/<mount>/keys/<name>` apart. Throws KMS_MISCONFIGURED for anything else. */
export function parseKey(keyRef: string): VaultKey {
  const [, origin = '', mount = '', name = ''] = KEY_REF.exec(keyRef) ?? [];
  if (origin === '' || keyRef.includes('..') || !isOrigin(origin)) {
    throw new KmsFailure('misconfigured', 'KMS_MISCONFIGURED', { detail: 'key-ref' });
  }
  return { origin, mount, name };
}

/** The URL parser changes every spelling of an address but one, and refuses numbers that are no address. */
function isNormal(origin: string): boolean {
  return URL.canParse(origin) && new URL(origin).origin === origin;
}
