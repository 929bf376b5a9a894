/** What is fuzzed: each target makes one damaged input and offers it to the code that must refuse it. */
import { label } from '../../src/brand.ts';
import { messageContext } from '../../src/crypto/context.ts';
import { commitIdentity, openRecordKey, unwrapDataKey } from '../../src/crypto/keys.ts';
import { createOpener, open, sealForVectors } from '../../src/crypto/message.ts';
import {
  authenticateBinding,
  authenticateHead,
  authenticateKeyRecord,
  parseKeyImmutable,
  principalMac,
  verifyBinding,
  verifyHead,
  verifyKeyRecord,
  verifyPrincipal,
} from '../../src/crypto/records.ts';
import {
  BINDING,
  bytes,
  DATA_IDENTITY,
  HEAD,
  PRINCIPAL,
  ROOT_IDENTITY,
  recordKeys,
  WRAPPING,
} from '../crypto/samples.ts';
import { damageBlindly, damageField, type Field, join, splice } from './mutations.ts';
import type { Random } from './random.ts';

export interface Target {
  readonly name: string;
  /** Out of 100. */
  readonly weight: number;
  /** Makes one damaged input. Returns the call that must refuse it, or undefined when the damage changed nothing. */
  attempt(random: Random): (() => unknown) | undefined;
}

const KEY = bytes(32, 0x01);
const KEY_ID = DATA_IDENTITY.keyId;
const ROOT_SECRET = bytes(32, 0x90);
const DATA_SECRET = bytes(32, 0xb0);
const ROOT = commitIdentity(ROOT_IDENTITY, ROOT_SECRET);
const DATA = commitIdentity(DATA_IDENTITY, DATA_SECRET);
const REQUEST = {
  tenant: DATA_IDENTITY.tenant,
  scope: 'default',
  purpose: 'customer-records',
  resourceId: 'customer/4711',
  context: { table: 'customers', column: 'iban' } as Record<string, string>,
};
const MESSAGE_FIELDS: Field[] = [4, 1, 1, 1, 1, 16, 24, 32, 'rest'];
const contextFor = (request: typeof REQUEST) => (header: Uint8Array) =>
  messageContext({ ...request, header });

const MESSAGES = [0, 1, 16, 64, 200, 16384, 16500].map((n, i) =>
  sealForVectors(KEY, KEY_ID, contextFor(REQUEST), bytes(n, i), bytes(24, i)),
);

function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

/** One damaged object of a set: blind, by field, or spliced with a sibling; undefined when it equals a sound one. */
function damaged(
  random: Random,
  sound: readonly Uint8Array[],
  fields: readonly Field[],
): Uint8Array | undefined {
  const one = random.pick(sound);
  const how = random.int(10);
  let input = how < 4 ? damageBlindly(random, one) : damageField(random, one, fields);
  if (how === 9) input = splice(random, one, random.pick(sound));
  return sound.some((other) => same(other, input)) ? undefined : input;
}

function openStreamed(random: Random, message: Uint8Array): void {
  const opener = createOpener(KEY, contextFor(REQUEST));
  for (let at = 0; at < message.length; ) {
    const length = 1 + random.int(5000);
    opener.update(message.subarray(at, at + length));
    at += length;
  }
  opener.final();
}

/** Mostly the short ones: a damaged long message costs as much as twenty short ones and shows the same paths. */
const SHORT = MESSAGES.slice(0, 5);

const openMessage: Target = {
  name: 'message, whole',
  weight: 13,
  attempt: (random) => {
    const input = damaged(random, random.int(20) === 0 ? MESSAGES : SHORT, MESSAGE_FIELDS);
    return input && (() => open(KEY, input, contextFor(REQUEST)));
  },
};

const openMessageStream: Target = {
  name: 'message, in pieces',
  weight: 6,
  attempt: (random) => {
    const input = damaged(random, random.int(20) === 0 ? MESSAGES : SHORT, MESSAGE_FIELDS);
    return input && (() => openStreamed(random, input));
  },
};

/** Damage after the commitment only: what reaches AES-GCM. */
const openMessageBody: Target = {
  name: 'message, body',
  weight: 12,
  attempt: (random) => {
    const message = random.pick(SHORT);
    const input = join(message.subarray(0, 80), damageBlindly(random, message.subarray(80)));
    return same(input, message) ? undefined : () => open(KEY, input, contextFor(REQUEST));
  },
};

const openElsewhere: Target = {
  name: 'message, another request or key',
  weight: 12,
  attempt: (random) => {
    const message = random.pick(SHORT);
    const text = Buffer.from(random.bytes(6)).toString('hex');
    const requests = [
      { ...REQUEST, tenant: text },
      { ...REQUEST, scope: text },
      { ...REQUEST, purpose: text },
      { ...REQUEST, resourceId: text },
      { ...REQUEST, context: { ...REQUEST.context, [text]: '' } },
      { ...REQUEST, context: { ...REQUEST.context, table: text } },
    ];
    if (random.int(7) === 0) return () => open(random.bytes(32), message, contextFor(REQUEST));
    const request = random.pick(requests);
    return () => open(KEY, message, contextFor(request));
  },
};

const RECORD_FIELDS: Field[] = [
  4,
  1,
  1,
  1,
  1,
  16,
  4,
  8,
  'lp',
  'lp',
  'lp',
  32,
  8,
  1,
  1,
  1,
  16,
  'lp',
  'lp',
  'lp',
  'lp',
  32,
];
const PAIR_FIELDS: Field[] = [...RECORD_FIELDS.slice(0, 20), 16, 'lp', 'lp', 'lp', 'lp', 32];
const [WRAP] = WRAPPING.wraps;
const PAIR_WRAPS = WRAP === undefined ? [] : [WRAP, { ...WRAP, wrapperId: bytes(16, 0x51) }];
const RECORDS = [ROOT, DATA].map((immutable) => authenticateKeyRecord(immutable, WRAPPING, recordKeys));
const PAIRS = (['any', 'all'] as const).map((mode) =>
  authenticateKeyRecord(ROOT, { ...WRAPPING, mode, wraps: PAIR_WRAPS }, recordKeys),
);
const SECOND_WRAPPER_AT = ROOT.length + 11 + 16 + 3 + 13 + 62;

