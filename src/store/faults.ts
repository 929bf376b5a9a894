import { ServiceError } from '../errors.ts';

/** What is kept of a database error: its SQLSTATE and the constraint. Messages and details may quote rows. */
export class DatabaseFault extends Error {
  /** SQLSTATE, a socket error code such as ECONNREFUSED, or `timeout`. */
  readonly code: string;
  readonly constraint: string | undefined;

  constructor(code: string, constraint: string | undefined) {
    super(constraint === undefined ? `database: ${code}` : `database: ${code} (${constraint})`);
    this.name = 'DatabaseFault';
    this.code = code;
    this.constraint = constraint;
  }
}

/** Classes of SQLSTATE that say the server cannot serve now, whatever the statement was. */
const UNAVAILABLE_CLASSES = new Set(['08', '28', '53', '57', '58', 'XX']);
const UNAVAILABLE_STATES = new Set([
  '25006', // read-only: a standby, or a primary that was demoted
  '25P03', // idle-in-transaction timeout
  '25P04', // transaction timeout
  '3D000', // the database does not exist
  '40001', // serialization failure
  '40P01', // deadlock
  '55P03', // lock timeout
]);
const SQLSTATE = /^[0-9A-Z]{5}$/;

/** Turns what an engine threw into a ServiceError; one of ours passes unchanged. */
export function storeFailure(error: unknown, detail?: string): ServiceError {
  if (error instanceof ServiceError) return error;
  const fields = (error ?? {}) as { code?: unknown; constraint?: unknown };
  const code = typeof fields.code === 'string' ? fields.code : '';
  const constraint = typeof fields.constraint === 'string' ? fields.constraint : undefined;
  const cause = new DatabaseFault(code === '' ? 'connection' : code, constraint);
  const options = detail === undefined ? { cause } : { cause, detail };
  if (!SQLSTATE.test(code) || UNAVAILABLE_CLASSES.has(code.slice(0, 2)) || UNAVAILABLE_STATES.has(code)) {
    return new ServiceError('STORE_UNAVAILABLE', { ...options, retryAfterSeconds: 1 });
  }
  return new ServiceError(code === '23505' ? 'CONFLICT' : 'INTERNAL', options);
}

/** Whether the connection that the error came from may still be used. */
export function connectionUsable(error: unknown): boolean {
  const code = (error as { code?: unknown } | null | undefined)?.code;
  if (typeof code !== 'string' || !SQLSTATE.test(code)) return false;
  return !['08', '57', '58', 'XX'].includes(code.slice(0, 2)) || code === '57014';
}
