/** What test/vectors/audit/ holds, computed: a log with one record of each type, and the roots of small trees. */
import { createHash } from 'node:crypto';
import { encodeLeaf, type LeafBody } from '../../src/audit/leaf.ts';
import { encodeCheckpoint, encodeVerifierKey, signNote } from '../../src/audit/note.ts';
import { encodeProof } from '../../src/audit/proof.ts';
import { encodeBundle, encodeTile } from '../../src/audit/tiles.ts';
import { consistencyProof, inclusionProof, leafHash, rootOf } from '../../src/audit/tree.ts';
import { nodesOf, testSigner } from './trees.ts';

const TENANT = 'ten_aeaqcaibaeaqcaibaeaqcaibae';
export const VECTOR_ORIGIN = `keytether.test/log/${TENANT}`;
const WRITER = { id: Uint8Array.from({ length: 16 }, (_, at) => at), build: 'keytether/0.1.0' };
/** 2026-01-01T00:00:00Z in microseconds. */
const FIRST_T = 1_767_225_600_000_000;
const ACTOR = { id: 'prn_aiaqcaibaeaqcaibaeaqcaibae', role: 'service' };
const ADMIN = { id: 'prn_amaqcaibaeaqcaibaeaqcaibae', role: 'tenant-admin' };
const ROOT_KEY = { id: 'key_aqaqcaibaeaqcaibaeaqcaibae', ver: 1 };
const DATA_KEY = { id: 'key_auaqcaibaeaqcaibaeaqcaibae', ver: 3 };
const digest = (text: string) => createHash('sha256').update(text).digest('base64');

const CALL = {
  cid: eidText(4),
  cmk: 'ckey_ayaqcaibaeaqcaibaeaqcaibae',
  key: 'arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab',
  prv: 'aws-kms',
};

const BODIES: readonly LeafBody[] = [
  { typ: 'log.genesis', origin: VECTOR_ORIGIN },
  { typ: 'writer.start', durability: 'durable' },
  {
    typ: 'admin.change',
    op: 'key.create',
    act: ADMIN,
    req: 'req-1',
    sc: 'default',
    obj: { typ: 'root', id: ROOT_KEY.id, h: digest('a root') },
  },
  { typ: 'access.denied', op: 'customer-key.disable', act: ACTOR, req: 'req-2', n: 1, rsn: 'FORBIDDEN' },
  { typ: 'kms.intent', op: 'unwrap', kms: CALL, key: ROOT_KEY, sc: 'default', n: 2 },
  {
    typ: 'kms.result',
    op: 'unwrap',
    kms: { ...CALL, rid: '6f0e3b5c-0000-4000-8000-000000000001' },
    key: ROOT_KEY,
    kref: eidText(4),
    out: 'ok',
    rsn: undefined,
  },
  {
    typ: 'key.use',
    op: 'decrypt',
    act: ACTOR,
    req: 'req-3',
    sc: 'default',
    pu: 'invoices',
    key: DATA_KEY,
    env: [digest('an envelope'), digest('another envelope')],
    n: 2,
    kref: eidText(4),
    out: 'ok',
    rsn: undefined,
    dtl: undefined,
  },
  { typ: 'use.not_released', ref: eidText(6), kref: eidText(4), rsn: 'RELEASE_EXPIRED' },
  {
    typ: 'key.use',
    op: 'decrypt',
    act: ACTOR,
    req: 'req-4',
    sc: 'default',
    pu: 'invoices',
    key: undefined,
    env: [digest('an envelope')],
    n: 1,
    kref: eidText(4),
    out: 'denied',
    rsn: 'KMS_KEY_DISABLED',
    dtl: undefined,
  },
];

function eidOf(index: number): Uint8Array {
  return Uint8Array.from(Buffer.from(eidText(index).replaceAll('-', ''), 'hex'));
}

function eidText(index: number): string {
  return `019b7633-a400-7000-8000-${String(index).padStart(12, '0')}`;
}

/** The record with a fixed time. */
function recordAt(body: LeafBody, index: number): Uint8Array {
  const text = Buffer.from(encodeLeaf(WRITER, TENANT, body, eidOf(index)).bytes).toString();
  return new TextEncoder().encode(text.replace(/"t":[0-9]+/, `"t":${FIRST_T + index * 1000}`));
}

const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64');

/** Roots and proofs of trees whose entry i is the decimal of i, and one digest over all proofs up to 70 leaves. */
async function treeVector(): Promise<string> {
  const hashes = Array.from({ length: 70 }, (_, index) => leafHash(new TextEncoder().encode(String(index))));
  const read = nodesOf(hashes);
  const all = { inclusion: createHash('sha256'), consistency: createHash('sha256') };
  for (let size = 1; size <= 70; size += 1) {
    for (let at = 0; at < size; at += 1) {
      for (const hash of await inclusionProof(at, size, read)) all.inclusion.update(hash);
      for (const hash of await consistencyProof(at + 1, size, read)) all.consistency.update(hash);
    }
  }
  const vector = {
    entries: 'entry i is the decimal of i in ASCII',
    roots: Array.from({ length: 71 }, (_, size) => base64(rootOf(hashes.slice(0, size)))),
    inclusion: { index: 41, size: 70, proof: (await inclusionProof(41, 70, read)).map(base64) },
    consistency: { from: 41, to: 70, proof: (await consistencyProof(41, 70, read)).map(base64) },
    allInclusion: all.inclusion.digest('base64'),
    allConsistency: all.consistency.digest('base64'),
  };
  return `${JSON.stringify(vector, null, 2)}\n`;
}

/** Every file, by name. */
export async function auditVectors(): Promise<Map<string, string>> {
  const signer = testSigner(VECTOR_ORIGIN, 7);
  const records = BODIES.map(recordAt);
  const hashes = records.map(leafHash);
  const read = nodesOf(hashes);
  const checkpointAt = (size: number) =>
    signNote(encodeCheckpoint({ origin: VECTOR_ORIGIN, size, root: rootOf(hashes.slice(0, size)) }), signer);
  const checkpoint = await checkpointAt(records.length);
  const index = 6;
  const proof = encodeProof({ index, hashes: await inclusionProof(index, records.length, read), checkpoint });
  const tile = await encodeTile({ kind: 'hashes', level: 0, index: 0, width: records.length }, read);
  return new Map([
    ['records.jsonl', records.map((record) => `${Buffer.from(record)}\n`).join('')],
    ['leaf-hashes.txt', hashes.map((hash) => `${base64(hash)}\n`).join('')],
    ['log.vkey', `${encodeVerifierKey(signer)}\n`],
    ['checkpoint', checkpoint],
    ['checkpoint-4', await checkpointAt(4)],
    ['record-6.tlog-proof', proof],
    [
      'consistency-4-9.txt',
      (await consistencyProof(4, records.length, read)).map((hash) => `${base64(hash)}\n`).join(''),
    ],
    ['tile-0-000.p-9.base64', `${base64(tile)}\n`],
    ['tile-entries-000.p-9.base64', `${base64(encodeBundle(records))}\n`],
    ['tree.json', await treeVector()],
  ]);
}
