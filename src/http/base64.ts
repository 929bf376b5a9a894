/** Canonical padded base64 (RFC 4648 §4): one text for each byte string, everything else refused. */

const SHAPE = /^[A-Za-z0-9+/]*={0,2}$/;
/** Last characters whose four or two spare bits are zero. */
const LAST_OF_ONE_BYTE = 'AQgw';
const LAST_OF_TWO_BYTES = 'AEIMQUYcgkosw048';

export function isBase64(text: string): boolean {
  if (text.length % 4 !== 0 || !SHAPE.test(text)) return false;
  if (text.endsWith('==')) return LAST_OF_ONE_BYTE.includes(text.charAt(text.length - 3));
  return !text.endsWith('=') || LAST_OF_TWO_BYTES.includes(text.charAt(text.length - 2));
}

/** The bytes of a text that {@link isBase64} accepts, in a buffer of their own that the caller owns. */
export function fromBase64(text: string): Uint8Array {
  const padding = text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0;
  const bytes = Buffer.allocUnsafeSlow((text.length / 4) * 3 - padding);
  bytes.write(text, 'base64');
  return bytes;
}

export function toBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');
}
