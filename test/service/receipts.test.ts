/**
 * A whole replica on its embedded default, over HTTP: every answer of encrypt and decrypt, refusals too, leads to its record, and
 * the record to a signed checkpoint.
 */
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { keyRefOf, openLocalKeystore } from '../../adapters/kms/local/keystore.ts';
import { apiClient } from '../../src/api-client.ts';
import { type Replica, startReplica } from '../../src/assemble.ts';
import { parseVerifierKey } from '../../src/audit/note.ts';
import { verifyProof } from '../../src/audit/proof.ts';
import { readConfig } from '../../src/config.ts';
import { type Onboarded, onboard } from '../../src/onboard.ts';

interface Receipt {
  readonly origin: string;
  readonly index: number;
  readonly leaf: string;
  readonly durability: string;
}

let folder: string;
let replica: Replica;
let keystore: ReturnType<typeof openLocalKeystore>;
let own: Onboarded;
let auditorToken: string;
let narrowToken: string;
let wideToken: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'keytether-receipts-'));
  const config = { ...readConfig({ KEYTETHER_FOLDER: folder }), port: 0 };
  replica = await startReplica(config);
  keystore = openLocalKeystore(join(folder, 'kms'));
  keystore.createKey('master');
  const operator = apiClient(replica.url, readFileSync(config.operatorTokenFile, 'utf8').trim());
  own = await onboard(operator, { name: 'T', provider: 'local', keyRef: keyRefOf('master'), access: {} });
  const keys = `/v1/tenants/${own.tenant}/api-keys`;
  const tokenOf = async (body: object) => (await own.admin.post(keys, body)).body.token as string;
  auditorToken = await tokenOf({ name: 'a', role: 'auditor' });
  narrowToken = await tokenOf({ name: 'n', role: 'service', purposes: ['mail'] });
  wideToken = await tokenOf({ name: 'w', role: 'service', purposes: ['*'], scopes: ['*'] });
});
afterAll(async () => {
  await replica?.stop();
  rmSync(folder, { recursive: true, force: true });
});

