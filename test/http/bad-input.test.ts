/** Malformed requests over a real socket: each has its status and code, and none costs a call into the services. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { mintToken } from '../../src/service/token.ts';
import { EVENT_ID, OWN } from './fake-services.ts';
import { type Listening, listen, type SendOptions } from './listen.ts';

const ENCRYPT = `/v1/tenants/${OWN}/encrypt`;
const DECRYPT = `/v1/tenants/${OWN}/decrypt`;

let http: Listening;
let token: string;

beforeAll(async () => {
  http = await listen();
  token = http.services.addPrincipal('service', OWN);
});
beforeEach(() => {
  http.services.calls.length = 0;
  http.services.refusals.length = 0;
});
afterAll(() => http.server.stop(1_000));

function encryptBody(more: object): string {
  return JSON.stringify({ plaintext: 'QUJD', purpose: 'notes', ...more });
}

async function expectRefusal(
  [method, path, options]: [string, string, SendOptions],
  status: number,
  code: string,
  error?: { path: string; rule: string },
): Promise<void> {
  const reply = await http.send(method, path, { token, ...options });
  expect([reply.status, reply.json.code]).toEqual([status, code]);
  expect(reply.headers.get('content-type')).toBe('application/problem+json');
  if (error !== undefined) expect(reply.json.errors).toContainEqual(error);
  expect(http.services.calls).toEqual([]);
  expect(http.services.refusals).toEqual([]);
}

describe('bodies', () => {
  const pairs = (n: number) => Object.fromEntries(Array.from({ length: n }, (_, i) => [`k${i}`, 'v']));
  const label = 'must match /^[a-z0-9][a-z0-9._-]{0,63}$/';
  const contextRule = 'must have at most 16 pairs, no empty name, and at most 8192 bytes in all';

  test.each<[string, string | Uint8Array, string, string]>([
    ['nothing', '', 'plaintext', 'must be of type string'],
    ['not JSON', 'plaintext=QUJD', '', 'must be JSON'],
    ['a list', '[]', '', 'must be of type object'],
    ['null', 'null', '', 'must be of type object'],
    ['text after the value', `${encryptBody({})}x`, '', 'must be JSON'],
    ['equal keys', '{"purpose":"a","plaintext":"","purpose":"b"}', '', 'equal keys in one object'],
    ['equal keys, one in escapes', '{"purpose":"a","\\u0070urpose":"b"}', '', 'equal keys in one object'],
    ['an unknown field', encryptBody({ extra: 1 }), 'extra', 'unknown field'],
    ['an unknown field whose name could be a secret', encryptBody({ 'sk-live-1': 1 }), '*', 'unknown field'],
    ['__proto__', '{"__proto__":{"plaintext":""},"purpose":"a"}', '', 'unknown field'],
    [
      '__proto__ in the context',
      '{"plaintext":"","purpose":"a","context":{"__proto__":"x"}}',
      '',
      'unknown field',
    ],
    ['constructor as a field', encryptBody({ constructor: 1 }), 'constructor', 'unknown field'],
    ['a byte order mark', `\ufeff${encryptBody({})}`, '', 'must not start with a byte order mark'],
    ['invalid UTF-8', Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x7d), '', 'must be UTF-8'],
    ['U+0000', encryptBody({ resourceId: 'a\0b' }), '', 'strings must be well-formed and without U+0000'],
    ['a lone surrogate', '{"plaintext":"\\ud800"}', '', 'strings must be well-formed and without U+0000'],
    ['a depth bomb', `{"a":${'['.repeat(100_000)}`, '', 'must not nest deeper than 16'],
    ['a number for text', encryptBody({ plaintext: 7 }), 'plaintext', 'must be of type string'],
    [
      'base64 without padding',
      encryptBody({ plaintext: 'QUI' }),
      'plaintext',
      'must be canonical padded base64',
    ],
    [
      'base64 with spare bits',
      encryptBody({ plaintext: 'QUJ=' }),
      'plaintext',
      'must be canonical padded base64',
    ],
    ['base64url', encryptBody({ plaintext: '-_-_' }), 'plaintext', 'must be canonical padded base64'],
    [
      'base64 in lines',
      encryptBody({ plaintext: 'QUJD\nQUJD' }),
      'plaintext',
      'must be canonical padded base64',
    ],
    ['no purpose', '{"plaintext":""}', 'purpose', 'must be of type string'],
    ['a purpose of our own', encryptBody({ purpose: '~credentials' }), 'purpose', label],
    ['a purpose in capitals', encryptBody({ purpose: 'Notes' }), 'purpose', label],
    ['a purpose with a line feed at its end', encryptBody({ purpose: 'notes\n' }), 'purpose', label],
    ['a purpose of 65 characters', encryptBody({ purpose: 'a'.repeat(65) }), 'purpose', label],
    ['an empty scope', encryptBody({ scope: '' }), 'scope', label],
    ['a scope of null', encryptBody({ scope: null }), 'scope', 'must be of type string'],
    ['the scope *', encryptBody({ scope: '*' }), 'scope', label],
    [
      'a long resource id',
      encryptBody({ resourceId: 'é'.repeat(513) }),
      'resourceId',
      'must be at most 1024 bytes of UTF-8',
    ],
    ['a context of null', encryptBody({ context: null }), 'context', 'must be of type record'],
    ['a context list', encryptBody({ context: [] }), 'context', 'must be of type record'],
    ['a context value of null', encryptBody({ context: { a: null } }), 'context.a', 'must be of type string'],
    ['17 context pairs', encryptBody({ context: pairs(17) }), 'context', contextRule],
    ['an empty context name', encryptBody({ context: { '': 'x' } }), 'context', contextRule],
    ['8,193 context bytes', encryptBody({ context: { a: 'é'.repeat(4_096) } }), 'context', contextRule],
  ])('%s', async (_name, body, path, rule) => {
    await expectRefusal(['POST', ENCRYPT, { body }], 400, 'REQUEST_INVALID', { path, rule });
  });

  test('no value of the request is in the answer', async () => {
    const body = encryptBody({
      purpose: 'CANARY',
      scope: 'CANARY',
      context: { a: 1, 'CANARY-1': 2 },
      'CANARY x': 1,
    });
    const { text, status } = await http.send('POST', ENCRYPT, { token, body });
    expect(status).toBe(400);
    expect(text).not.toContain('CANARY');
  });

  test('limits themselves are allowed', async () => {
    const context = { ...pairs(15), b: 'x'.repeat(8_192 - 15 - 1 - pairNames(15)) };
    const json = { plaintext: '', purpose: 'a'.repeat(64), resourceId: 'é'.repeat(512), context };
    expect((await http.send('POST', ENCRYPT, { token, json })).status).toBe(200);
  });

  function pairNames(n: number): number {
    return Object.keys(pairs(n)).join('').length;
  }

  test.each<[string, unknown, string, string]>([
    ['no items', { items: [] }, 'items', 'must be at least 1'],
    ['257 items', { items: batch(257) }, 'items', 'must be at most 256'],
    ['equal references', { items: [...batch(1), ...batch(1)] }, 'items', 'references must differ'],
    [
      'an item without reference',
      { items: [{ plaintext: '', purpose: 'a' }] },
      'items.0.reference',
      'must be of type string',
    ],
    [
      'a long reference',
      { items: [{ ...batch(1)[0], reference: 'r'.repeat(129) }] },
      'items.0.reference',
      'must be at most 128',
    ],
  ])('a batch with %s', async (_name, json, path, rule) => {
    await expectRefusal(['POST', `${ENCRYPT}/batch`, { json }], 400, 'REQUEST_INVALID', { path, rule });
  });

  function batch(n: number) {
    return Array.from({ length: n }, (_, i) => ({ reference: `r${i}`, plaintext: '', purpose: 'a' }));
  }

  test('an envelope that is none', async () => {
    await expectRefusal(
      ['POST', DECRYPT, { json: { envelope: 'QUJD', purpose: 'a' } }],
      400,
      'ENVELOPE_MALFORMED',
    );
  });

  test('a body where none belongs', async () => {
    const raw = await http.raw(
      `${head('GET', `/v1/tenants/${OWN}`, ['Connection: close', 'Content-Length: 2'])}{}`,
    );
    expect(raw).toMatch(/^HTTP\/1\.1 400 /);
    expect(http.services.calls).toEqual([]);
  });

  test.each(['?a=1', '?'])('the query %s where none belongs', async (query) => {
    const reply = await http.send('GET', `/v1/tenants/${OWN}${query}`, { token });
    expect(reply.status).toBe(query === '?' ? 200 : 400);
  });

  test.each([
    'from=-1',
    'from=01',
    'from=1e3',
    'limit=0',
    'limit=1001',
    'from=1&from=2',
    'x=1',
    '__proto__=1',
    'from=%00',
  ])('the log query %s', async (query) => {
    await expectRefusal(['GET', `/v1/tenants/${OWN}/log?${query}`, {}], 400, 'REQUEST_INVALID');
  });

  test.each([
    'entries?to=-1',
    'entries?from=9007199254740993000',
    'entries?limit=1001',
    'entries?typ=',
    'entries?typ=%27',
    'entries?out=fine',
    'entries?key=x',
    'entries?actor=prn_1',
    'entries?key=a&key=b',
    'entries?order=desc',
    'consistency',
    'consistency?from=1&to=01',
    'checkpoint?at=1',
    'vkey?x=1',
    'tile/0/000?x=1',
    `entries/${EVENT_ID}/proof?format=spicy`,
  ])('the log request %s', async (request) => {
    await expectRefusal(['GET', `/v1/tenants/${OWN}/log/${request}`, {}], 400, 'REQUEST_INVALID');
  });

  test.each<[string, unknown, string]>([
    ['a service key without purposes', { name: 'a', role: 'service' }, 'purposes'],
    ['* beside others', { name: 'a', role: 'service', purposes: ['*', 'a'] }, 'purposes'],
    ['a purpose of our own', { name: 'a', role: 'service', purposes: ['~x'] }, 'purposes'],
    ['no scope at all', { name: 'a', role: 'auditor', scopes: [] }, 'scopes'],
    ['equal scopes', { name: 'a', role: 'auditor', scopes: ['a', 'a'] }, 'scopes'],
    ['the role operator', { name: 'a', role: 'operator' }, 'role'],
    ['a date that is none', { name: 'a', role: 'auditor', expiresAt: 'soon' }, 'expiresAt'],
    ['a control character in the name', { name: 'a\u0007', role: 'auditor' }, 'name'],
  ])('an API key with %s', async (_name, json, path) => {
    const reply = await http.send('POST', `/v1/tenants/${OWN}/api-keys`, { token, json });
    expect(reply.status).toBe(400);
    expect((reply.json.errors as { path: string }[]).map((one) => one.path)).toContain(path);
    expect(http.services.calls).toEqual([]);
  });
});

describe('media types', () => {
  test.each<[string, Record<string, string>]>([
    ['a form', { 'content-type': 'application/x-www-form-urlencoded' }],
    ['text', { 'content-type': 'text/plain' }],
    ['a longer name', { 'content-type': 'application/json5' }],
    ['another charset', { 'content-type': 'application/json; charset=utf-16' }],
    ['gzip', { 'content-encoding': 'gzip' }],
    ['identity', { 'content-encoding': 'identity' }],
  ])('%s is refused', async (_name, headers) => {
    await expectRefusal(['POST', ENCRYPT, { body: encryptBody({}), headers }], 415, 'UNSUPPORTED_MEDIA_TYPE');
  });

  test.each(['application/json; charset=utf-8', 'Application/JSON;charset="UTF-8"'])(
    '%s is accepted',
    async (type) => {
      const reply = await http.send('POST', ENCRYPT, {
        token,
        body: encryptBody({}),
        headers: { 'content-type': type },
      });
      expect(reply.status).toBe(200);
    },
  );
});

function head(method: string, path: string, headers: readonly string[], bearer = token): string {
  return [
    `${method} ${path} HTTP/1.1`,
    'Host: x',
    `Authorization: Bearer ${bearer}`,
    ...headers,
    '',
    '',
  ].join('\r\n');
}
/** What follows may be the server's words on closing. */
function firstHead(raw: string): string {
  return raw.slice(0, raw.indexOf('\r\n\r\n') + 2);
}
const JSON_TYPE = 'Content-Type: application/json';

