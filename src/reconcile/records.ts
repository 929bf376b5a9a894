/**
 * Records out of a log file: JSON lines, one JSON document with a list, or both, plain or gzip. Whatever is not a record is
 * reported with its place, never dropped.
 */
import { gunzipSync } from 'node:zlib';
import type { z } from 'zod';
import type { Malformed, Parsed, Position } from './event.ts';

/** Bytes of one file once unpacked. */
export const MAX_FILE_BYTES = 256 * 1024 * 1024;
/** Bytes of one line; vendors' records are at most 256 KiB. */
const MAX_LINE_BYTES = 8 * 1024 * 1024;
const MAX_DEPTH = 32;

export interface Entry {
  readonly position: Position;
  readonly value: unknown;
}

export interface Entries {
  readonly entries: readonly Entry[];
  readonly malformed: Malformed[];
}

/** The bytes of a file, unpacked when they are gzip. Throws an Error for what is damaged or larger than {@link MAX_FILE_BYTES}. */
export function unpacked(bytes: Uint8Array): Uint8Array {
  if (bytes.length > MAX_FILE_BYTES) throw new Error(`is larger than ${MAX_FILE_BYTES} bytes`);
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  try {
    return gunzipSync(bytes, { maxOutputLength: MAX_FILE_BYTES });
  } catch (cause) {
    throw new Error(`is damaged gzip, or unpacks to more than ${MAX_FILE_BYTES} bytes`, { cause });
  }
}

/** The records of a file, in order. `list`: the field that holds the records in the vendor's documents. */
export function readRecords(input: string, bytes: Uint8Array, list?: string): Entries {
  const plain = unpacked(bytes);
  const whole = wholeDocument(plain);
  const malformed: Malformed[] = [];
  const entries: Entry[] = [];
  let record = 0;
  const add = (value: unknown): void => {
    for (const item of itemsOf(value, list)) {
      record += 1;
      entries.push({ position: { input, record }, value: item });
    }
  };
  if (whole !== undefined) {
    add(whole.value);
    return { entries, malformed };
  }
  for (const line of linesOf(plain)) {
    const value = parseLine(line);
    if (value === undefined) {
      record += 1;
      malformed.push({ position: { input, record }, reason: 'not a JSON line of UTF-8' });
    } else add(value.value);
  }
  return { entries, malformed };
}

/** Runs `read` over the records that satisfy the schema; the rest is malformed. */
export function eachRecord<T>(
  { entries, malformed }: Entries,
  schema: z.ZodType<T>,
  read: (record: T, position: Position) => void,
): Pick<Parsed, 'malformed'> {
  const bad = [...malformed];
  for (const { position, value } of entries) {
    const parsed = schema.safeParse(value);
    if (parsed.success) read(parsed.data, position);
    else bad.push({ position, reason: reasonOf(parsed.error) });
  }
  return { malformed: bad };
}

/** The moment that a text names, milliseconds since 1970, or undefined. */
export function momentOf(text: string): number | undefined {
  if (!/^\d{4}-\d{2}-\d{2}T/.test(text)) return undefined;
  const at = Date.parse(text);
  return Number.isFinite(at) ? at : undefined;
}

/** The rule and the field, never the value: a log may hold what is nobody's business. */
function reasonOf(error: z.ZodError): string {
  const issue = error.issues[0];
  const path = issue?.path.map(String).join('.') ?? '';
  return path === '' ? 'not a record of this log' : `field ${path.slice(0, 80)}: ${issue?.code ?? 'invalid'}`;
}

/** A file whose first line is not JSON on its own is tried as one document. */
function wholeDocument(bytes: Uint8Array): { value: unknown } | undefined {
  for (const line of linesOf(bytes)) {
    return parseLine(line) === undefined ? parseText(bytes) : undefined;
  }
  return undefined;
}

function itemsOf(value: unknown, list: string | undefined): readonly unknown[] {
  if (Array.isArray(value)) return value;
  const inner = list === undefined ? undefined : (value as Record<string, unknown> | null)?.[list];
  return Array.isArray(inner) ? inner : [value];
}

function* linesOf(bytes: Uint8Array): Generator<Uint8Array> {
  for (let start = 0; start < bytes.length; ) {
    const end = bytes.indexOf(0x0a, start);
    const line = bytes.subarray(start, end === -1 ? bytes.length : end);
    start += line.length + 1;
    if (line.some((byte) => byte > 0x20)) yield line;
  }
}

function parseLine(line: Uint8Array): { value: unknown } | undefined {
  return line.length > MAX_LINE_BYTES ? parseLong(line) : parseText(line);
}

/** CloudTrail writes a whole file as one line, so only a line that is no list of records is bounded. */
function parseLong(line: Uint8Array): { value: unknown } | undefined {
  const parsed = parseText(line);
  const value = parsed?.value;
  const lists = Array.isArray(value) || Object.values(value ?? {}).some(Array.isArray);
  return lists ? parsed : undefined;
}

function parseText(bytes: Uint8Array): { value: unknown } | undefined {
  try {
    const value: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
    return tooDeep(value, MAX_DEPTH) ? undefined : { value };
  } catch {
    return undefined;
  }
}

function tooDeep(value: unknown, left: number): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return left === 0 || Object.values(value).some((inner) => tooDeep(inner, left - 1));
}
