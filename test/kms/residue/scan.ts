/** Counts copies of a secret in the memory of another process of ours, in the encodings that could carry it. Linux only. */
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';

const CHUNK = 4 * 1024 * 1024;

/** `masked` is the secret XOR 0xA7. Returns the number of occurrences per encoding, whole secrets and halves. */
export function scanProcess(pid: number, masked: Uint8Array): Record<string, number> {
  const secret = Buffer.from(masked.map((byte) => byte ^ 0xa7));
  const base64 = secret.toString('base64');
  const hex = secret.toString('hex');
  const half = secret.length / 2;
  const patterns: Record<string, Buffer> = {
    raw: secret,
    'first half': secret.subarray(0, half),
    'second half': secret.subarray(half),
    base64: Buffer.from(base64.slice(0, 42)),
    'base64 tail': Buffer.from(base64.slice(20, 42)),
    'base64 utf16': Buffer.from(base64.slice(0, 42), 'utf16le'),
    hex: Buffer.from(hex),
  };
  const counts: Record<string, number> = Object.fromEntries(Object.keys(patterns).map((name) => [name, 0]));
  const memory = openSync(`/proc/${pid}/mem`, 'r');
  const buffer = Buffer.allocUnsafeSlow(CHUNK + 256);
  try {
    for (const [start, end] of writableRegions(pid)) {
      for (let at = start; at < end; at += CHUNK) {
        const length = readAt(memory, buffer, at, Math.min(CHUNK + 256, end - at));
        for (const [name, pattern] of Object.entries(patterns)) {
          counts[name] = (counts[name] ?? 0) + occurrences(buffer.subarray(0, length), pattern, CHUNK);
        }
      }
    }
  } finally {
    closeSync(memory);
    buffer.fill(0);
  }
  return counts;
}

function writableRegions(pid: number): [number, number][] {
  return readFileSync(`/proc/${pid}/maps`, 'utf8')
    .split('\n')
    .filter((line) => / rw/.test(line) && !/\[(vvar|vsyscall)/.test(line))
    .map((line) => {
      const [start = '0', end = '0'] = line.split(' ')[0]?.split('-') ?? [];
      return [Number.parseInt(start, 16), Number.parseInt(end, 16)];
    });
}

/** Reads what there is; a region that has gone meanwhile is empty. */
function readAt(file: number, buffer: Buffer, at: number, length: number): number {
  try {
    return readSync(file, buffer, 0, length, at);
  } catch {
    return 0;
  }
}

/** Occurrences that start before `limit`, so that overlapping reads count each once. */
function occurrences(data: Buffer, pattern: Buffer, limit: number): number {
  let count = 0;
  for (let at = data.indexOf(pattern); at >= 0 && at < limit; at = data.indexOf(pattern, at + 1)) count += 1;
  return count;
}