describe('sizes', () => {
  test('a declared body of 10 MB is refused before it is sent', async () => {
    const raw = await http.raw(head('POST', ENCRYPT, [JSON_TYPE, 'Content-Length: 10000000']));
    expect(raw).toMatch(/^HTTP\/1\.1 413 .*\r\nContent-Type: application\/problem\+json/);
    expect(firstHead(raw)).toMatch(/\r\nConnection: close\r\n/);
    expect(raw).toContain('"code":"REQUEST_TOO_LARGE"');
    expect(http.services.calls).toEqual([]);
  });

  test('a client that sends 10 MB anyway still gets the answer', async () => {
    const body = `{"plaintext":"${'A'.repeat(10_000_000)}"}`;
    await expectRefusal(['POST', ENCRYPT, { body }], 413, 'REQUEST_TOO_LARGE');
  });

  test('a chunked body is refused where it passes the limit', async () => {
    const chunk = `${(65_536).toString(16)}\r\n${' '.repeat(65_536)}\r\n`;
    const raw = await http.raw(head('POST', ENCRYPT, [JSON_TYPE, 'Transfer-Encoding: chunked']), (write) => {
      for (let i = 0; i < 20; i++) write(chunk);
    });
    expect(raw).toMatch(/^HTTP\/1\.1 413 /);
    expect(firstHead(raw)).toMatch(/\r\nConnection: close\r\n/);
  });

  test('a chunked body within the limit is read', async () => {
    const body = encryptBody({});
    const parts = [...body].map((c) => `1\r\n${c}\r\n`).join('');
    const raw = await http.raw(
      `${head('POST', ENCRYPT, [JSON_TYPE, 'Connection: close', 'Transfer-Encoding: chunked'])}${parts}0\r\n\r\n`,
    );
    expect(raw).toMatch(/^HTTP\/1\.1 200 /);
  });

  test('exactly 1 MiB is read, one byte more is not', async () => {
    const fill = (bytes: number) => encryptBody({}).padEnd(bytes, ' ');
    expect((await http.send('POST', ENCRYPT, { token, body: fill(1_048_576) })).status).toBe(200);
    http.services.calls.length = 0;
    await expectRefusal(['POST', ENCRYPT, { body: fill(1_048_577) }], 413, 'REQUEST_TOO_LARGE');
  });

  test('bodies that hold too much together are refused, and the room comes back', async () => {
    const small = await listen({ limits: { heldBytes: 1_000 } });
    const service = small.services.addPrincipal('service', OWN);
    const ask = (bytes: number) =>
      small.send('POST', ENCRYPT, { token: service, body: encryptBody({}).padEnd(bytes, ' ') });
    for (let i = 0; i < 3; i++) {
      const refused = await ask(1_001);
      expect([refused.status, refused.json.code]).toEqual([503, 'OVERLOADED']);
      expect((await ask(1_000)).status).toBe(200);
    }
    await small.server.stop(1_000);
  });

  test('headers of more than 16 KiB are refused', async () => {
    const raw = await http.raw(head('GET', '/health', [`X: ${'a'.repeat(17_000)}`]));
    expect(raw).toMatch(/^HTTP\/1\.1 431 /);
  });

  test('both a length and chunks, or two lengths, are refused', async () => {
    for (const extra of ['Transfer-Encoding: chunked', 'Content-Length: 6']) {
      const raw = await http.raw(
        `${head('POST', ENCRYPT, [JSON_TYPE, 'Content-Length: 5', extra])}0\r\n\r\n`,
      );
      expect(raw).toMatch(/^HTTP\/1\.1 400 /);
    }
    expect(http.services.calls).toEqual([]);
  });
});

