import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import { encodeContext, messageContext } from '../../src/crypto/context.ts';
import { openRecordKey, unwrapDataKey } from '../../src/crypto/keys.ts';
import { createOpener, open, parseMessage } from '../../src/crypto/message.ts';
import {
  authenticateBinding,
  authenticateHead,
  authenticateKeyRecord,
  parseKeyImmutable,
  type RecordKeys,
  verifyBinding,
  verifyHead,
  verifyKeyRecord,
  verifyPrincipal,
} from '../../src/crypto/records.ts';
import { outcomeOf } from './samples.ts';
import { fieldOf, formatVector, hexOf, parseVector, type Vector } from './vector-file.ts';
import { allVectors } from './vector-source.ts';

const folder = new URL('../vectors/keytether/', import.meta.url);
const files = readdirSync(folder).filter((name) => name.endsWith('.txt'));
const vectors = files.map((file) =>
  parseVector(file.slice(0, -4), readFileSync(new URL(file, folder), 'utf8')),
);
const hex = (value: Uint8Array) => Buffer.from(value).toString('hex');

test('the files are what the source computes, no more and no less', () => {
  const computed = new Map(allVectors().map((vector) => [`${vector.name}.txt`, formatVector(vector)]));
  expect([...computed.keys()].sort()).toEqual([...files].sort());
  for (const file of files) expect(readFileSync(new URL(file, folder), 'utf8')).toBe(computed.get(file));
});

function recordKeysOf(vector: Vector): RecordKeys {
  const find = (id: string) => {
    const field = vector.fields[`record-key-${id}`];
    if (field === undefined) return undefined;
    return field === 'retired' ? 'retired' : { key: hexOf(vector, `record-key-${id}`) };
  };
  return { signing: { id: 'rk-2', key: hexOf(vector, 'record-key-rk-2') }, find };
}

/** Every way in which an object of this kind is read. Each must end as the vector says. */
function routesOf(vector: Vector): (() => void)[] {
  switch (fieldOf(vector, 'object')) {
    case 'message':
      return messageRoutes(vector);
    case 'key-record':
      return [() => readKeyRecord(vector)];
    case 'binding':
      return [
        () => {
          const keys = recordKeysOf(vector);
          expect(hex(authenticateBinding(verifyBinding(vector.body, keys), keys))).toBe(hex(vector.body));
        },
      ];
    case 'head':
      return [
        () => {
          const keys = recordKeysOf(vector);
          expect(hex(authenticateHead(verifyHead(vector.body, keys), keys))).toBe(hex(vector.body));
        },
      ];
    case 'wrap':
      return [() => readWrap(vector)];
    case 'secret':
      return [
        () => {
          const immutable = hexOf(vector, 'immutable');
          openRecordKey(vector.body, { ...parseKeyImmutable(immutable), immutable });
        },
      ];
    case 'principal':
      return [() => readPrincipal(vector)];
    case 'context':
      return [() => expect(hex(encodeContext(pairsOf(vector)))).toBe(hex(vector.body))];
    default:
      throw new Error(`${vector.name}: unknown object`);
  }
}

function pairsOf(vector: Vector): Map<string, string> {
  return new Map(JSON.parse(fieldOf(vector, 'context')) as [string, string][]);
}

function messageRoutes(vector: Vector): (() => void)[] {
  const key = hexOf(vector, 'key');
  const contextOf = (header: Uint8Array) =>
    messageContext({
      header,
      tenant: fieldOf(vector, 'tenant'),
      scope: fieldOf(vector, 'scope'),
      purpose: fieldOf(vector, 'purpose'),
      resourceId: JSON.parse(fieldOf(vector, 'resource-id')) as string,
      context: pairsOf(vector),
    });
  const check = (plaintext: Uint8Array) =>
    expect(Buffer.from(plaintext).toString('base64')).toBe(fieldOf(vector, 'plaintext-base64'));
  const stream = (size: number) => () => {
    const opener = createOpener(key, contextOf);
    const ready: Uint8Array[] = [];
    for (let at = 0; at < vector.body.length; at += size)
      ready.push(...opener.update(vector.body.subarray(at, at + size)));
    ready.push(...opener.final());
    check(Buffer.concat(ready));
  };
  const whole = () => check(open(key, vector.body, contextOf));
  return [whole, stream(vector.body.length + 1), stream(1), stream(16400)];
}

function readKeyRecord(vector: Vector): void {
  const keys = recordKeysOf(vector);
  const record = verifyKeyRecord(vector.body, keys);
  const signing = { id: record.authId, key: hexOf(vector, `record-key-${record.authId}`) };
  expect(hex(authenticateKeyRecord(record.immutable, record, { ...keys, signing }))).toBe(hex(vector.body));
  if (vector.fields.secret === undefined) return;
  expect(hex(openRecordKey(hexOf(vector, 'secret'), record))).toBe(fieldOf(vector, 'derived'));
}

function readWrap(vector: Vector): void {
  const [rootKey, rootKeyId] = [hexOf(vector, 'root-key'), hexOf(vector, 'root-key-id')];
  const secret = unwrapDataKey(rootKey, rootKeyId, hexOf(vector, 'child'), vector.body);
  expect(hex(secret)).toBe(fieldOf(vector, 'secret'));
}

function readPrincipal(vector: Vector): void {
  const row = JSON.parse(fieldOf(vector, 'row'));
  const fields = { ...row, secretSha256: Uint8Array.from(Buffer.from(row.secretSha256, 'hex')) };
  verifyPrincipal(fields, { authId: fieldOf(vector, 'auth-id'), mac: vector.body }, recordKeysOf(vector));
}

describe('every vector ends as it says, on every route', () => {
  test.each(vectors)('$name: $fields.expect', (vector) => {
    for (const route of routesOf(vector)) expect(outcomeOf(route)).toBe(fieldOf(vector, 'expect'));
  });
});

test('a message is refused at its header exactly when the vector says that it is malformed', () => {
  for (const vector of vectors.filter((one) => one.fields.object === 'message')) {
    const expected = fieldOf(vector, 'expect');
    const atHeader = expected.startsWith('ENVELOPE_MALFORMED') ? expected : 'success';
    expect([vector.name, outcomeOf(() => parseMessage(vector.body))]).toEqual([vector.name, atHeader]);
  }
});
