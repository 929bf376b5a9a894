/** As much of an HTTP/1.1 answer as a load generator needs: where it ends, its status, and its body. */

export interface Head {
  readonly status: number;
  readonly bodyStart: number;
  /** Offset after the last byte of the answer. */
  readonly end: number;
}

const LF = 10;
const NAME = Buffer.from('content-length:', 'latin1');

function isContentLength(bytes: Uint8Array, start: number): boolean {
  for (let i = 0; i < NAME.length; i += 1) {
    const byte = bytes[start + i] ?? 0;
    const lower = byte >= 65 && byte <= 90 ? byte + 32 : byte;
    if (lower !== NAME[i]) return false;
  }
  return true;
}

function decimal(bytes: Uint8Array, start: number, end: number): number {
  let value = 0;
  for (let i = start; i < end; i += 1) {
    const digit = (bytes[i] ?? 0) - 48;
    if (digit >= 0 && digit <= 9) value = value * 10 + digit;
  }
  return value;
}

/**
 * Reads the head of an answer that begins at `bytes[0]`.
 * @returns undefined while the head is incomplete.
 * @throws SyntaxError for an answer without Content-Length, since its end could not be told (204 and 304 have none).
 */
export function readHead(bytes: Uint8Array, filled: number): Head | undefined {
  let length = -1;
  let lineStart = 0;
  for (let i = 0; i < filled; i += 1) {
    if (bytes[i] !== LF) continue;
    if (i - lineStart <= 1) return headAt(bytes, length, i + 1);
    if (isContentLength(bytes, lineStart)) length = decimal(bytes, lineStart + NAME.length, i);
    lineStart = i + 1;
  }
  return undefined;
}

function headAt(bytes: Uint8Array, length: number, bodyStart: number): Head {
  const status = decimal(bytes, 9, 12);
  if (length >= 0) return { status, bodyStart, end: bodyStart + length };
  if (status === 204 || status === 304) return { status, bodyStart, end: bodyStart };
  throw new SyntaxError('answer without Content-Length');
}

/** `503 KMS_THROTTLED` where the body is a problem document with a code, else the bare status. */
export function describeFailure(status: number, body: Uint8Array): string {
  try {
    const problem: unknown = JSON.parse(Buffer.from(body).toString('utf8'));
    const code =
      typeof problem === 'object' && problem !== null && 'code' in problem ? problem.code : undefined;
    return typeof code === 'string' ? `${status} ${code}` : `${status}`;
  } catch {
    return `${status}`;
  }
}