describe('slow and broken clients', () => {
  let impatient: Listening;
  beforeAll(async () => {
    impatient = await listen({ limits: { requestMs: 300, headersMs: 200, checkMs: 50 } });
  });
  afterAll(() => impatient.server.stop(1_000));

  test('headers that do not end in time', async () => {
    expect(await impatient.raw('GET /health HTTP/1.1\r\nHost: x\r\n')).toMatch(/^HTTP\/1\.1 408 /);
  });

  test('a body that does not end in time', async () => {
    const raw = await impatient.raw(`${head('POST', ENCRYPT, [JSON_TYPE, 'Content-Length: 100'])}{"pl`);
    expect(raw).toMatch(/^HTTP\/1\.1 408 /);
    expect(impatient.services.calls).toEqual([]);
    expect(impatient.services.failures).toEqual([]);
  });

  test('a request line that is none', async () => {
    expect(await http.raw('hello\r\n\r\n')).toMatch(/^HTTP\/1\.1 400 /);
  });

  test('a connection serves on after a refusal whose body it reads', async () => {
    const bad = `${head('POST', ENCRYPT, [JSON_TYPE, 'Content-Length: 3'])}{,}`;
    const wrongToken = `${head('POST', ENCRYPT, [JSON_TYPE, 'Content-Length: 3'], 'x')}{,}`;
    const raw = await http.raw(bad + wrongToken + head('GET', '/health', ['Connection: close']));
    expect([...raw.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status)).toEqual(['400', '401', '200']);
  });
});

