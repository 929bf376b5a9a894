/**
 * Memory for key bytes. V8 keeps typed arrays of up to 64 bytes inside its heap, where a collection moves them and the first
 * use of `.buffer`, `subarray` or a native call copies them out, and neither clears what it leaves. An ArrayBuffer made
 * first lies outside the heap and stays where it is, so `fill(0)` really ends the bytes.
 */
export function secretBytes(length: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new ArrayBuffer(length));
}
