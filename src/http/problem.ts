/**
 * Errors to answers: problem details (RFC 9457) with a stable `code`. The only place that chooses a status of 4xx or 5xx,
 * and it takes it from `errors.ts`. Nothing of an error but its code, field errors, receipt and
 * Retry-After leaves.
 */
import type { z } from 'zod';
import { ERRORS, type ErrorCode, type FailureOptions } from '../errors.ts';
import type { Receipt } from '../receipt.ts';

export interface FieldError {
  /** Dotted path of a field; `*` stands for a name that the caller chose. */
  readonly path: string;
  readonly rule: string;
}

export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly code: ErrorCode;
  readonly retryable: boolean;
  readonly fault: string;
  readonly action: string;
  readonly requestId: string;
  readonly errors?: readonly FieldError[];
}

const DEFAULT_RETRY_SECONDS = 1;
const MAX_FIELD_ERRORS = 20;
/** Names of fields of ours look like this; anything else could be a value in the wrong place. */
const FIELD_NAME = /^[a-z][A-Za-z0-9]{0,31}$/;

export function problem(code: ErrorCode, requestId: string, errors?: readonly FieldError[]): Problem {
  const { title, status, retryable, fault, action } = ERRORS[code];
  return {
    type: `urn:keytether:problem:${code}`,
    title,
    status,
    code,
    retryable,
    fault,
    action,
    requestId,
    ...(errors === undefined ? {} : { errors }),
  };
}

/** The value of Retry-After in whole seconds; undefined where a retry is of no use. */
export function retryAfter(code: ErrorCode, seconds: number | undefined): string | undefined {
  if (!ERRORS[code].retryable) return undefined;
  return String(Math.max(1, Math.ceil(seconds ?? DEFAULT_RETRY_SECONDS)));
}

/** What a thrown value of ours carries for the answer; empty for anything else. Works across realms. */
export function answerable(error: unknown): {
  errors: readonly FieldError[] | undefined;
  retryAfterSeconds: number | undefined;
  receipt: Receipt | undefined;
} {
  const { errors, retryAfterSeconds, receipt } = (error ?? {}) as FailureOptions;
  return { errors, retryAfterSeconds, receipt };
}

/** Field errors of a refused request: paths and rules, never values. */
export function fieldErrors(issues: readonly z.core.$ZodIssue[]): FieldError[] {
  return issues
    .flatMap((issue) =>
      issue.code === 'unrecognized_keys'
        ? issue.keys.map((key) => ({ path: pathOf([...issue.path, key]), rule: 'unknown field' }))
        : [{ path: pathOf(issue.path), rule: ruleOf(issue) }],
    )
    .slice(0, MAX_FIELD_ERRORS);
}

function pathOf(path: readonly PropertyKey[]): string {
  return path
    .map((part) => (typeof part === 'number' || FIELD_NAME.test(String(part)) ? String(part) : '*'))
    .join('.');
}

function ruleOf(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case 'invalid_type':
      return `must be of type ${issue.expected}`;
    case 'too_big':
      return `must be at most ${issue.maximum}`;
    case 'too_small':
      return `must be at least ${issue.minimum}`;
    case 'invalid_value':
      return `must be one of ${issue.values.join(', ')}`;
    case 'invalid_format':
      return issue.format === 'regex'
        ? `must match ${issue.pattern ?? ''}`
        : `must be a valid ${issue.format}`;
    case 'custom':
      return typeof issue.params?.rule === 'string' ? issue.params.rule : 'must be valid';
    default:
      return 'must be valid';
  }
}