describe('tokens', () => {
  const valid = mintToken().token;
  const forms: [string, string[]][] = [
    ['no header', []],
    ['an empty one', ['Authorization: ']],
    ['another scheme', [`Authorization: Basic ${valid}`]],
    ['no scheme', [`Authorization: ${valid}`]],
    ['two spaces', [`Authorization: Bearer  ${valid} x`]],
    ['a short one', [`Authorization: Bearer ${valid.slice(1)}`]],
    ['a wrong checksum', [`Authorization: Bearer ${valid.slice(0, -7)}aaaaaaa`]],
    ['capitals', [`Authorization: Bearer ${valid.toUpperCase()}`]],
    ['a comma and another', [`Authorization: Bearer ${valid}, Bearer ${valid}`]],
    ['two headers', [`Authorization: Bearer ${valid}`, `authorization: Bearer ${valid}`]],
    ['an invitation', [`Authorization: Bearer ${mintToken('invitation').token}`]],
    ['a very long one', [`Authorization: Bearer ktt_${'a'.repeat(10_000)}`]],
    ['bytes above ASCII', [`Authorization: Bearer ktt_\u00e9${valid.slice(5)}`]],
  ];

  test.each(forms)('%s', async (_name, headers) => {
    const before = http.services.unauthenticated;
    const lines = [`GET /v1/tenants/${OWN} HTTP/1.1`, 'Host: x', 'Connection: close', ...headers, '', ''];
    const raw = await http.raw(Buffer.from(lines.join('\r\n'), 'latin1'));
    expect(raw).toMatch(/^HTTP\/1\.1 401 /);
    expect(raw).toMatch(/\r\nWWW-Authenticate: Bearer\r\n/);
    expect(raw).toContain('"code":"UNAUTHENTICATED"');
    expect(http.services.unauthenticated).toBe(before + 1);
    expect(http.services.calls).toEqual([]);
  });

  test.each(['\r\nX-Injected: 1', '\n\rSet-Cookie: a=b', '\0'])(
    'a token followed by %j puts nothing into the answer',
    async (tail) => {
      const lines = `GET /v1/tenants/${OWN} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer x${tail}\r\n\r\n`;
      const raw = await http.raw(lines);
      expect(raw).toMatch(/^HTTP\/1\.1 40[01] /);
      expect(raw).not.toMatch(/injected|cookie/i);
      expect(http.services.calls).toEqual([]);
    },
  );

  test('a token is looked at before the body', async () => {
    const reply = await http.send('POST', ENCRYPT, { body: '{{{' });
    expect(reply.status).toBe(401);
  });
});

