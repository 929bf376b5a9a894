/**
 * What the signer remembers: size and root of the newest checkpoint of each origin, in a file of its own outside the database.
 *
 * The file is a journal: a line with the format's name, then one line for each batch, `SHA-256(json) json`, where json is a list
 * of [origin, size, root]. A batch is on disk before {@link SignerMemory.remember} returns, so a line that lacks its end is
 * one whose signatures never left: it is dropped. Anything else that does not fit stops the signer, because a memory with
 * a hole would sign what it must not.
 */
import { createHash } from 'node:crypto';
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  writeSync,
} from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { lockFolder } from '../store/folder-lock.ts';
import { fromBase64 } from './note.ts';
import { HASH_BYTES } from './tree.ts';

const FILE = 'signer-memory';
const FORMAT = 'keytether.signer/1\n';
/** The journal is written anew when it has grown by this many bytes. */
const COMPACT_BYTES = 4 * 1024 * 1024;

export interface TreeHead {
  readonly size: number;
  /** 32 bytes. */
  readonly root: Uint8Array;
}

export interface SignerMemory {
  get(origin: string): TreeHead | undefined;
  /**
   * Returns when the heads are on disk. Throws when they may not be, and for ever after: the memory is then opened anew. Calls
   * must not overlap.
   */
  remember(heads: ReadonlyMap<string, TreeHead>): Promise<void>;
  close(): Promise<void>;
}

/** Makes an empty memory where there is none. A signer never does so itself: a lost memory must not look like a new one. */
export function createSignerMemory(folder: string): void {
  if (existsSync(join(folder, FILE))) return;
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  replaceFile(folder, FORMAT);
}

/**
 * Opens the memory in `folder` for this process alone. Throws an Error that says what to do when another process has it, when
 * there is none, or when it is damaged.
 *
 * Two fences keep two signers apart: the folder's lock, which knows the processes of one machine, and the file's length, which shows
 * a second writer from elsewhere before a signature leaves.
 */
export async function openSignerMemory(
  folder: string,
  options: { readonly compactBytes?: number } = {},
): Promise<SignerMemory> {
  const compactBytes = options.compactBytes ?? COMPACT_BYTES;
  const path = join(folder, FILE);
  if (!existsSync(path)) {
    throw new Error(
      `${path} does not exist: restore it; without it any history would be signed, so a new memory comes only with a new log key ("npm run init")`,
    );
  }
  const unlock = lockFolder(folder);
  let file: FileHandle;
  let heads: Map<string, TreeHead>;
  let length: number;
  try {
    heads = parseJournal(readFileSync(path, 'utf8'), path);
    length = replaceFile(folder, FORMAT + lineOf(heads));
    file = await open(path, 'a');
  } catch (error) {
    unlock();
    throw error;
  }
  let compacted = length;
  let broken = false;

  async function write(line: string): Promise<void> {
    await file.appendFile(line);
    await file.datasync();
    length += Buffer.byteLength(line);
    await assertAlone();
  }

  async function assertAlone(): Promise<void> {
    const [named, opened] = await Promise.all([stat(path), file.stat()]);
    if (named.ino !== opened.ino || named.dev !== opened.dev || opened.size !== length) {
      throw new Error(`${path} was changed by another process`);
    }
  }

  async function compact(): Promise<void> {
    if (length - compacted < compactBytes) return;
    await file.close();
    length = replaceFile(folder, FORMAT + lineOf(heads));
    compacted = length;
    file = await open(path, 'a');
  }

  return {
    get: (origin) => heads.get(origin),
    async remember(fresh) {
      if (broken)
        throw new Error('the signer’s memory is no longer known to be whole: start the signer anew');
      if (fresh.size === 0) return;
      broken = true;
      await write(lineOf(fresh));
      for (const [origin, head] of fresh) heads.set(origin, head);
      await compact();
      broken = false;
    },
    async close() {
      broken = true;
      await file.close();
      unlock();
    },
  };
}

function lineOf(heads: ReadonlyMap<string, TreeHead>): string {
  if (heads.size === 0) return '';
  const json = JSON.stringify(
    [...heads].map(([origin, { size, root }]) => [origin, size, Buffer.from(root).toString('base64')]),
  );
  return `${digestOf(json)} ${json}\n`;
}

function parseJournal(text: string, path: string): Map<string, TreeHead> {
  const damaged = () => new Error(`${path} is damaged: restore it from a copy that is not older`);
  if (!text.startsWith(FORMAT)) throw damaged();
  const lines = text.slice(FORMAT.length).split('\n');
  // Behind the last line feed: nothing, or a line whose end never reached the disk.
  lines.pop();
  const heads = new Map<string, TreeHead>();
  for (const line of lines) {
    const json = line.slice(65);
    if (line !== `${digestOf(json)} ${json}`) throw damaged();
    for (const [origin, size, root] of JSON.parse(json) as [string, number, string][]) {
      const hash = fromBase64(root);
      if (hash?.length !== HASH_BYTES || !Number.isSafeInteger(size)) throw damaged();
      heads.set(origin, { size, root: hash });
    }
  }
  return heads;
}

function digestOf(json: string): string {
  return createHash('sha256').update(json).digest('hex');
}

/** Writes the journal beside and puts it in place: there is always a whole one. Returns its length. */
function replaceFile(folder: string, text: string): number {
  const [path, draft] = [join(folder, FILE), join(folder, `${FILE}.new`)];
  const bytes = Buffer.from(text);
  const file = openSync(draft, 'w', 0o600);
  try {
    for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(draft, path);
  const directory = openSync(folder, 'r');
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
  return bytes.length;
}
