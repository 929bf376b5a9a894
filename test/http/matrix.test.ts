/**
 * Role × route × tenant, over HTTP. The expectations are written here by hand and share nothing with the code's own table;
 * every route of the table must have a row, and every row a route.
 */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { ROUTES } from '../../src/http/routes/index.ts';
import { mintToken } from '../../src/service/token.ts';
import { EVENT_ID, KEY_ID, OTHER, OWN, UNKNOWN } from './fake-services.ts';
import { type Listening, listen } from './listen.ts';
import { RECONCILED } from './reconciled.ts';

const CALLERS = ['operator', 'tenant-admin', 'service', 'auditor', 'nobody'] as const;
type Caller = (typeof CALLERS)[number];
const TENANTS = { own: OWN, other: OTHER, unknown: UNKNOWN };

/** Statuses for the tenants own, other and unknown. `own` is an existing tenant for the operator, who has none. */
type Row = Record<Caller, string>;

const OPERATOR_ONLY: Row = row('201', '403', '403', '403');
const ADMIN_WRITES: Row = row('403 403 403', '201 404 404', '403 404 404', '403 404 404');
const ADMIN_ACTS: Row = row('403 403 403', '200 404 404', '403 404 404', '403 404 404');
const READERS_WRITE: Row = row('403 403 403', '201 404 404', '403 404 404', '201 404 404');
const READERS: Row = row('403 403 403', '200 404 404', '403 404 404', '200 404 404');
const SERVICES: Row = row('403 403 403', '403 404 404', '200 404 404', '403 404 404');
const OPERATOR_ACTS: Row = row('200 200 404', '403 404 404', '403 404 404', '403 404 404');

const EXPECTED: Record<string, Row> = {
  'GET /health': { ...row('200', '200', '200', '200'), nobody: '200' },
  'GET /ready': { ...row('200', '200', '200', '200'), nobody: '200' },
  'POST /v1/tenants': OPERATOR_ONLY,
  'GET /v1/tenants': row('200', '403', '403', '403'),
  'GET /v1/tenants/{tenant}': row('200 200 404', '200 404 404', '200 404 404', '200 404 404'),
  'POST /v1/tenants/{tenant}/suspend': OPERATOR_ACTS,
  'POST /v1/tenants/{tenant}/resume': OPERATOR_ACTS,
  'POST /v1/tenants/{tenant}/invitations': row('201 201 404', '403 404 404', '403 404 404', '403 404 404'),
  'POST /v1/invitations/redeem': { ...row('401', '401', '401', '401'), nobody: '401' },
  'POST /v1/tenants/{tenant}/api-keys': ADMIN_WRITES,
  'GET /v1/tenants/{tenant}/api-keys': ADMIN_ACTS,
  'DELETE /v1/tenants/{tenant}/api-keys/{id}': row(
    '403 403 403',
    '204 404 404',
    '403 404 404',
    '403 404 404',
  ),
  'POST /v1/tenants/{tenant}/customer-keys': ADMIN_WRITES,
  'GET /v1/tenants/{tenant}/customer-keys': READERS,
  'GET /v1/tenants/{tenant}/customer-keys/{id}': READERS,
  'POST /v1/tenants/{tenant}/customer-keys/{id}/verify': ADMIN_ACTS,
  'POST /v1/tenants/{tenant}/customer-keys/{id}/activate': ADMIN_ACTS,
  'POST /v1/tenants/{tenant}/customer-keys/{id}/disable': ADMIN_ACTS,
  'POST /v1/tenants/{tenant}/encrypt': SERVICES,
  'POST /v1/tenants/{tenant}/decrypt': SERVICES,
  'POST /v1/tenants/{tenant}/encrypt/batch': SERVICES,
  'POST /v1/tenants/{tenant}/decrypt/batch': SERVICES,
  'GET /v1/tenants/{tenant}/log': READERS,
  'POST /v1/tenants/{tenant}/log/reconciliations': READERS_WRITE,
  'GET /v1/tenants/{tenant}/log/entries': READERS,
  'GET /v1/tenants/{tenant}/log/entries/{eid}/proof': READERS,
  'GET /v1/tenants/{tenant}/log/checkpoint': READERS,
  'GET /v1/tenants/{tenant}/log/vkey': READERS,
  'GET /v1/tenants/{tenant}/log/tile/{tile}': READERS,
  'GET /v1/tenants/{tenant}/log/consistency': READERS,
};