describe('methods and paths', () => {
  const tenant = OWN;
  test.each([
    ['HEAD', '/health', 405, 'GET'],
    ['OPTIONS', '/health', 405, 'GET'],
    ['PUT', ENCRYPT, 405, 'POST'],
    ['GET', ENCRYPT, 405, 'POST'],
    ['OPTIONS', ENCRYPT, 405, 'POST'],
    ['DELETE', '/v1/tenants', 405, 'POST, GET'],
    ['HEAD', `/v1/tenants/${tenant}`, 405, 'GET'],
  ])('%s %s is %d', async (method, path, status, allow) => {
    const reply = await http.send(method, path, { token });
    expect([reply.status, reply.headers.get('allow')]).toEqual([status, allow]);
    expect(http.services.calls).toEqual([]);
  });

  test.each([
    '/',
    '/v1',
    '/v2/tenants',
    '/Health',
    '/health/',
    '//health',
    `/v1/tenants/${tenant}/`,
    `/V1/tenants/${tenant}`,
    `/v1/tenants//${tenant}`,
    `/v1/tenants/${tenant.replace('ten_', 'ten%5F')}`,
    `/v1/tenants/${tenant}%00`,
    `/v1/tenants/${tenant}%20`,
    `/v1/tenants/x%2F..%2F${tenant}`,
    `/v1/tenants/%ZZ`,
    `/v1/tenants/${tenant.toUpperCase()}`,
    `/v1/tenants/${tenant};a=b`,
    `/v1/tenants/${tenant}/log/`,
    `/v1/tenants/${tenant}/log/tile`,
    `/v1/tenants/${tenant}/log/tile/`,
    `/v1/tenants/${tenant}/log/tile/0`,
    `/v1/tenants/${tenant}/log/tile/0/0`,
    `/v1/tenants/${tenant}/log/tile/0/000/`,
    `/v1/tenants/${tenant}/log/tile/00/000`,
    `/v1/tenants/${tenant}/log/tile/64/000`,
    `/v1/tenants/${tenant}/log/tile/0/x000/000`,
    `/v1/tenants/${tenant}/log/tile/0/000.p/0`,
    `/v1/tenants/${tenant}/log/tile/0/000.p/256`,
    `/v1/tenants/${tenant}/log/tile/0/000%2Ep/1`,
    `/v1/tenants/${tenant}/log/tile/0/%ZZ`,
    `/v1/tenants/${tenant}/log/tile/x/000`,
    `/v1/tenants/${tenant}/log/tile/../checkpoint`,
    `/v1/tenants/${tenant}/log/checkpoint/`,
    `/v1/tenants/${tenant}/log/entries/${EVENT_ID.toUpperCase()}/proof`,
    `/v1/tenants/${tenant}/log/entries/${EVENT_ID.slice(1)}/proof`,
    `/v1/tenants/${tenant}/log/entries/prn_${'a'.repeat(26)}/proof`,
    `/v1/tenants/${tenant}/log/entries//proof`,
    `/v1/tenants/${tenant}/api-keys/prn_%2e%2e`,
    '/docs/swagger-ui.js',
    '/docs/..%2fpackage.json',
    '/docs/package.json',
    '/.env',
  ])('GET %s is 404', async (path) => {
    const raw = await http.raw(head('GET', path, ['Connection: close']));
    expect(raw).toMatch(/^HTTP\/1\.1 (404|405) /);
    expect(raw).toContain(path.includes('api-keys') ? '"METHOD_NOT_ALLOWED"' : '"NOT_FOUND"');
    expect(http.services.calls).toEqual([]);
  });

  test.each([
    DECRYPT.replace('ten_', 'ten%5F'),
    DECRYPT.replace('/v1/', '/v1/./'),
    `${DECRYPT}/`,
    DECRYPT.replace('decrypt', 'Decrypt'),
    `/v1/tenants/${'/'.repeat(30)}/decrypt`,
    `/v1/tenants/ten_${'%'.repeat(26)}/decrypt`,
  ])('POST %s is 404', async (path) => {
    const raw = await http.raw(head('POST', path, ['Connection: close', 'Content-Length: 0']));
    expect(raw).toMatch(/^HTTP\/1\.1 404 /);
    expect(http.services.calls).toEqual([]);
  });
});
