/** Ways to damage an object. Each returns new bytes and leaves its input alone. */
import type { Random } from './random.ts';

const EDGES = [0, 1, 2, 3, 4, 5, 0x0f, 0x10, 0x7f, 0x80, 0xfe, 0xff];
const TEXTS = ['', 'a', 'A', '~a', 'default', 'rk-0', 'rk-1', 'rk-9', 'ten_b', '\0', 'x'.repeat(65)];

export function join(...parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(Buffer.concat(parts));
}

function lp16(bytes: Uint8Array): Uint8Array {
  return join(Uint8Array.of(bytes.length >> 8, bytes.length & 255), bytes);
}

function flipBits(random: Random, bytes: Uint8Array): Uint8Array {
  const changed = Uint8Array.from(bytes);
  for (let n = 1 + random.int(3); n > 0 && changed.length > 0; n--) {
    const at = random.int(changed.length);
    changed[at] = (changed[at] ?? 0) ^ (1 << random.int(8));
  }
  return changed;
}

function setByte(random: Random, bytes: Uint8Array): Uint8Array {
  const changed = Uint8Array.from(bytes);
  if (changed.length > 0) changed[random.int(changed.length)] = random.pick(EDGES);
  return changed;
}

function cut(random: Random, bytes: Uint8Array): Uint8Array {
  return bytes.slice(0, random.int(bytes.length + 1));
}

function extend(random: Random, bytes: Uint8Array): Uint8Array {
  return join(bytes, random.bytes(1 + random.int(40)));
}

function removeRange(random: Random, bytes: Uint8Array): Uint8Array {
  const at = random.int(bytes.length + 1);
  return join(bytes.subarray(0, at), bytes.subarray(at + 1 + random.int(32)));
}

function repeatRange(random: Random, bytes: Uint8Array): Uint8Array {
  const at = random.int(bytes.length + 1);
  return join(bytes.subarray(0, at + random.int(64)), bytes.subarray(at));
}

function fillRange(random: Random, bytes: Uint8Array): Uint8Array {
  const changed = Uint8Array.from(bytes);
  const at = random.int(bytes.length + 1);
  changed.fill(random.pick(EDGES), at, at + 1 + random.int(48));
  return changed;
}

const BLIND = [flipBits, setByte, cut, extend, removeRange, repeatRange, fillRange];

/** Damage that knows nothing about the object. */
export function damageBlindly(random: Random, bytes: Uint8Array): Uint8Array {
  return random.pick(BLIND)(random, bytes);
}

/** Takes the front of one object and the back of another. */
export function splice(random: Random, one: Uint8Array, two: Uint8Array): Uint8Array {
  const at = random.int(Math.min(one.length, two.length) + 1);
  return join(one.subarray(0, at), two.subarray(at));
}

/** The fields of an object: a length in bytes, or `lp` for a u16 length and bytes, or `rest`. */
export type Field = number | 'lp' | 'rest';

/** Replaces one field by another value of the same kind, or drops or doubles it. */
export function damageField(random: Random, bytes: Uint8Array, fields: readonly Field[]): Uint8Array {
  const target = random.int(fields.length);
  let at = 0;
  for (const [i, field] of fields.entries()) {
    const length = lengthOf(bytes, at, field);
    if (i === target) {
      const value = bytes.subarray(at, at + length);
      return join(bytes.subarray(0, at), replacement(random, value, field), bytes.subarray(at + length));
    }
    at += length;
  }
  return bytes;
}

function lengthOf(bytes: Uint8Array, at: number, field: Field): number {
  if (field === 'rest') return bytes.length - at;
  if (field !== 'lp') return field;
  return 2 + (((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0));
}

function replacement(random: Random, value: Uint8Array, field: Field): Uint8Array {
  if (field === 'lp') {
    const choice = random.int(4);
    if (choice === 0) return lp16(random.bytes(random.int(30)));
    if (choice === 1) return flipBits(random, value);
    if (choice === 2) return lp16(new Uint8Array(0));
    return lp16(new TextEncoder().encode(random.pick(TEXTS)));
  }
  const choice = random.int(10);
  if (choice === 0) return new Uint8Array(0);
  if (choice === 1) return join(value, value);
  if (choice < 4) return new Uint8Array(value.length);
  if (choice < 6) return new Uint8Array(value.length).fill(random.pick(EDGES));
  if (choice < 8) return flipBits(random, value);
  return random.bytes(value.length);
}
