/**
 * HashiCorp Vault and OpenBao: the file audit device, one JSON object a line, a request and a response entry for each call.
 *
 * Sources: Vault docs, "Audit log entry schema" and "Audit devices"; API docs "/sys/config/auditing/request-headers" and "Transit
 * secrets engine"; OpenBao docs, "Audit devices". Values are keyed hashes (`hmac-sha256:…`) unless configured otherwise: paths and ids
 * are clear, the header `x-correlation-id` only when it is set to be audited without `hmac`. Vault answers no call that no device
 * could log.
 */
import { z } from 'zod';
import { type KmsEvent, type LoggingChange, type Operation, type VendorLog, wholeId } from './event.ts';
import { eachRecord, momentOf, readRecords } from './records.ts';

const text = z.string().max(4_096);
const record = z.looseObject({
  time: z
    .string()
    .max(40)
    .refine((time) => momentOf(time) !== undefined),
  type: z.enum(['request', 'response']),
  error: z.string().nullish(),
  auth: z
    .looseObject({ entity_id: text.nullish(), display_name: text.nullish(), accessor: text.nullish() })
    .nullish(),
  request: z.looseObject({
    id: text,
    operation: text.default(''),
    path: text.default(''),
    mount_point: text.nullish(),
    mount_type: text.nullish(),
    headers: z.record(z.string(), z.unknown()).nullish(),
    data: z.record(z.string(), z.unknown()).nullish(),
  }),
});
type AuditEntry = z.infer<typeof record>;

/** `mount/verb/key`; the mount may have several parts, the key has one. */
const VERBS =
  /^(.+)\/(encrypt|decrypt|rewrap|keys|datakey\/(?:plaintext|wrapped)|sign|verify|hmac|export\/[a-z-]+|backup|byok-export\/[^/]+)\/([^/]+)(\/.*)?$/;

export const vaultLog: VendorLog = {
  vendor: 'vault',
  provider: 'vault',
  lagMs: 0,
  synchronous: true,
  denialsMayBeElsewhere: false,
  sameKey: (ours, theirs) => theirs !== '' && keyName(ours) === theirs,
  parse(input, bytes) {
    const events: KmsEvent[] = [];
    const asked: KmsEvent[] = [];
    const logging: LoggingChange[] = [];
    let unrelated = 0;
    const { malformed } = eachRecord(readRecords(input, bytes), record, (one, position) => {
      const change = loggingOf(one);
      if (change !== undefined) logging.push(change);
      const target = targetOf(one);
      if (target === undefined) {
        unrelated += 1;
        return;
      }
      const event = { ...eventOf(one, target), position };
      (one.type === 'response' ? events : asked).push(event);
    });
    // A request entry counts only where no response entry tells more of the same call.
    const answered = new Set(events.map(({ id }) => id));
    events.push(...asked.filter(({ id }) => !answered.has(id)));
    return { events, malformed, unrelated, logging };
  },
};

interface Target {
  readonly key: string;
  readonly verb: string;
  readonly rest: string;
}

/** What a path means, or undefined for anything but a key of a transit engine. */
function targetOf({ request }: AuditEntry): Target | undefined {
  if (request.mount_type && request.mount_type !== 'transit') return undefined;
  const match = VERBS.exec(request.path);
  if (match === null) return undefined;
  const [, mount = '', verb = '', name = '', rest = ''] = match;
  if (!request.mount_type && mount.startsWith('sys')) return undefined;
  return { key: `${mount}/keys/${name}`, verb, rest };
}

function eventOf(one: AuditEntry, { key, verb, rest }: Target): Omit<KmsEvent, 'position'> {
  const { request, auth } = one;
  return {
    vendor: 'vault',
    at: momentOf(one.time) ?? 0,
    id: request.id,
    cid: wholeId(header(request.headers, 'x-correlation-id')),
    rid: request.id,
    key,
    op: operationOf(request.operation, verb, rest),
    name: `${request.operation} ${request.path}`,
    principal: auth?.entity_id || auth?.display_name || auth?.accessor || undefined,
    outcome: outcomeOf(one),
    items: Array.isArray(request.data?.batch_input) ? request.data.batch_input.length : 1,
  };
}

/**
 * `<mount>/keys/<name>` of a key reference `https://host/v1/<mount>/keys/<name>`. The namespace is neither in it nor compared: the
 * same mount and name in another namespace counts as the same key, which can only alarm too much.
 */
function keyName(reference: string): string {
  return reference.replace(/^https?:\/\/[^/]*\/v1\//, '');
}

function operationOf(operation: string, verb: string, rest: string): Operation {
  if (verb === 'encrypt') return 'wrap';
  if (verb === 'decrypt') return 'unwrap';
  if (verb !== 'keys') return 'use';
  return operation === 'read' && rest === '' ? 'describe' : 'manage';
}

/** A request entry alone does not say how the call ended, unless it was refused before it ran. */
function outcomeOf({ type, error }: AuditEntry): KmsEvent['outcome'] {
  if (error) return /permission denied|invalid token|missing client token/.test(error) ? 'denied' : 'error';
  return type === 'response' ? 'ok' : 'unknown';
}

function header(headers: Record<string, unknown> | null | undefined, name: string): string | undefined {
  for (const [key, value] of Object.entries(headers ?? {})) {
    if (key.toLowerCase() !== name) continue;
    const first: unknown = Array.isArray(value) ? value[0] : value;
    return typeof first === 'string' ? first : undefined;
  }
  return undefined;
}

/** A device that is taken away ends the log there, as far as this file tells. */
function loggingOf({ type, error, time, request }: AuditEntry): LoggingChange | undefined {
  if (type !== 'request' || error || !/^sys\/audit\/[^/]+/.test(request.path)) return undefined;
  const at = momentOf(time) ?? 0;
  if (request.operation === 'delete') return { at, on: false, name: `delete ${request.path}` };
  return request.operation === 'update' ? { at, on: true, name: `enable ${request.path}` } : undefined;
}
