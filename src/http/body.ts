/** Reads a JSON body with a bound on its size. */
import type { IncomingMessage } from 'node:http';
import { ServiceError } from '../errors.ts';
import { parseJson } from './json.ts';

const JSON_TYPE = /^application\/json *(?:; *charset="?utf-8"? *)?$/i;

/** Thrown when the client went away before its body was complete: there is nobody to answer. */
export class ClientGone extends Error {}

export function hasBody(req: IncomingMessage): boolean {
  const declared = req.headers['content-length'];
  return declared === undefined ? req.headers['transfer-encoding'] !== undefined : declared !== '0';
}

/**
 * The parsed body of a request that has one. Throws REQUEST_TOO_LARGE, UNSUPPORTED_MEDIA_TYPE or
 * REQUEST_INVALID; then a part of the body may still be on its way.
 */
export async function readBody(req: IncomingMessage, maxBytes: number): Promise<unknown> {
  const declared = req.headers['content-length'];
  if (declared !== undefined && Number(declared) > maxBytes) throw new ServiceError('REQUEST_TOO_LARGE');
  const type = req.headers['content-type'];
  if (type === undefined || !(type === 'application/json' || JSON_TYPE.test(type))) {
    throw new ServiceError('UNSUPPORTED_MEDIA_TYPE');
  }
  if (req.headers['content-encoding'] !== undefined) throw new ServiceError('UNSUPPORTED_MEDIA_TYPE');
  const bytes = await collect(req, maxBytes);
  try {
    return parseJson(bytes);
  } finally {
    bytes.fill(0);
  }
}

/** All bytes of the body, in a buffer that the caller owns. The parts are zeroed: they may hold plaintext. */
function collect(req: IncomingMessage, maxBytes: number): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const parts: Uint8Array[] = [];
    let size = 0;
    const settle = (error: Error | undefined) => {
      req.removeListener('data', onData);
      req.removeListener('end', onEnd);
      req.removeListener('close', onClose);
      if (error === undefined) return resolve(join(parts, size));
      for (const part of parts) part.fill(0);
      reject(error);
    };
    const onData = (part: Uint8Array) => {
      size += part.byteLength;
      parts.push(part);
      if (size > maxBytes) settle(new ServiceError('REQUEST_TOO_LARGE'));
    };
    const onEnd = () => settle(undefined);
    const onClose = () => settle(new ClientGone());
    req.on('data', onData);
    req.once('end', onEnd);
    req.once('close', onClose);
    if (req.destroyed) onClose();
  });
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
