/** Reads JSON bodies with a bound on the size of each and on what all of them hold together. */
import type { IncomingMessage } from 'node:http';
import { ServiceError } from '../errors.ts';
import { parseJson } from './json.ts';

const JSON_TYPE = /^application\/json *(?:; *charset="?utf-8"? *)?$/i;

/** Thrown when the client went away before its body was complete: there is nobody to answer. */
export class ClientGone extends Error {}

export interface BodyLimits {
  /** Bytes of one body. */
  readonly maxBytes: number;
  /** Bytes of all bodies that are being read: callers are not yet authenticated then. */
  readonly maxHeldBytes: number;
}

/**
 * The parsed body of a request that has one. Throws REQUEST_TOO_LARGE, UNSUPPORTED_MEDIA_TYPE, REQUEST_INVALID or OVERLOADED; then a
 * part of the body may still be on its way.
 */
export type BodyReader = (req: IncomingMessage) => Promise<unknown>;

export function hasBody(req: IncomingMessage): boolean {
  const declared = req.headers['content-length'];
  return declared === undefined ? req.headers['transfer-encoding'] !== undefined : declared !== '0';
}

export function createBodyReader(limits: BodyLimits): BodyReader {
  let held = 0;

  return async function read(req) {
    checkHead(req, limits.maxBytes);
    const bytes = await collect(req);
    try {
      return parseJson(bytes);
    } finally {
      bytes.fill(0);
    }
  };

  /** All bytes of the body, in a buffer that the caller owns. The parts are zeroed: they may hold plaintext. */
  function collect(req: IncomingMessage): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      const parts: Uint8Array[] = [];
      let size = 0;
      const settle = (error: Error | undefined) => {
        req.removeListener('data', onData);
        req.removeListener('end', onEnd);
        req.removeListener('close', onClose);
        held -= size;
        if (error === undefined) return resolve(join(parts, size));
        for (const part of parts) part.fill(0);
        req.resume();
        reject(error);
      };
      const onData = (part: Uint8Array) => {
        parts.push(part);
        size += part.byteLength;
        held += part.byteLength;
        if (size > limits.maxBytes) settle(new ServiceError('REQUEST_TOO_LARGE'));
        else if (held > limits.maxHeldBytes) settle(new ServiceError('OVERLOADED'));
      };
      const onEnd = () => settle(undefined);
      const onClose = () => settle(new ClientGone());
      req.on('data', onData);
      req.once('end', onEnd);
      req.once('close', onClose);
      if (req.destroyed) onClose();
    });
  }
}

function checkHead(req: IncomingMessage, maxBytes: number): void {
  const declared = req.headers['content-length'];
  if (declared !== undefined && Number(declared) > maxBytes) throw new ServiceError('REQUEST_TOO_LARGE');
  const type = req.headers['content-type'];
  const isJson = type === 'application/json' || (type !== undefined && JSON_TYPE.test(type));
  if (!isJson || req.headers['content-encoding'] !== undefined) {
    throw new ServiceError('UNSUPPORTED_MEDIA_TYPE');
  }
}

function join(parts: readonly Uint8Array[], size: number): Uint8Array {
  const [first] = parts;
  if (first !== undefined && parts.length === 1) return first;
  const whole = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.byteLength;
    part.fill(0);
  }
  return whole;
}