/** What stays possible while the tenant is suspended, for the roles that may do it at all. */
const WHILE_SUSPENDED = new Set([
  'GET /v1/tenants/{tenant}',
  'GET /v1/tenants/{tenant}/api-keys',
  'DELETE /v1/tenants/{tenant}/api-keys/{id}',
  'GET /v1/tenants/{tenant}/customer-keys',
  'GET /v1/tenants/{tenant}/customer-keys/{id}',
  'POST /v1/tenants/{tenant}/customer-keys/{id}/disable',
  'GET /v1/tenants/{tenant}/log',
  'POST /v1/tenants/{tenant}/log/reconciliations',
  'GET /v1/tenants/{tenant}/log/entries',
  'GET /v1/tenants/{tenant}/log/entries/{eid}/proof',
  'GET /v1/tenants/{tenant}/log/checkpoint',
  'GET /v1/tenants/{tenant}/log/vkey',
  'GET /v1/tenants/{tenant}/log/tile/{tile}',
  'GET /v1/tenants/{tenant}/log/consistency',
]);

const ENVELOPE = Buffer.from('8e4b544d00', 'hex').toString('base64');
const BODIES: Record<string, unknown> = {
  'POST /v1/tenants': { name: 'New tenant' },
  'POST /v1/invitations/redeem': { invitation: mintToken('api-key').token, name: 'Admin' },
  'POST /v1/tenants/{tenant}/api-keys': { name: 'app', role: 'service', purposes: ['*'] },
  'POST /v1/tenants/{tenant}/customer-keys': { provider: 'local', keyRef: 'k', access: {} },
  'POST /v1/tenants/{tenant}/encrypt': { plaintext: '', purpose: 'notes' },
  'POST /v1/tenants/{tenant}/decrypt': { envelope: ENVELOPE, purpose: 'notes' },
  'POST /v1/tenants/{tenant}/encrypt/batch': { items: [{ reference: 'a', plaintext: '', purpose: 'notes' }] },
  'POST /v1/tenants/{tenant}/decrypt/batch': {
    items: [{ reference: 'a', envelope: ENVELOPE, purpose: 'notes' }],
  },
  'POST /v1/tenants/{tenant}/log/reconciliations': RECONCILED,
};
const QUERIES: Record<string, string> = { 'GET /v1/tenants/{tenant}/log/consistency': '?from=1' };
const CODE: Record<string, string> = { 401: 'UNAUTHENTICATED', 403: 'FORBIDDEN', 404: 'NOT_FOUND' };

function row(operator: string, admin: string, service: string, auditor: string): Row {
  return { operator, 'tenant-admin': admin, service, auditor, nobody: '401' };
}

/** The statuses of a cell for each tenant; a path without a tenant has one. */
function spread(path: string, cell: string): [string, number][] {
  const statuses = cell.split(' ').map(Number);
  const names = path.includes('{tenant}') ? Object.values(TENANTS) : [''];
  return names.map((tenant, i) => [tenant, statuses[statuses.length === 1 ? 0 : i] ?? 0]);
}

const CELLS = Object.entries(EXPECTED).flatMap(([key, cells]) =>
  CALLERS.flatMap((caller) =>
    spread(key, cells[caller]).map(([tenant, status]) => ({ key, caller, tenant, status })),
  ),
);

let http: Listening;
let apiKeyId: string;
const tokens: Partial<Record<Caller, string>> = {};

beforeAll(async () => {
  http = await listen();
  tokens.operator = http.services.addPrincipal('operator', 'system');
  for (const role of ['tenant-admin', 'service', 'auditor'] as const) {
    tokens[role] = http.services.addPrincipal(role, OWN);
  }
  const made = await http.send('POST', `/v1/tenants/${OWN}/api-keys`, {
    token: tokens['tenant-admin'],
    json: { name: 'x', role: 'auditor' },
  });
  apiKeyId = (made.json.apiKey as { id: string }).id;
});

afterAll(() => http.server.stop(1_000));

function request(key: string, tenant: string, token: string | undefined) {
  const [method = '', template = ''] = key.split(' ');
  const id = template.includes('api-keys') ? apiKeyId : KEY_ID;
  const parts = { tenant, id, eid: EVENT_ID, tile: '0/x001/234.p/5' };
  const path = template.replaceAll(/\{(\w+)\}/g, (_, name: keyof typeof parts) => parts[name]);
  return http.send(method, path + (QUERIES[key] ?? ''), { token, json: BODIES[key] });
}

test('every route has a row of expectations, and every row a route', () => {
  expect(Object.keys(EXPECTED).sort()).toEqual(ROUTES.map((one) => `${one.method} ${one.path}`).sort());
});

test('no cell is missing', () => {
  const withTenant = ROUTES.filter((one) => one.path.includes('{tenant}')).length;
  expect(CELLS).toHaveLength(CALLERS.length * (withTenant * 3 + (ROUTES.length - withTenant)));
});

