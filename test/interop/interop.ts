/** `npm run test:interop [-- count [seed]]`: an implementation in Python opens what we seal, and we open what it seals. */
import { isDeepStrictEqual } from 'node:util';
import { messageContext } from '../../src/crypto/context.ts';
import { commitIdentity, openRecordKey, unwrapDataKey, wrapDataKey } from '../../src/crypto/keys.ts';
import { open, seal } from '../../src/crypto/message.ts';
import {
  authenticateKeyRecord,
  type KeyIdentity,
  type KeyWrapping,
  type RecordKeys,
  verifyKeyRecord,
} from '../../src/crypto/records.ts';
import { damageBlindly } from '../fuzz/mutations.ts';
import { Random } from '../fuzz/random.ts';
import { ask, pythonWithPackages } from './python.ts';

/** One exchange: a question to Python, and what we make of its answer. */
interface Exchange {
  readonly kind: string;
  readonly question: object;
  agrees(answer: Record<string, unknown>): boolean;
}

const hex = (value: Uint8Array) => Buffer.from(value).toString('hex');
const unhex = (value: unknown) => Uint8Array.from(Buffer.from(String(value), 'hex'));
const bytesOf = (fields: Record<string, Uint8Array>) =>
  Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, hex(value)]));

const ALPHABET = [...'abcXYZ019 ._-/:é\u0301ß漢\uffee\u{1f600}\u{10ffff}'];
const LENGTHS = [0, 1, 15, 16, 17, 16383, 16384, 16385, 32768, 40000];

function text(random: Random, least: number, most: number): string {
  return Array.from({ length: least + random.int(most - least + 1) }, () => random.pick(ALPHABET)).join('');
}

function request(random: Random) {
  const pairs = new Map<string, string>();
  for (let n = random.int(6); n > 0; n--) pairs.set(text(random, 1, 10), text(random, 0, 20));
  return {
    tenant: `ten_${text(random, 1, 8)}`,
    scope: random.pick(['default', 'eu', 'a.b_c-d']),
    purpose: random.pick(['customer-records', 'x', '~credentials']),
    resourceId: text(random, 0, 30),
    context: pairs,
  };
}

function plaintextOf(random: Random): Uint8Array {
  return random.bytes(random.int(40) === 0 ? random.pick(LENGTHS) : random.int(600));
}

/** What our `open` says: the plaintext in hex, or the word of the refusal. */
function ourOpen(run: () => Uint8Array): Record<string, unknown> {
  try {
    return { hex: hex(run()) };
  } catch (error) {
    return { refused: (error as { detail?: string }).detail };
  }
}

function theyOpen(random: Random): Exchange {
  const [of, key, keyId] = [request(random), random.bytes(32), random.bytes(16)];
  const contextOf = (header: Uint8Array) => messageContext({ ...of, header });
  const sealed = seal(key, keyId, contextOf, plaintextOf(random));
  const message = random.int(10) === 0 ? damageBlindly(random, sealed) : sealed;
  const expected = ourOpen(() => open(key, message, contextOf));
  return {
    kind:
      'refused' in expected
        ? 'damaged messages refused by both with one word'
        : 'our messages opened by Python',
    question: {
      what: 'open',
      request: { ...of, context: [...of.context] },
      bytes: bytesOf({ key, message }),
    },
    agrees: (answer) => isDeepStrictEqual(answer, expected),
  };
}

function weOpen(random: Random): Exchange {
  const [of, key, keyId, plaintext] = [
    request(random),
    random.bytes(32),
    random.bytes(16),
    plaintextOf(random),
  ];
  return {
    kind: 'messages of Python opened by us',
    question: {
      what: 'seal',
      request: { ...of, context: [...of.context] },
      bytes: bytesOf({ key, keyId, plaintext }),
    },
    agrees: (answer) =>
      hex(open(key, unhex(answer.hex), (header) => messageContext({ ...of, header }))) === hex(plaintext),
  };
}

function keyIdentity(random: Random): KeyIdentity {
  const kind = random.pick(['root', 'data'] as const);
  return {
    kind,
    keyId: random.bytes(16),
    keyVersion: 1 + random.int(2 ** 31),
    createdMs: random.int(2 ** 31) * 1000,
    tenant: `ten_${text(random, 1, 8)}`,
    scope: 'default',
    purpose: kind === 'root' ? '' : random.pick(['customer-records', '~credentials']),
  };
}

