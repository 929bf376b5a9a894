/** What the API answers when all is well, and when a service fails. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { ERRORS, type ErrorCode, ServiceError } from '../../src/errors.ts';
import { KEY_ID, OWN } from './fake-services.ts';
import { type Listening, listen, type SendOptions } from './listen.ts';

let http: Listening;
let token: string;
let admin: string;

beforeAll(async () => {
  http = await listen();
  token = http.services.addPrincipal('service', OWN);
  admin = http.services.addPrincipal('tenant-admin', OWN);
});
beforeEach(() => {
  http.services.before = () => {};
  http.services.failures.length = 0;
});
afterAll(() => http.server.stop(1_000));

const base = `/v1/tenants/${OWN}`;
const text = (value: string) => Buffer.from(value).toString('base64');

describe('encrypt and decrypt', () => {
  test.each(['', 'hello', 'x'.repeat(100_000)])('a value of any length comes back (%#)', async (value) => {
    const json = { plaintext: text(value), purpose: 'notes', resourceId: 'doc-1', context: { a: '' } };
    const sealed = await http.send('POST', `${base}/encrypt`, { token, json });
    expect(Object.keys(sealed.json)).toEqual(['envelope', 'keyId', 'keyVersion', 'receipt']);
    const { plaintext: _plaintext, ...binding } = json;
    const opened = await http.send('POST', `${base}/decrypt`, {
      token,
      json: { ...binding, envelope: sealed.json.envelope },
    });
    expect(opened.json).toEqual({ plaintext: text(value), receipt: sealed.json.receipt });
  });

  test('the receipt also stands in a header of one line', async () => {
    const reply = await http.send('POST', `${base}/encrypt`, {
      token,
      json: { plaintext: '', purpose: 'notes' },
    });
    const leaf = Buffer.alloc(32, 7).toString('base64');
    expect(reply.headers.get('keytether-receipt')).toBe(
      `origin="log.test/audit/x", index=41, leaf="${leaf}", durability="process"`,
    );
  });

  test('a refusal carries its receipt in the same header, and nothing of it in its body', async () => {
    const leafHash = Buffer.alloc(32, 9).toString('base64');
    http.services.before = (name) => {
      if (name !== 'decrypt') return;
      const receipt = { origin: 'log.test/log/x', index: 7, leafHash, durability: 'durable' } as const;
      throw new ServiceError('KMS_KEY_DISABLED', { receipt });
    };
    const envelope = Buffer.from('8e4b544d41', 'hex').toString('base64');
    const reply = await http.send('POST', `${base}/decrypt`, { token, json: { envelope, purpose: 'notes' } });
    http.services.before = () => {};
    expect(reply.status).toBe(424);
    expect(reply.headers.get('keytether-receipt')).toBe(
      `origin="log.test/log/x", index=7, leaf="${leafHash}", durability="durable"`,
    );
    expect(reply.text).not.toContain('log.test');
  });

  test('every item of a batch succeeds or fails by itself', async () => {
    const envelope = Buffer.from('8e4b544d41', 'hex').toString('base64');
    const items = ['notes', 'wrong'].map((purpose) => ({ reference: `r-${purpose}`, envelope, purpose }));
    const reply = await http.send('POST', `${base}/decrypt/batch`, { token, json: { items } });
    const { title, status, retryable, fault, action } = ERRORS.DECRYPT_FAILED;
    expect(reply.status).toBe(200);
    expect(reply.json.items).toEqual([
      { reference: 'r-notes', ok: true, plaintext: 'QQ==' },
      {
        reference: 'r-wrong',
        ok: false,
        error: { code: 'DECRYPT_FAILED', title, status, retryable, fault, action },
      },
    ]);
    expect(reply.json.receipts).toHaveLength(1);
  });

  test('the plaintext that a service got or gave is zero after the answer', async () => {
    const seen: Uint8Array[] = [];
    const { encrypt, decrypt } = http.services;
    http.services.encrypt = (call, input) => {
      seen.push(input.plaintext);
      return encrypt(call, input);
    };
    http.services.decrypt = async (call, input) => {
      const done = await decrypt(call, input);
      seen.push(done.plaintext);
      return done;
    };
    const sealed = await http.send('POST', `${base}/encrypt`, {
      token,
      json: { plaintext: 'QUJD', purpose: 'a' },
    });
    await http.send('POST', `${base}/decrypt`, {
      token,
      json: { envelope: sealed.json.envelope, purpose: 'a' },
    });
    Object.assign(http.services, { encrypt, decrypt });
    expect(seen.map((bytes) => [...bytes])).toEqual([
      [0, 0, 0],
      [0, 0, 0],
    ]);
  });
});

describe('failures of a service', () => {
  const decrypt: SendOptions = { json: { envelope: 'jktUTQ==', purpose: 'notes' } };

  test.each(Object.keys(ERRORS) as ErrorCode[])(
    '%s answers with its row of the table and nothing else',
    async (code) => {
      http.services.before = (name) => {
        if (name === 'decrypt')
          throw new ServiceError(code, { cause: new Error('vendor CANARY'), detail: 'CANARY' });
      };
      const reply = await http.send('POST', `${base}/decrypt`, { token, ...decrypt });
      const row = ERRORS[code];
      expect(reply.status).toBe(row.status);
      expect(reply.json).toEqual({
        type: `urn:keytether:problem:${code}`,
        title: row.title,
        status: row.status,
        code,
        retryable: row.retryable,
        fault: row.fault,
        action: row.action,
        requestId: reply.headers.get('keytether-request-id'),
      });
      expect(reply.headers.get('retry-after')).toBe(row.retryable ? '1' : null);
      expect(reply.headers.get('cache-control')).toBe('no-store');
      expect(http.services.failures.map((one) => one.code)).toEqual(row.status >= 500 ? [code] : []);
    },
  );

  test.each([
    ['an error of a library', new Error('password=CANARY')],
    ['a system error with a code of its own', Object.assign(new Error('CANARY'), { code: 'ECONNREFUSED' })],
    ['text', 'CANARY'],
    ['nothing', undefined],
  ])('%s is INTERNAL and says nothing', async (_name, thrown) => {
    http.services.before = () => {
      throw thrown;
    };
    const reply = await http.send('POST', `${base}/decrypt`, { token, ...decrypt });
    expect([reply.status, reply.json.code]).toEqual([500, 'INTERNAL']);
    expect(reply.text).not.toContain('CANARY');
    expect(http.services.failures).toMatchObject([
      { code: 'INTERNAL', route: 'POST /v1/tenants/{tenant}/decrypt', error: thrown },
    ]);
  });

  test('bookkeeping that throws does not change the answer', async () => {
    const { failed, countUnauthenticated } = http.services;
    const broken = () => {
      throw new Error('CANARY');
    };
    Object.assign(http.services, { failed: broken, countUnauthenticated: broken });
    const denied = await http.send('POST', `${base}/decrypt`, { ...decrypt, token: 'x' });
    http.services.before = broken;
    const reply = await http.send('POST', `${base}/decrypt`, { token, ...decrypt });
    Object.assign(http.services, { failed, countUnauthenticated });
    expect([denied.status, reply.status, reply.json.code]).toEqual([401, 500, 'INTERNAL']);
  });

  test('Retry-After is what the service says, in whole seconds', async () => {
    http.services.before = () => {
      throw new ServiceError('KMS_THROTTLED', { retryAfterSeconds: 6.2 });
    };
    const reply = await http.send('POST', `${base}/decrypt`, { token, ...decrypt });
    expect(reply.headers.get('retry-after')).toBe('7');
  });

  test('a denial that cannot be logged is not answered as a denial', async () => {
    const { refused } = http.services;
    http.services.refused = async () => {
      throw new ServiceError('LOG_UNAVAILABLE');
    };
    const reply = await http.send('POST', `${base}/decrypt`, { token: admin, ...decrypt });
    http.services.refused = refused;
    expect([reply.status, reply.json.code]).toEqual([503, 'LOG_UNAVAILABLE']);
  });

  test('an answer outside the response schema is INTERNAL', async () => {
    const { listTenants } = http.services;
    http.services.listTenants = async () => [{ id: 7 } as never];
    const operator = http.services.addPrincipal('operator', 'system');
    const reply = await http.send('GET', '/v1/tenants', { token: operator });
    http.services.listTenants = listTenants;
    expect([reply.status, reply.json.code]).toEqual([500, 'INTERNAL']);
  });
});

describe('a tenant’s beginning', () => {
  test('operator invites, admin redeems once and makes a service key, and the key works', async () => {
    const operator = http.services.addPrincipal('operator', 'system');
    const made = await http.send('POST', '/v1/tenants', { token: operator, json: { name: 'Acme' } });
    expect(made.status).toBe(201);
    const { id } = made.json.tenant as { id: string };
    const { token: invitation } = made.json.invitation as { token: string };

    const redeem = { json: { invitation, name: 'Ada' } };
    const first = await http.send('POST', '/v1/invitations/redeem', redeem);
    expect([first.status, first.json.tenant]).toEqual([201, id]);
    const second = await http.send('POST', '/v1/invitations/redeem', redeem);
    expect([second.status, second.json.code]).toEqual([401, 'UNAUTHENTICATED']);

    const json = { name: 'app', role: 'service', purposes: ['notes'] };
    const adminToken = String(first.json.token);
    const key = await http.send('POST', `/v1/tenants/${id}/api-keys`, { token: adminToken, json });
    expect(key.json.apiKey).toMatchObject({ role: 'service', scopes: ['default'], purposes: ['notes'] });
    const used = await http.send('POST', `/v1/tenants/${id}/encrypt`, {
      token: String(key.json.token),
      json: { plaintext: '', purpose: 'notes' },
    });
    expect(used.status).toBe(200);

    const keyId = (key.json.apiKey as { id: string }).id;
    const revoked = await http.send('DELETE', `/v1/tenants/${id}/api-keys/${keyId}`, { token: adminToken });
    expect([revoked.status, revoked.text]).toEqual([204, '']);
    const late = await http.send('POST', `/v1/tenants/${id}/encrypt`, {
      token: String(key.json.token),
      json: { plaintext: '', purpose: 'notes' },
    });
    expect(late.status).toBe(401);
  });

  test('a field that the response schema does not name cannot leave', async () => {
    const reply = await http.send('POST', `${base}/api-keys`, {
      token: admin,
      json: { name: 'a', role: 'auditor' },
    });
    expect(reply.text).not.toContain('canary');
    expect(Object.keys(reply.json.apiKey as object)).not.toContain('tenant');
  });
});

test('a customer key is activated for the default scope unless another is named', async () => {
  const path = `${base}/customer-keys/${KEY_ID}/activate`;
  expect((await http.send('POST', path, { token: admin })).json.scopes).toEqual(['default']);
  expect((await http.send('POST', path, { token: admin, json: { scope: 'eu' } })).json.scopes).toEqual([
    'eu',
  ]);
});

test('the log is read from an index, with a bound', async () => {
  const { json } = await http.send('GET', `${base}/log?from=5&limit=2`, { token: admin });
  expect((json.entries as { index: number }[]).map((one) => one.index)).toEqual([5, 6]);
});

test('readiness is 503 when a part is missing, without problem details', async () => {
  const { readiness } = http.services;
  http.services.readiness = async () => ({ ready: false, checks: { store: 'ok', log: 'failed' } });
  const reply = await http.send('GET', '/ready');
  http.services.readiness = readiness;
  expect(reply.status).toBe(503);
  expect(reply.json).toEqual({ status: 'not ready', checks: { store: 'ok', log: 'failed' } });
});

describe('the direct way', () => {
  test('answers byte for byte what Express answers', async () => {
    const answers = await Promise.all([true, false].map((direct) => transcript(direct)));
    expect(answers[0]).toHaveLength(10);
    expect(answers[0]).toEqual(answers[1]);
  });

  async function transcript(direct: boolean): Promise<string[]> {
    const one = await listen({ direct });
    const service = one.services.addPrincipal('service', OWN);
    const auditor = one.services.addPrincipal('auditor', OWN);
    const envelope = Buffer.from('8e4b544d41', 'hex').toString('base64');
    const requests: [string, string, string, string][] = [
      ['POST', `${base}/decrypt`, service, JSON.stringify({ envelope, purpose: 'notes' })],
      ['POST', `${base}/encrypt`, service, JSON.stringify({ plaintext: 'QQ==', purpose: 'notes' })],
      ['POST', `${base}/decrypt`, service, JSON.stringify({ envelope, purpose: 'wrong' })],
      ['POST', `${base}/decrypt`, auditor, JSON.stringify({ envelope, purpose: 'notes' })],
      ['POST', `${base}/decrypt`, 'nonsense', JSON.stringify({ envelope, purpose: 'notes' })],
      ['POST', `${base}/decrypt`, service, '{"envelope":'],
      ['POST', `${base}/decrypt?a=b`, service, '{}'],
      ['GET', `${base}/decrypt`, service, ''],
      ['POST', `/v1/tenants/ten_${'A'.repeat(26)}/decrypt`, service, '{}'],
      ['POST', `/v1/tenants/${'/'.repeat(30)}/decrypt`, service, '{}'],
    ];
    const answers: string[] = [];
    for (const [method, path, bearer, body] of requests) {
      const head = [
        `${method} ${path} HTTP/1.1`,
        'Host: x',
        'Connection: close',
        `Authorization: Bearer ${bearer}`,
        ...(body === '' ? [] : ['Content-Type: application/json', `Content-Length: ${body.length}`]),
      ];
      const answer = await one.raw(`${head.join('\r\n')}\r\n\r\n${body}`);
      answers.push(
        answer
          .replaceAll(/[0-9a-f]{8}-[0-9a-f-]{27}/g, 'request-id')
          .replace(/\r\nDate: [^\r]*/, '\r\nDate: x'),
      );
    }
    await one.server.stop(1_000);
    return answers;
  }
});

