/**
 * Files one after another in the ustar form (POSIX.1-1988). Only plain files, and no field that could differ between two
 * runs: owner 0, time 0, mode 0644. Every tar program reads it, and a reader of a few lines is enough to check it.
 */

const BLOCK = 512;
const MAX_NAME_BYTES = 100;
/** What eleven octal digits hold. */
const MAX_FILE_BYTES = 8 ** 11 - 1;

/** The 512 bytes before a file's content. Throws RangeError for a name that is not 1 to 100 ASCII bytes, or too long a file. */
export function tarHeader(name: string, size: number): Uint8Array {
  if (!/^[\x21-\x7e]+$/.test(name) || name.length > MAX_NAME_BYTES)
    throw new RangeError('not a file name for a tar');
  if (!Number.isSafeInteger(size) || size < 0 || size > MAX_FILE_BYTES)
    throw new RangeError('too long a file for a tar');
  const header = new Uint8Array(BLOCK);
  const put = (text: string, at: number) => header.set(new TextEncoder().encode(text), at);
  put(name, 0);
  put('0000644\0', 100);
  put('0000000\0', 108);
  put('0000000\0', 116);
  put(`${octal(size, 11)}\0`, 124);
  put('00000000000\0', 136);
  put('        ', 148);
  put('0', 156);
  put('ustar\x0000', 257);
  const sum = header.reduce((total, byte) => total + byte, 0);
  put(`${octal(sum, 6)}\0 `, 148);
  return header;
}

/** The zero bytes after a file's content: 0 to 511. */
export function tarPadding(size: number): Uint8Array {
  return new Uint8Array((BLOCK - (size % BLOCK)) % BLOCK);
}

/** What ends an archive: two blocks of zeroes. */
export function tarEnd(): Uint8Array {
  return new Uint8Array(2 * BLOCK);
}

function octal(value: number, digits: number): string {
  return value.toString(8).padStart(digits, '0');
}