describe('the matrix', () => {
  test.each(CELLS)('$caller, $key, tenant $tenant: $status', async ({ key, caller, tenant, status }) => {
    const { services } = http;
    services.calls.length = 0;
    services.refusals.length = 0;
    const before = services.unauthenticated;
    const reply = await request(key, tenant, tokens[caller]);
    expect([reply.status, reply.json.code]).toEqual([status, CODE[status]]);

    if (status === 401) {
      expect(services.unauthenticated).toBe(before + 1);
      expect(services.calls).toEqual([]);
    }
    const byService = caller === 'operator' && status === 404;
    if ((status === 403 || status === 404) && !byService) {
      expect(services.calls).toEqual(['authenticate']);
      expect(services.refusals).toMatchObject([{ code: CODE[status], requestId: reply.json.requestId }]);
      expect(reply.headers.get('keytether-receipt')).toMatch(/^origin=".+", index=\d+, leaf="/);
    }
  });
});

describe('a suspended tenant', () => {
  const roles = ['tenant-admin', 'service', 'auditor'] as const;
  const cells = Object.keys(EXPECTED)
    .filter((key) => key.includes('{tenant}'))
    .flatMap((key) => roles.map((role) => ({ key, role })));

  test.each(cells)('$role, $key', async ({ key, role }) => {
    const token = http.services.addPrincipal(role, OWN, { tenantState: 'suspended' });
    const open = Number(EXPECTED[key]?.[role].split(' ')[0]);
    const reply = await request(key, OWN, token);
    if (open === 403) expect([reply.status, reply.json.code]).toEqual([403, 'FORBIDDEN']);
    else if (WHILE_SUSPENDED.has(key)) expect(reply.status).toBe(open);
    else expect([reply.status, reply.json.code]).toEqual([403, 'TENANT_SUSPENDED']);
  });
});

describe('scopes and purposes', () => {
  const path = `/v1/tenants/${OWN}/encrypt`;
  test.each([
    [['default'], ['notes'], {}, 200],
    [['default'], ['notes'], { scope: 'default' }, 200],
    [['default'], ['notes'], { scope: 'other' }, 403],
    [['other'], ['notes'], {}, 403],
    [['default'], ['mail'], {}, 403],
    [['default'], [], {}, 403],
    [[], ['notes'], {}, 403],
    [['*'], ['notes'], { scope: 'other' }, 200],
    [['default'], ['*'], {}, 200],
    [['default', '*'], ['notes'], { scope: 'other' }, 403],
    [['*', 'default'], ['notes'], { scope: 'other' }, 403],
  ])('scopes %j and purposes %j with %j: %d', async (scopes, purposes, more, status) => {
    const token = http.services.addPrincipal('service', OWN, { scopes, purposes });
    const reply = await http.send('POST', path, {
      token,
      json: { plaintext: '', purpose: 'notes', ...more },
    });
    expect(reply.status).toBe(status);
  });

  test('a batch with one item that is not allowed is refused as a whole', async () => {
    const token = http.services.addPrincipal('service', OWN, { scopes: ['default'], purposes: ['notes'] });
    const items = ['notes', 'mail'].map((purpose) => ({ reference: purpose, plaintext: '', purpose }));
    const reply = await http.send('POST', `${path}/batch`, { token, json: { items } });
    expect([reply.status, reply.json.code]).toEqual([403, 'FORBIDDEN']);
  });
});

test('a principal whose role and tenant do not fit each other may do nothing', async () => {
  const tenantOperator = http.services.addPrincipal('operator', OWN);
  const systemAdmin = http.services.addPrincipal('tenant-admin', 'system');
  for (const token of [tenantOperator, systemAdmin]) {
    for (const key of Object.keys(EXPECTED).filter((one) => one.includes('{tenant}'))) {
      expect((await request(key, OWN, token)).status).toBe(403);
    }
  }
});

test('foreign, unknown and malformed tenants and unknown ids get the very same answer', async () => {
  const token = tokens['tenant-admin'];
  const paths = [
    `/v1/tenants/${OTHER}/customer-keys/${KEY_ID}`,
    `/v1/tenants/${UNKNOWN}/customer-keys/${KEY_ID}`,
    `/v1/tenants/system/customer-keys/${KEY_ID}`,
    `/v1/tenants/${OWN}/customer-keys/ckey_${'z'.repeat(25)}a`,
    `/v1/tenants/${OWN}/customer-keys/nonsense`,
    `/v1/tenants/${OTHER}`,
    '/v1/nowhere',
  ];
  const answers = await Promise.all(
    paths.map(async (path) => {
      const { status, text, headers, json } = await http.send('GET', path, { token });
      // A receipt says that the caller's own log has the refusal; which tenant is his he knows.
      const own = ['date', 'keytether-request-id', 'keytether-receipt'];
      const rest = [...headers].filter(([name]) => !own.includes(name));
      return { status, text: text.replace(String(json.requestId), ''), rest };
    }),
  );
  expect(answers[0]?.status).toBe(404);
  for (const answer of answers) expect(answer).toEqual(answers[0]);
});
