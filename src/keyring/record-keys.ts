/**
 * The record keys of this replica, from a file that lives outside the database. One line for each key:
 *
 *     <id> <signing|verifying|retired> <64 hex digits>
 *
 * Exactly one line is `signing`. To rotate: give every replica the new line as `verifying`, then make it `signing` and the
 * old one `verifying`, authenticate all objects anew, and mark the old one `retired`. Ids are never used again.
 */
import { randomFillSync } from 'node:crypto';
import type { RecordKeys } from '../crypto/records.ts';

const LINE = /^([a-z0-9][a-z0-9._-]{0,31}) (signing|verifying|retired) ([0-9a-f]{64})$/;

/** Parses the file. Zeroes nothing: the caller owns `file`. Throws an Error that names the line. */
export function parseRecordKeys(file: Uint8Array): RecordKeys {
  const keys = new Map<string, { key: Uint8Array } | 'retired'>();
  let signing: { id: string; key: Uint8Array } | undefined;
  let number = 0;
  for (const line of new TextDecoder('utf-8', { fatal: true }).decode(file).split('\n')) {
    number += 1;
    if (line === '' || line.startsWith('#')) continue;
    const [, id, state, digits] = LINE.exec(line) ?? [];
    if (id === undefined || digits === undefined)
      throw new Error(`record keys: line ${number} is not "<id> <state> <hex>"`);
    if (keys.has(id)) throw new Error(`record keys: line ${number} repeats an id`);
    const key = new Uint8Array(32);
    for (let at = 0; at < 32; at += 1) key[at] = Number.parseInt(digits.slice(2 * at, 2 * at + 2), 16);
    keys.set(id, state === 'retired' ? 'retired' : { key });
    if (state !== 'signing') continue;
    if (signing !== undefined) throw new Error(`record keys: line ${number} is a second signing key`);
    signing = { id, key };
  }
  if (signing === undefined) throw new Error('record keys: no line is "signing"');
  return { signing, find: (id) => keys.get(id) };
}

/** The text of a file with one fresh signing key. */
export function newRecordKeyFile(): string {
  const key = randomFillSync(new Uint8Array(32));
  const digits = Array.from(key, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return `rk1 signing ${digits}\n`;
}
