import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { ERRORS, type ErrorCode } from '../../src/errors.ts';
import { codesOf, describeApi } from '../../src/http/openapi.ts';
import { ROUTES } from '../../src/http/routes/index.ts';
import { type Listening, listen } from './listen.ts';

interface Operation {
  operationId: string;
  summary: string;
  security: unknown[];
  parameters: { name: string; in: string }[];
  requestBody?: {
    required: boolean;
    content: Record<string, { schema: { additionalProperties?: boolean } }>;
  };
  responses: Record<string, { description: string; content?: Record<string, unknown> }>;
}

/** As served: what JSON cannot carry is gone. */
const api = JSON.parse(JSON.stringify(describeApi(ROUTES))) as {
  openapi: string;
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: { Problem: { properties: { code: { enum: string[] } } } } };
};

function operationOf(path: string, method: string): Operation {
  const found = api.paths[path]?.[method.toLowerCase()];
  if (found === undefined) throw new Error(`${method} ${path} is not described`);
  return found;
}

describe('the description', () => {
  test('has exactly the routes of the table', () => {
    const described = Object.entries(api.paths).flatMap(([path, item]) =>
      Object.keys(item).map((method) => `${method.toUpperCase()} ${path}`),
    );
    expect(api.openapi).toMatch(/^3\.1\./);
    expect(described.sort()).toEqual(ROUTES.map((one) => `${one.method} ${one.path}`).sort());
  });

  test('operation ids differ', () => {
    const ids = ROUTES.map((one) => operationOf(one.path, one.method).operationId);
    expect(new Set(ids).size).toBe(ids.length);
  });

  test.each(ROUTES.map((one) => [`${one.method} ${one.path}`, one] as const))(
    '%s is complete',
    (_name, one) => {
      const operation = operationOf(one.path, one.method);
      const inPath = operation.parameters
        .filter((parameter) => parameter.in === 'path')
        .map(({ name }) => name);
      expect(inPath).toEqual([...one.path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name));
      expect(operation.security).toEqual(one.action === 'anyone' ? [] : [{ apiKey: [] }]);
      const body = operation.requestBody?.content['application/json']?.schema;
      expect(body === undefined).toBe(one.request === undefined);
      if (body !== undefined) expect(body.additionalProperties).toBe(false);
      expect(operation.responses[one.status]).toBeDefined();
      for (const code of codesOf(one)) {
        expect(operation.responses[ERRORS[code].status]?.description).toContain(`\`${code}\``);
      }
    },
  );

  test('every error code is described, and every one but METHOD_NOT_ALLOWED belongs to a route', () => {
    expect(api.components.schemas.Problem.properties.code.enum).toEqual(Object.keys(ERRORS));
    const used = new Set(ROUTES.flatMap((one) => codesOf(one)));
    const unused = (Object.keys(ERRORS) as ErrorCode[]).filter((code) => !used.has(code));
    expect(unused).toEqual(['METHOD_NOT_ALLOWED']);
  });

  test('every reference leads somewhere', () => {
    const references = JSON.stringify(api).match(/"\$ref":"[^"]*"/g) ?? [];
    expect(references.length).toBeGreaterThan(0);
    for (const reference of references) {
      const path = reference.slice(8, -1).split('/').slice(1);
      const target = path.reduce<unknown>((at, part) => (at as Record<string, unknown>)?.[part], api);
      expect([reference, target === undefined]).toEqual([reference, false]);
    }
  });
});

describe('the pages', () => {
  let http: Listening;
  beforeAll(async () => {
    http = await listen();
  });
  afterAll(() => http.server.stop(1_000));

  test('/openapi.json is the description', async () => {
    expect((await http.send('GET', '/openapi.json')).json).toEqual(api);
  });

  test('/docs loads from this origin only, under a policy that allows nothing else', async () => {
    const page = await http.send('GET', '/docs');
    const policy = page.headers.get('content-security-policy') ?? '';
    expect(policy).toContain("default-src 'none'");
    expect(policy).toContain("script-src 'self'; style-src 'self';");
    expect(policy).toContain("connect-src 'self'");
    expect(policy).toContain("frame-ancestors 'none'");
    expect(policy).not.toMatch(/https?:|unsafe-eval|\*/);
    const links = [...page.text.matchAll(/(?:src|href)="([^"]*)"/g)].map(([, link]) => link ?? '');
    expect(links).toHaveLength(4);
    for (const link of links.filter((one) => one !== 'data:,')) {
      expect(link).toMatch(/^\/docs\//);
      expect((await http.send('GET', link)).status).toBe(200);
    }
    expect(page.text).not.toMatch(/<script>|onload=/);
  });

  test('the start script of the page loads our description and no validator', async () => {
    const script = await http.send('GET', '/docs/start.js');
    expect(script.text).toContain("url: '/openapi.json'");
    expect(script.text).toContain('validatorUrl: null');
    expect(script.text).not.toMatch(/https?:/);
  });

  test.each(['/docs', '/docs/start.js', '/docs/swagger-ui.css', '/openapi.json', '/health', '/nowhere'])(
    '%s has the security headers and does not name its maker',
    async (path) => {
      const { headers } = await http.send('GET', path);
      expect(headers.get('x-content-type-options')).toBe('nosniff');
      expect(headers.get('referrer-policy')).toBe('no-referrer');
      expect(headers.get('content-security-policy')).toContain("frame-ancestors 'none'");
      expect(headers.get('cache-control')).toBe('no-store');
      expect(headers.get('x-powered-by')).toBeNull();
      expect(headers.get('server')).toBeNull();
      expect(headers.get('access-control-allow-origin')).toBeNull();
    },
  );
});
