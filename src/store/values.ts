/** How values travel in both engines: array literals that are cheap to build, and parsers of the types we read. */

/** Reads the text form of a column, by type oid. */
export const PARSERS: Readonly<Record<number, (text: string) => unknown>> = {
  17: parseBytes,
  20: safeInteger,
  1001: (text) => elements(text).map((item) => parseBytes(item.replaceAll('"', '').replace('\\\\', '\\'))),
  1005: parseIntegers,
  1007: parseIntegers,
  1016: parseIntegers,
};

/** An array literal of integers or booleans. */
export function plainArray(values: readonly (number | boolean)[]): string {
  return `{${values.join(',')}}`;
}

/** An array literal of `bytea`. */
export function bytesArray(values: readonly Uint8Array[]): string {
  return `{${values.map((value) => `"\\\\x${hex(value)}"`).join(',')}}`;
}

/** An array literal of text. */
export function textArray(values: readonly string[]): string {
  return `{${values.map((value) => `"${value.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`).join(',')}}`;
}

export function hex(value: Uint8Array): string {
  return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('hex');
}

/** `\x0011` to bytes, in a buffer of its own. */
function parseBytes(text: string): Uint8Array {
  const bytes = Buffer.allocUnsafeSlow((text.length - 2) / 2);
  bytes.write(text.slice(2), 'hex');
  return new Uint8Array(bytes.buffer);
}

function safeInteger(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value)) throw new RangeError('the database holds an integer beyond 2^53');
  return value;
}

function parseIntegers(text: string): (number | null)[] {
  return elements(text).map((item) => (item === 'NULL' ? null : safeInteger(item)));
}

function elements(text: string): string[] {
  return text === '{}' ? [] : text.slice(1, -1).split(',');
}

/** 16 bytes as the text of a uuid. */
export function bytesToUuid(bytes: Uint8Array): string {
  if (bytes.length !== 16) throw new RangeError('a uuid has 16 bytes');
  return hex(bytes).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}
