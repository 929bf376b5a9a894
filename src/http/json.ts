/**
 * Bytes of a request body to a value. `JSON.parse` alone keeps the last of two equal keys, accepts any depth and lets
 * `\u0000` and lone surrogates through; other readers of the same bytes may see another value, so all of that is refused.
 */
import { isUtf8 } from 'node:buffer';
import { ServiceError } from '../errors.ts';

const MAX_DEPTH = 16;
/** From this number of keys on, an object's keys are looked up in a set rather than one by one. */
const SET_FROM = 8;

const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_LIST = 0x5b;
const CLOSE_LIST = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

/**
 * Parses one JSON text. Throws REQUEST_INVALID, with the rule that was broken, for: bytes that are not UTF-8, a byte order
 * mark, equal keys in one object (after escapes), the key `__proto__`, U+0000 or an ill-formed string, nesting
 * deeper than 16, and anything that RFC 8259 does not allow.
 */
export function parseJson(bytes: Uint8Array): unknown {
  if (!isUtf8(bytes)) throw invalid('must be UTF-8');
  if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf) {
    throw invalid('must not start with a byte order mark');
  }
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
  const broken = scan(text);
  if (broken !== undefined) throw invalid(broken);
  return parse(text);
}

function invalid(rule: string): ServiceError {
  return new ServiceError('REQUEST_INVALID', { errors: [{ path: '', rule }] });
}

/** `JSON.parse` quotes its input in its message, so that error goes no further. */
function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw invalid('must be JSON');
  }
}

/** The keys of one open object, or undefined for an open list. */
type Frame = { readonly names: string[]; set: Set<string> | undefined } | undefined;

/**
 * The rule that a text breaks, or undefined. Exact for valid JSON; what it passes of invalid JSON, `JSON.parse` refuses.
 * Strings are skipped by `indexOf`, so a long one costs no step for each character.
 */
function scan(text: string): string | undefined {
  const frames: Frame[] = [];
  let top: Frame;
  let atKey = false;
  let slash = text.indexOf('\\');
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case QUOTE: {
        const start = at;
        at = text.indexOf('"', start + 1);
        const escaped = slash !== -1 && slash < at;
        while (slash !== -1 && slash < at) {
          if (slash + 1 === at) at = text.indexOf('"', at + 1);
          slash = text.indexOf('\\', slash + 2);
        }
        if (at === -1) return 'must be JSON';
        if (!escaped && !atKey) break;
        const string = escaped ? decodeString(text.slice(start, at + 1)) : text.slice(start + 1, at);
        if (string === undefined) return 'strings must be well-formed and without U+0000';
        if (!atKey) break;
        if (string === '__proto__') return 'unknown field';
        if (top !== undefined && !add(top, string)) return 'equal keys in one object';
        break;
      }
      case OPEN_OBJECT:
      case OPEN_LIST:
        if (frames.length === MAX_DEPTH) return `must not nest deeper than ${MAX_DEPTH}`;
        atKey = text.charCodeAt(at) === OPEN_OBJECT;
        top = atKey ? { names: [], set: undefined } : undefined;
        frames.push(top);
        break;
      case CLOSE_OBJECT:
      case CLOSE_LIST:
        frames.pop();
        top = frames[frames.length - 1];
        atKey = false;
        break;
      case COMMA:
        atKey = top !== undefined;
        break;
      case COLON:
        atKey = false;
        break;
    }
  }
  return undefined;
}

/** The string of a token with escapes; undefined when it holds U+0000, a lone surrogate or a wrong escape. */
function decodeString(token: string): string | undefined {
  try {
    const string: unknown = JSON.parse(token);
    if (typeof string !== 'string' || string.includes('\0') || !string.isWellFormed()) return undefined;
    return string;
  } catch {
    return undefined;
  }
}

function add(frame: NonNullable<Frame>, name: string): boolean {
  if (frame.set !== undefined) {
    const before = frame.set.size;
    return frame.set.add(name).size > before;
  }
  if (frame.names.includes(name)) return false;
  frame.names.push(name);
  if (frame.names.length === SET_FROM) frame.set = new Set(frame.names);
  return true;
}
