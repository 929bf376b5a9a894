/** The operator's log: one JSON line per event on standard error, fields by name. No value of a request ever is one. */
import { codeOf, type ErrorCode, ServiceError } from './errors.ts';

export interface JournalEntry {
  readonly event: string;
  readonly requestId?: string;
  readonly route?: string;
  readonly code?: ErrorCode;
  readonly tenant?: string;
  readonly detail?: string;
}

export function journal(entry: JournalEntry): void {
  const { event, requestId, route, code, tenant, detail } = entry;
  const line = JSON.stringify({
    time: new Date().toISOString(),
    event,
    requestId,
    route,
    code,
    tenant,
    detail,
  });
  process.stderr.write(`${line}\n`);
}

/** One word for what went wrong: our own detail, or the name and code of a foreign error. Never a message. */
export function detailOf(error: unknown): string {
  if (error instanceof ServiceError) {
    const cause = error.cause === undefined ? '' : ` < ${detailOf(error.cause)}`;
    return `${error.code}${error.detail === undefined ? '' : `/${error.detail}`}${cause}`;
  }
  const { name, code } = (error ?? {}) as { name?: unknown; code?: unknown };
  return [name, code ?? codeOf(error)]
    .filter((part) => typeof part === 'string')
    .join('/')
    .slice(0, 80);
}
