/**
 * One vector is one text file: `key: value` lines, an empty line, and the object in base64. Each holds one scenario.
 * test/vectors/keytether/README.md lists the keys.
 */
export interface Vector {
  readonly name: string;
  readonly fields: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
}

export function formatVector(vector: Vector): string {
  const lines = Object.entries(vector.fields).map(([key, value]) => `${key}: ${value}`);
  const body = Buffer.from(vector.body).toString('base64').replace(/.{76}/g, '$&\n').trimEnd();
  return `${lines.join('\n')}\n\n${body}\n`;
}

export function parseVector(name: string, text: string): Vector {
  const end = text.indexOf('\n\n');
  const fields: Record<string, string> = {};
  for (const line of text.slice(0, end).split('\n')) {
    const colon = line.indexOf(': ');
    fields[line.slice(0, colon)] = line.slice(colon + 2);
  }
  return { name, fields, body: Uint8Array.from(Buffer.from(text.slice(end), 'base64')) };
}

/** A field that the vector must have. */
export function fieldOf(vector: Vector, key: string): string {
  const value = vector.fields[key];
  if (value === undefined) throw new Error(`${vector.name} has no ${key}`);
  return value;
}

export function hexOf(vector: Vector, key: string): Uint8Array {
  return Uint8Array.from(Buffer.from(fieldOf(vector, key), 'hex'));
}

export const hex = (value: Uint8Array) => Buffer.from(value).toString('hex');
export const join = (...parts: Uint8Array[]) => Uint8Array.from(Buffer.concat(parts));

/** `source` with the bytes from `at` on replaced; a negative `at` counts from the end. */
export function patch(source: Uint8Array, at: number, ...values: number[]): Uint8Array {
  const changed = Uint8Array.from(source);
  changed.set(values, at < 0 ? source.length + at : at);
  return changed;
}

export const flip = (source: Uint8Array, at: number) => patch(source, at, (source.at(at) ?? 0) ^ 1);