async function ask(token: string, path: string, body?: object) {
  const response = await fetch(`${replica.url}/v1/tenants/${own.tenant}/${path}`, {
    method: body === undefined ? 'GET' : 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  const line = response.headers.get('keytether-receipt');
  const match = /^origin="([^"]+)", index=(\d+), leaf="([^"]+)", durability="(\w+)"$/.exec(line ?? '');
  const [, origin = '', index, leaf = '', durability = ''] = match ?? [];
  const receipt: Receipt | undefined = match ? { origin, index: Number(index), leaf, durability } : undefined;
  return { status: response.status, text, receipt };
}

function receiptOf(answer: { readonly receipt: Receipt | undefined; readonly text: string }): Receipt {
  if (answer.receipt === undefined) throw new Error(`no receipt came with ${answer.text}`);
  return answer.receipt;
}

/** The record that a receipt names, after its hash has been computed anew. */
async function recordAt({ index, leaf, origin, durability }: Receipt) {
  expect([origin, durability]).toEqual([`keytether.local/log/${own.tenant}`, 'process']);
  const { text } = await ask(auditorToken, `log/entries?from=${index}&limit=1`);
  const entry = JSON.parse(text) as { i: number; h: string; leaf: string };
  const hash = createHash('sha256').update(Uint8Array.of(0)).update(entry.leaf).digest('base64');
  expect([entry.i, entry.h, hash]).toEqual([index, leaf, leaf]);
  return { text: entry.leaf, leaf: JSON.parse(entry.leaf) };
}

const binding = { purpose: 'notes', resourceId: 'doc/1' };

async function envelope(): Promise<string> {
  const answer = await ask(own.serviceToken, 'encrypt', { plaintext: 'aGVsbG8=', ...binding });
  return JSON.parse(answer.text).envelope;
}

describe('a receipt comes with', () => {
  test('an envelope that does not open', async () => {
    const answer = await ask(own.serviceToken, 'decrypt', {
      envelope: await envelope(),
      ...binding,
      resourceId: 'doc/2',
    });
    expect(answer.status).toBe(400);
    const { leaf } = await recordAt(receiptOf(answer));
    expect(leaf).toMatchObject({ typ: 'key.use', op: 'decrypt', out: 'error', rsn: 'DECRYPT_FAILED' });
  });

  test('an envelope of a key that does not exist, which needs no KMS', async () => {
    const bytes = Buffer.from(await envelope(), 'base64');
    bytes[10] = (bytes[10] ?? 0) ^ 1;
    const answer = await ask(own.serviceToken, 'decrypt', { envelope: bytes.toString('base64'), ...binding });
    expect(answer.status).toBe(400);
    const { leaf } = await recordAt(receiptOf(answer));
    expect(leaf).toMatchObject({ typ: 'key.use', rsn: 'DECRYPT_FAILED' });
  });

  test('a refusal of the customer’s KMS', async () => {
    const sealed = await envelope();
    keystore.disable(keyRefOf('master'));
    try {
      const answer = await ask(own.serviceToken, 'decrypt', { envelope: sealed, ...binding });
      expect(answer.status).toBe(424);
      const { leaf } = await recordAt(receiptOf(answer));
      expect(leaf).toMatchObject({ typ: 'key.use', out: 'denied', rsn: 'KMS_KEY_DISABLED' });
      const batch = await ask(own.serviceToken, 'decrypt/batch', {
        items: ['a', 'b'].map((reference) => ({ reference, envelope: sealed, ...binding })),
      });
      expect(batch.status).toBe(424);
      expect((await recordAt(receiptOf(batch))).leaf).toMatchObject({ n: 2, rsn: 'KMS_KEY_DISABLED' });
    } finally {
      keystore.enable(keyRefOf('master'));
    }
  });

  test('an outage of the customer’s KMS, whose record says that nothing is known', async () => {
    const sealed = await envelope();
    const [there, away] = [join(folder, 'kms'), join(folder, 'kms-away')];
    renameSync(there, away);
    try {
      const answer = await ask(own.serviceToken, 'decrypt', { envelope: sealed, ...binding });
      expect(answer.status).toBe(503);
      const { leaf } = await recordAt(receiptOf(answer));
      const { code } = JSON.parse(answer.text);
      expect(code).toMatch(/^KMS_/);
      expect(leaf).toMatchObject({ typ: 'key.use', out: 'unknown', rsn: code });
    } finally {
      rmSync(there, { recursive: true, force: true });
      renameSync(away, there);
    }
  });

  test('a caller who may not', async () => {
    const answer = await ask(narrowToken, 'encrypt', { plaintext: '', ...binding });
    expect(answer.status).toBe(403);
    const { leaf } = await recordAt(receiptOf(answer));
    expect(leaf).toMatchObject({ typ: 'access.denied', op: 'envelope.encrypt', rsn: 'FORBIDDEN' });
  });

  test('a scope that has no customer key', async () => {
    const answer = await ask(wideToken, 'encrypt', { plaintext: '', ...binding, scope: 'other' });
    expect(answer.status).toBe(409);
    expect((await recordAt(receiptOf(answer))).leaf).toMatchObject({ rsn: 'CUSTOMER_KEY_NOT_ACTIVE' });
  });

  test('what succeeds, and leads to a checkpoint of this second', async () => {
    const answer = await ask(own.serviceToken, 'decrypt', { envelope: await envelope(), ...binding });
    expect(answer.status).toBe(200);
    const receipt = receiptOf(answer);
    const { leaf, text } = await recordAt(receipt);
    const proof = await eventually(() => ask(auditorToken, `log/entries/${leaf.eid}/proof`));
    const key = parseVerifierKey((await ask(auditorToken, 'log/vkey')).text.trim());
    if (key === undefined) throw new Error('no verifier key');
    const log = { origin: receipt.origin, keys: [key] };
    expect(verifyProof(proof.text, Buffer.from(text), log)?.index).toBe(receipt.index);
  });
});

/** Asks again while no checkpoint covers it. */
async function eventually<T extends { readonly status: number; readonly text: string }>(
  send: () => Promise<T>,
): Promise<T> {
  for (const until = Date.now() + 20_000; ; ) {
    const answer = await send();
    if (answer.status === 200) return answer;
    expect(JSON.parse(answer.text).code).toBe('CHECKPOINT_PENDING');
    if (Date.now() > until) throw new Error('no checkpoint came');
    await new Promise((resume) => setTimeout(resume, 100));
  }
}

test('the readiness names what it looks at', async () => {
  const response = await fetch(`${replica.url}/ready`);
  expect(await response.json()).toEqual({
    status: 'ready',
    checks: { store: 'ok', durability: 'ok', checkpoints: 'ok' },
  });
});