describe('answers that are not JSON', () => {
  const log = `/v1/tenants/${OWN}/log`;
  let auditor: string;
  beforeAll(() => {
    auditor = http.services.addPrincipal('auditor', OWN);
  });
  const raw = async (path: string) => {
    const response = await fetch(`http://127.0.0.1:${http.port}${log}/${path}`, {
      headers: { authorization: `Bearer ${auditor}` },
    });
    return { headers: response.headers, bytes: new Uint8Array(await response.arrayBuffer()) };
  };

  test('a tile is bytes that the caller’s own cache may keep, and nobody else’s', async () => {
    const { headers, bytes } = await raw('tile/0/000.p/3');
    expect(bytes).toEqual(new Uint8Array(96).fill(0xf1));
    expect(headers.get('content-type')).toBe('application/octet-stream');
    expect(headers.get('cache-control')).toBe('private, max-age=31536000, immutable');
    expect(headers.get('x-content-type-options')).toBe('nosniff');
    expect(headers.get('content-security-policy')).toContain("default-src 'none'");
  });

  test('a checkpoint is text that no cache keeps', async () => {
    const { headers, bytes } = await raw('checkpoint');
    expect(new TextDecoder().decode(bytes)).toBe(await http.services.readCheckpoint({} as never));
    expect(headers.get('content-type')).toBe('text/plain; charset=utf-8');
    expect(headers.get('cache-control')).toBe('no-store');
  });

  test('entries are one JSON object on each line, with the place to go on in a header', async () => {
    const first = await raw('entries');
    const lines = new TextDecoder().decode(first.bytes).split('\n');
    expect(lines.pop()).toBe('');
    expect(lines.map((line) => Object.keys(JSON.parse(line)))).toEqual([
      ['i', 'h', 'leaf'],
      ['i', 'h', 'leaf'],
    ]);
    expect(first.headers.get('content-type')).toBe('application/x-ndjson');
    expect(first.headers.get('keytether-next')).toBe('2');
    expect((await raw('entries?from=2')).headers.get('keytether-next')).toBeNull();
  });
});