function keyWrapping(random: Random, kind: KeyIdentity['kind']): KeyWrapping {
  const mode = kind === 'data' ? 'one' : random.pick(['one', 'any', 'all'] as const);
  const count = mode === 'one' ? 1 : 2 + random.int(3);
  const wraps = Array.from({ length: count }, () => ({
    wrapperId: random.bytes(16),
    kmsKeyVersion: text(random, 0, 10),
    wrapAlg: text(random, 0, 10),
    wrapped: random.bytes(1 + random.int(600)),
  }));
  return { generation: random.int(2 ** 31), state: random.pick(['active', 'retired'] as const), mode, wraps };
}

function jsonOf(identity: KeyIdentity, wrapping: KeyWrapping): object {
  const wraps = wrapping.wraps.map((wrap) => ({
    ...wrap,
    wrapperId: hex(wrap.wrapperId),
    wrapped: hex(wrap.wrapped),
  }));
  return { ...identity, keyId: hex(identity.keyId), ...wrapping, wraps };
}

function record(random: Random): Exchange {
  const identity = keyIdentity(random);
  const wrapping = keyWrapping(random, identity.kind);
  const [secret, authKey, authId] = [random.bytes(32), random.bytes(32), text(random, 1, 8)];
  const keys: RecordKeys = {
    signing: { id: authId, key: authKey },
    find: (id) => (id === authId ? { key: authKey } : undefined),
  };
  const ours = authenticateKeyRecord(commitIdentity(identity, secret), wrapping, keys);
  const key = hex(openRecordKey(secret, verifyKeyRecord(ours, keys)));
  const json = jsonOf(identity, wrapping);
  if (random.int(2) === 0) {
    return {
      kind: 'our key records read by Python',
      question: { what: 'read-record', authId, bytes: bytesOf({ record: ours, secret, authKey }) },
      agrees: (answer) => isDeepStrictEqual(answer, { record: json, key }),
    };
  }
  return {
    kind: 'key records of Python equal to ours',
    question: { what: 'make-record', record: json, authId, bytes: bytesOf({ secret, authKey }) },
    agrees: (answer) => isDeepStrictEqual(answer, { hex: hex(ours), key }),
  };
}

function wrap(random: Random): Exchange {
  const [rootKey, rootId, secret] = [random.bytes(32), random.bytes(16), random.bytes(32)];
  const child = commitIdentity({ ...keyIdentity(random), kind: 'data', purpose: 'p' }, secret);
  if (random.int(2) === 0) {
    const wrapped = wrapDataKey(rootKey, rootId, child, secret);
    return {
      kind: 'our data-key wraps opened by Python',
      question: { what: 'unwrap', bytes: bytesOf({ rootKey, child, wrapped }) },
      agrees: (answer) => answer.hex === hex(secret),
    };
  }
  return {
    kind: 'data-key wraps of Python opened by us',
    question: { what: 'wrap', bytes: bytesOf({ rootKey, rootId, child, secret }) },
    agrees: (answer) => hex(unwrapDataKey(rootKey, rootId, child, unhex(answer.hex))) === hex(secret),
  };
}

async function main(count: number, seed: number): Promise<number> {
  const python = pythonWithPackages();
  const random = new Random(seed);
  console.log(`seed ${seed}`);
  const exchanges: Exchange[] = [];
  for (let i = 0; i < count; i++) {
    exchanges.push(theyOpen(random), weOpen(random));
    if (i % 5 === 0) exchanges.push(record(random), wrap(random));
  }
  const answers = await ask(
    python,
    exchanges.map((exchange) => exchange.question),
  );
  const tally = new Map<string, number>();
  let disagreements = 0;
  for (const [i, exchange] of exchanges.entries()) {
    tally.set(exchange.kind, (tally.get(exchange.kind) ?? 0) + 1);
    if (exchange.agrees(answers[i] ?? {})) continue;
    disagreements++;
    console.log(`DISAGREEMENT in ${exchange.kind}: ${JSON.stringify(exchange.question)}`);
  }
  for (const [kind, number] of tally) console.log(`${String(number).padStart(7)}  ${kind}`);
  console.log(`${String(disagreements).padStart(7)}  disagreements`);
  return disagreements === 0 ? 0 : 1;
}

try {
  process.exitCode = await main(
    Number(process.argv[2] ?? 12_000),
    Number(process.argv[3] ?? Date.now() % 2 ** 32),
  );
} catch (error) {
  console.error(`The comparison with Python did not run: ${(error as Error).message}`);
  console.error('It needs python3 with venv, and pip must be able to install test/interop/requirements.txt.');
  process.exitCode = 1;
}