const readRecord: Target = {
  name: 'key record',
  weight: 20,
  attempt: (random) => {
    const input = damaged(random, RECORDS, RECORD_FIELDS);
    return input && (() => verifyKeyRecord(input, recordKeys));
  },
};

const readPair: Target = {
  name: 'key record with two wraps',
  weight: 4,
  attempt: (random) => {
    const twice = random.int(8) === 0;
    const input = twice ? Uint8Array.from(random.pick(PAIRS)) : damaged(random, PAIRS, PAIR_FIELDS);
    if (twice) input?.set(bytes(16, 0x50), SECOND_WRAPPER_AT);
    return input && (() => verifyKeyRecord(input, recordKeys));
  },
};

const BINDINGS = [
  authenticateBinding(BINDING, recordKeys),
  authenticateBinding({ ...BINDING, provider: 'gcp', access: bytes(0, 0) }, recordKeys),
];

const readBinding: Target = {
  name: 'binding',
  weight: 12,
  attempt: (random) => {
    const input = damaged(random, BINDINGS, [4, 1, 16, 4, 1, 'lp', 'lp', 'lp', 'lp', 'lp', 32]);
    return input && (() => verifyBinding(input, recordKeys));
  },
};

const HEADS = [
  authenticateHead(HEAD, recordKeys),
  authenticateHead({ ...HEAD, purpose: 'customer-records', bindingId: undefined }, recordKeys),
];

const readHead: Target = {
  name: 'head',
  weight: 6,
  attempt: (random) => {
    const input = damaged(random, HEADS, [4, 1, 'lp', 'lp', 'lp', 16, 4, 16, 8, 'lp', 32]);
    return input && (() => verifyHead(input, recordKeys));
  },
};

const ROOT_KEY = openRecordKey(ROOT_SECRET, { ...parseKeyImmutable(ROOT), immutable: ROOT });
const ROOT_ID = ROOT_IDENTITY.keyId;
const WRAPS = [1, 2].map((n) => sealForVectors(ROOT_KEY, ROOT_ID, wrapContext, DATA_SECRET, bytes(24, n)));

/** Sound messages under the root's key that hold something other than 32 bytes. */
const WRONG_SECRETS = [0, 31, 33, 64].map((n) =>
  sealForVectors(ROOT_KEY, ROOT_ID, wrapContext, bytes(n, 0), bytes(24, n)),
);

function wrapContext(header: Uint8Array): Uint8Array {
  return join(label('key-wrap'), header, Uint8Array.of(DATA.length >> 8, DATA.length & 255), DATA);
}

const readWrap: Target = {
  name: 'data-key wrap',
  weight: 11,
  attempt: (random) => {
    const sound = random.pick(WRAPS);
    if (random.int(20) === 0) {
      const other = random.pick(WRONG_SECRETS);
      return () => unwrapDataKey(ROOT_KEY, ROOT_ID, DATA, other);
    }
    if (random.int(50) === 0) {
      const stump = sound.slice(0, random.int(24));
      return () => unwrapDataKey(ROOT_KEY, ROOT_ID, DATA, stump);
    }
    if (random.int(10) === 0) {
      const child = damageBlindly(random, DATA);
      return same(child, DATA) ? undefined : () => unwrapDataKey(ROOT_KEY, ROOT_ID, child, sound);
    }
    const inBody = random.int(4) === 0;
    const body = () => join(sound.subarray(0, 80), damageBlindly(random, sound.subarray(80)));
    const input = inBody ? body() : damaged(random, WRAPS, MESSAGE_FIELDS);
    if (input === undefined || same(input, sound)) return undefined;
    return () => unwrapDataKey(ROOT_KEY, ROOT_ID, DATA, input);
  },
};

const readSecret: Target = {
  name: 'answer of a KMS',
  weight: 2,
  attempt: (random) => {
    const input = damageBlindly(random, ROOT_SECRET);
    if (same(input, ROOT_SECRET)) return undefined;
    return () => openRecordKey(input, { ...parseKeyImmutable(ROOT), immutable: ROOT });
  },
};

const PRINCIPAL_MAC = principalMac(PRINCIPAL, recordKeys);

const readPrincipal: Target = {
  name: 'principal row',
  weight: 2,
  attempt: (random) => {
    const text = Buffer.from(random.bytes(4)).toString('hex');
    const rows = [
      { ...PRINCIPAL, tenant: text },
      { ...PRINCIPAL, role: text },
      { ...PRINCIPAL, scopes: [text] },
      { ...PRINCIPAL, purposes: [...PRINCIPAL.purposes, text] },
      { ...PRINCIPAL, expiresMs: random.int(2 ** 31) },
      { ...PRINCIPAL, secretSha256: random.bytes(32) },
    ];
    const row = random.pick(rows);
    const authId = random.pick(['rk-2', 'rk-2', 'rk-1', 'rk-0', 'rk-9']);
    return () => verifyPrincipal(row, { ...PRINCIPAL_MAC, authId }, recordKeys);
  },
};

export const TARGETS: readonly Target[] = [
  openMessage,
  openMessageStream,
  openMessageBody,
  openElsewhere,
  readRecord,
  readPair,
  readBinding,
  readHead,
  readWrap,
  readSecret,
  readPrincipal,
];
