/** The API description (OpenAPI 3.1), made from the very schemas that check requests. */
import { z } from 'zod';
import { HEADER } from '../brand.ts';
import { ERRORS, type ErrorCode } from '../errors.ts';
import { rolesOf } from '../service/authorize.ts';
import type { Route } from './route.ts';

type Json = Record<string, unknown>;

const ANY_ROUTE: readonly ErrorCode[] = ['REQUEST_INVALID', 'SHUTTING_DOWN', 'INTERNAL'];
const WITH_BODY: readonly ErrorCode[] = ['REQUEST_TOO_LARGE', 'UNSUPPORTED_MEDIA_TYPE'];
const WITH_PRINCIPAL: readonly ErrorCode[] = [
  'UNAUTHENTICATED',
  'FORBIDDEN',
  'TENANT_SUSPENDED',
  'STORE_UNAVAILABLE',
  'RECORD_KEY_UNAVAILABLE',
  'KEY_RECORD_TAMPERED',
  'OVERLOADED',
  'DEADLINE_EXCEEDED',
  'LOG_UNAVAILABLE',
];

/** Every code that a route can answer with. */
export function codesOf(route: Route): readonly ErrorCode[] {
  const codes = new Set<ErrorCode>([...ANY_ROUTE, ...route.codes]);
  if (route.request !== undefined) for (const code of WITH_BODY) codes.add(code);
  if (route.action !== 'anyone') for (const code of WITH_PRINCIPAL) codes.add(code);
  if (route.path.includes('{')) codes.add('NOT_FOUND');
  return [...codes];
}

export function describeApi(routes: readonly Route[]): Json {
  const paths: Record<string, Json> = {};
  for (const route of routes) {
    paths[route.path] = { ...paths[route.path], [route.method.toLowerCase()]: operation(route) };
  }
  return {
    openapi: '3.1.1',
    info: {
      title: 'Keytether',
      version: '1',
      description:
        'Encrypts and decrypts under keys that only the customer’s own KMS can unwrap. Every use waits for an answer of that KMS ' +
        'that was asked for after the request arrived, and is logged before it is answered.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/' }],
    paths,
    components: {
      schemas: { Problem: problemSchema() },
      securitySchemes: { apiKey: { type: 'http', scheme: 'bearer', description: 'An API key, `ktt_…`.' } },
    },
  };
}

function operation(route: Route): Json {
  const anyone = route.action === 'anyone';
  const access =
    route.action === 'anyone' ? 'Open to anyone.' : `Roles: ${rolesOf(route.action).join(', ')}.`;
  return {
    operationId: operationId(route),
    summary: route.summary,
    description: access,
    tags: [tagOf(route)],
    security: anyone ? [] : [{ apiKey: [] }],
    parameters: [...pathParameters(route), ...queryParameters(route)],
    ...(route.request === undefined
      ? {}
      : { requestBody: { required: !isOptional(route.request), content: json(input(route.request)) } }),
    responses: { ...success(route), ...failures(codesOf(route)) },
  };
}

function operationId(route: Route): string {
  const words = route.path.replace('/v1', '').replaceAll(/[{}]/g, '').split(/[/-]/).filter(Boolean);
  return [route.method.toLowerCase(), ...words].join('_');
}

function tagOf(route: Route): string {
  const words = route.path.split('/').filter((part) => part !== '' && part !== 'v1' && !part.startsWith('{'));
  if (words[0] !== 'tenants') return words[0] ?? '';
  const [, noun = 'tenants'] = words;
  if (noun === 'encrypt' || noun === 'decrypt') return 'envelopes';
  return noun === 'suspend' || noun === 'resume' ? 'tenants' : noun;
}

function pathParameters(route: Route): Json[] {
  return [...route.path.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({
    name,
    in: 'path',
    required: true,
    schema: { type: 'string' },
  }));
}

function queryParameters(route: Route): Json[] {
  if (route.query === undefined) return [];
  const { properties = {}, required = [] } = input(route.query) as {
    properties?: Record<string, Json>;
    required?: string[];
  };
  return Object.entries(properties).map(([name, schema]) => ({
    name,
    in: 'query',
    required: required.includes(name),
    schema,
  }));
}

function success(route: Route): Json {
  const headers = {
    [HEADER.requestId]: { schema: { type: 'string' }, description: 'Name it when you report something.' },
  };
  if (route.media !== undefined) {
    const content = { [route.media]: { schema: { type: 'string' } } };
    return { [route.status]: { description: 'Done.', headers, content } };
  }
  if (route.response === undefined) return { [route.status]: { description: 'Done.', headers } };
  return { [route.status]: { description: 'Done.', headers, content: json(output(route.response)) } };
}

/** One response for each status, which lists its codes. */
function failures(codes: readonly ErrorCode[]): Json {
  const byStatus = Map.groupBy(codes, (code) => ERRORS[code].status);
  const entries = [...byStatus].map(([status, list]) => [
    status,
    {
      description: list.map((code) => `\`${code}\`: ${ERRORS[code].title}`).join('\n\n'),
      content: {
        'application/problem+json': {
          schema: {
            allOf: [
              { $ref: '#/components/schemas/Problem' },
              { type: 'object', properties: { code: { enum: list } } },
            ],
          },
        },
      },
    },
  ]);
  return Object.fromEntries(entries);
}

function problemSchema(): Json {
  const codes = Object.entries(ERRORS).map(
    ([code, row]) => `- \`${code}\` (${row.status}): ${row.title} ${row.action}`,
  );
  const fieldError = z.object({ path: z.string(), rule: z.string() });
  const schema = z.object({
    type: z.string(),
    title: z.string(),
    status: z.int(),
    code: z.enum(Object.keys(ERRORS)).meta({ description: codes.join('\n') }),
    retryable: z.boolean(),
    fault: z.enum(['caller', 'customer', 'provider', 'platform']),
    action: z.string().meta({ description: 'What to do next.' }),
    requestId: z.string(),
    errors: z.array(fieldError).optional(),
  });
  return {
    ...output(schema),
    description: 'Problem details, RFC 9457. Branch on `code`: it is stable for ever.',
  };
}

function json(schema: Json): Json {
  return { 'application/json': { schema } };
}

function input(schema: z.ZodType): Json {
  return plain(z.toJSONSchema(schema, { io: 'input' }));
}

function output(schema: z.ZodType): Json {
  return plain(z.toJSONSchema(schema, { io: 'output' }));
}

/** OpenAPI 3.1 takes JSON Schema 2020-12 as it is; the dialect is named once for all. */
function plain({ $schema: _dialect, ...schema }: Json): Json {
  return schema;
}

function isOptional(schema: z.ZodType): boolean {
  return schema.safeParse({}).success;
}
