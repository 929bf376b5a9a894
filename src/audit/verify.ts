#!/usr/bin/env node
/**
 * Verifies an export of a usage log: `node verify.ts <archive.tar> [--key <log.vkey>] [--since <kept checkpoint>]`.
 *
 * This file stands alone, so that it can be copied, read in one sitting and run where nothing of the service is: it imports
 * nothing but Node's own modules and shares no code with the program that writes exports. Exit code 0: verified. 1: not.
 */
import { isUtf8 } from 'node:buffer';
import { createPublicKey, hash, type KeyObject, verify } from 'node:crypto';
import { closeSync, fstatSync, openSync, readFileSync, readSync, realpathSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const FOLDER = 'audit-export/';
const LEAF_VERSION = 'keytether.log/1';
const TILE = 256;
const MAX_FILE = TILE * (2 + 65_535);
const MOST_FAILURES = 20;

export interface VerifyOptions {
  /** The verifier key that the reader kept; absent: the archive's own, which proves less. */
  readonly key?: string;
  /** A checkpoint that the reader kept. */
  readonly since?: string;
}

export interface Report {
  readonly verified: boolean;
  /** What was found, a line each. */
  readonly facts: readonly string[];
  /** What is wrong, a line each; the first {@link MOST_FAILURES}. */
  readonly failures: readonly string[];
}

/** Nothing after this can be judged. */
class Unreadable extends Error {}

interface Key {
  readonly text: string;
  readonly name: string;
  readonly id: string;
  readonly object: KeyObject;
}

interface Checkpoint {
  readonly text: string;
  readonly signature: Buffer;
  readonly size: number;
  readonly root: Buffer;
}

/** Verifies one archive. Throws only where the file itself cannot be read. */
export function verifyExport(path: string, options: VerifyOptions = {}): Report {
  const facts: string[] = [];
  const failures: string[] = [];
  const fail = (failure: string) => {
    if (failures.length < MOST_FAILURES) failures.push(failure);
  };
  const descriptor = openSync(path, 'r');
  try {
    checkArchive(filesOf(descriptor), options, { fact: (line) => facts.push(line), fail });
  } catch (error) {
    if (!(error instanceof Unreadable)) throw error;
    fail(error.message);
  } finally {
    closeSync(descriptor);
  }
  return { verified: failures.length === 0, facts, failures };
}

interface Findings {
  fact(line: string): void;
  fail(line: string): void;
}

function checkArchive(files: Generator<TarFile>, options: VerifyOptions, findings: Findings): void {
  const take = (name: string): Buffer => {
    const next = files.next();
    if (next.done || next.value.name !== name) {
      throw new Unreadable(`${name} is missing; found ${next.done ? 'the end' : next.value.name}`);
    }
    return next.value.read();
  };
  take('README.txt');
  const carried = text(take('log.vkey'), 'log.vkey').trim();
  const key = parseKey((options.key ?? carried).trim());
  findings.fact(`log       ${key.name}`);
  findings.fact(
    `key       ${key.text} (${options.key === undefined ? 'FROM THE ARCHIVE: compare it' : 'yours'})`,
  );
  if (carried !== key.text) findings.fail('log.vkey is not the key that you kept');
  const pem = key.object.export({ format: 'pem', type: 'spki' }).toString();
  if (text(take('log.pem'), 'log.pem') !== pem) findings.fail('log.pem is not the key of log.vkey');
  const noteText = take('note.txt');
  const noteSignature = take('note.sig');
  const checkpoint = openCheckpoint(text(take('log/checkpoint'), 'log/checkpoint'), key, 'log/checkpoint');
  if (!noteText.equals(Buffer.from(checkpoint.text)))
    findings.fail('note.txt is not the text of log/checkpoint');
  if (!noteSignature.equals(checkpoint.signature)) {
    findings.fail('note.sig is not the signature of log/checkpoint');
  }
  findings.fact(`signed    ${checkpoint.size} records, root ${checkpoint.root.toString('base64')}`);
  const since =
    options.since === undefined ? undefined : openCheckpoint(options.since, key, 'the kept checkpoint');
  if (since !== undefined && since.size > checkpoint.size) {
    findings.fail(`the log has shrunk: you kept a checkpoint of ${since.size} records`);
  }
  checkLog(files, key.name, checkpoint, since, findings);
}

/** The files of the log after its checkpoint, and the openings. */
function checkLog(
  files: Generator<TarFile>,
  origin: string,
  checkpoint: Checkpoint,
  since: Checkpoint | undefined,
  findings: Findings,
): void {
  const tree = new Tree();
  const records = new Records(origin, findings);
  const compareWithKept = () => {
    if (since === undefined || since.size !== tree.size) return;
    if (tree.root().equals(since.root))
      findings.fact(`since     your ${since.size} records are its beginning`);
    else findings.fail(`the first ${since.size} records are not those of the checkpoint that you kept`);
  };
  compareWithKept();
  let openings: TarFile | undefined;
  for (const file of files) {
    if (openings !== undefined) throw new Unreadable(`${file.name} stands after the last file`);
    const width = Math.min(TILE, checkpoint.size - tree.size);
    const wanted = `log/tile/entries/${place(Math.floor(tree.size / TILE), width)}`;
    if (file.name === 'openings.jsonl') {
      openings = file;
    } else if (width > 0 && file.name === wanted) {
      for (const entry of entriesOf(file, width)) {
        records.check(entry, tree.size);
        tree.append(entryHash(entry));
        compareWithKept();
      }
      if (tree.size === checkpoint.size) tree.finish();
    } else if (!checkTile(file, tree, findings)) {
      throw new Unreadable(
        `${file.name} does not belong here; expected ${width > 0 ? wanted : 'no more records'}`,
      );
    }
  }
  if (tree.size < checkpoint.size) {
    throw new Unreadable(`records are missing: ${tree.size} are here, ${checkpoint.size} are signed`);
  }
  for (const name of tree.expected.keys()) findings.fail(`${name} is missing`);
  if (!tree.root().equals(checkpoint.root)) findings.fail('the records do not give the signed root');
  if (openings === undefined) throw new Unreadable('openings.jsonl is missing');
  findings.fact(`openings  ${openings.size} bytes, not checked`);
}

/** False where the tree expects no such tile. */
function checkTile(file: TarFile, tree: Tree, findings: Findings): boolean {
  const expected = tree.expected.get(file.name);
  if (expected === undefined) return false;
  tree.expected.delete(file.name);
  const found = file.read();
  if (found.equals(expected.hashes)) return true;
  const at = expected.hashes.findIndex((byte, index) => byte !== found[index]);
  const covers = expected.level === 0 ? 'record' : `hash of ${TILE ** expected.level} records`;
  if (at < 0) findings.fail(`${file.name} is too long`);
  else
    findings.fail(
      `${file.name} is not what the records give, from ${covers} ${expected.first + Math.floor(at / 32)} on`,
    );
  return true;
}

/** The tree that the records give, with the tiles that it says must be there. */
class Tree {
  size = 0;
  /** Tiles that are complete and not yet seen, by name. */
  readonly expected = new Map<string, { level: number; first: number; hashes: Buffer }>();
  /** Roots of the perfect subtrees, by height. */
  readonly #peaks: (Buffer | undefined)[] = [];
  /** Hashes of the unfinished tile, by level. */
  readonly #tiles: Buffer[][] = [];

  append(leaf: Buffer): void {
    let node = leaf;
    let height = 0;
    this.#intoTile(0, node);
    for (let left = this.#peaks[0]; left !== undefined; left = this.#peaks[height]) {
      this.#peaks[height] = undefined;
      node = nodeHash(left, node);
      height += 1;
      if (height % 8 === 0) this.#intoTile(height / 8, node);
    }
    this.#peaks[height] = node;
    this.size += 1;
  }

  /** No more records: the unfinished tiles are as they stand. */
  finish(): void {
    for (const [level, hashes] of this.#tiles.entries()) if (hashes.length > 0) this.#expect(level, hashes);
  }

  root(): Buffer {
    const peaks = this.#peaks.filter((peak) => peak !== undefined);
    return peaks.length === 0
      ? sha256(Buffer.alloc(0))
      : peaks.reduce((right, left) => nodeHash(left, right));
  }

  #intoTile(level: number, node: Buffer): void {
    const hashes = this.#tiles[level] ?? [];
    this.#tiles[level] = hashes;
    hashes.push(node);
    if (hashes.length < TILE) return;
    this.#expect(level, hashes, 1);
    this.#tiles[level] = [];
  }

  /** `ahead`: the last record is in the tile, but not counted yet. */
  #expect(level: number, hashes: Buffer[], ahead = 0): void {
    const index = Math.floor((this.size + ahead - 1) / TILE ** (level + 1));
    const name = `log/tile/${level}/${place(index, hashes.length)}`;
    this.expected.set(name, { level, first: index * TILE, hashes: Buffer.concat(hashes) });
  }
}

const SHAPE_OF_EID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** What must hold for the records as such. */
class Records {
  readonly #origin: string;
  readonly #findings: Findings;
  /** Event ids as 16 characters, which is what a million of them can be kept as. */
  readonly #ids = new Set<string>();
  #tenant: unknown;

  constructor(origin: string, findings: Findings) {
    this.#origin = origin;
    this.#findings = findings;
  }

  check(entry: Buffer, index: number): void {
    const failure = this.#failureOf(entry, index);
    if (failure !== undefined) this.#findings.fail(`record ${index} ${failure}`);
  }

  #failureOf(entry: Buffer, index: number): string | undefined {
    if (!isUtf8(entry)) return 'is not UTF-8';
    const source = entry.toString('utf8');
    let record: unknown;
    try {
      record = JSON.parse(source);
    } catch {
      return 'is not JSON';
    }
    // A name that occurs twice, white space or another spelling would let two programs read two things.
    if (!isCanonical(record) || JSON.stringify(record) !== source) return 'is not in the canonical form';
    const { eid, origin, tn, typ, v } = record as Record<string, unknown>;
    if (v !== LEAF_VERSION || typeof typ !== 'string') return `is not of version ${LEAF_VERSION}`;
    if (index === 0) {
      this.#tenant = tn;
      if (typ !== 'log.genesis' || origin !== this.#origin) return 'does not open this log';
    }
    if (index > 0 && typ === 'log.genesis') return 'opens a log again';
    if (typeof tn !== 'string' || tn !== this.#tenant) return 'is of another tenant';
    if (typeof eid !== 'string' || !SHAPE_OF_EID.test(eid)) return 'has no event id';
    const id = Buffer.from(eid.replaceAll('-', ''), 'hex').toString('latin1');
    if (this.#ids.has(id)) return 'has the event id of an earlier one';
    this.#ids.add(id);
    return undefined;
  }
}

/** Objects with sorted names, lists, texts, integers and booleans. */
function isCanonical(value: unknown): boolean {
  if (Array.isArray(value)) return value.every(isCanonical);
  if (typeof value === 'string' || typeof value === 'boolean') return true;
  if (typeof value !== 'object' || value === null) return Number.isSafeInteger(value);
  let last: string | undefined;
  for (const [name, field] of Object.entries(value)) {
    if ((last !== undefined && name <= last) || !isCanonical(field)) return false;
    last = name;
  }
  return true;
}

/** `x001/x234/067`, and `.p/12` for a partial one. */
function place(index: number, width: number): string {
  const digits = String(index);
  const groups = digits.padStart(Math.ceil(digits.length / 3) * 3, '0').match(/.{3}/g) ?? [];
  const path = groups.map((group, at) => (at < groups.length - 1 ? `x${group}` : group)).join('/');
  return width === TILE ? path : `${path}.p/${width}`;
}

/** The records of a bundle: u16 length and bytes, `width` times. */
function* entriesOf(file: TarFile, width: number): Generator<Buffer> {
  const bundle = file.read();
  let at = 0;
  for (let number = 0; number < width; number += 1) {
    if (at + 2 > bundle.length) throw new Unreadable(`${file.name} holds ${number} records of ${width}`);
    const end = at + 2 + bundle.readUInt16BE(at);
    if (end > bundle.length) throw new Unreadable(`${file.name} ends within a record`);
    yield bundle.subarray(at + 2, end);
    at = end;
  }
  if (at !== bundle.length) throw new Unreadable(`${file.name} holds more than its ${width} records`);
}

const LEAF_PREFIX = Uint8Array.of(0);
const NODE_PREFIX = Uint8Array.of(1);

function entryHash(entry: Buffer): Buffer {
  return sha256(Buffer.concat([LEAF_PREFIX, entry]));
}

function nodeHash(left: Buffer, right: Buffer): Buffer {
  return sha256(Buffer.concat([NODE_PREFIX, left, right]));
}

function sha256(bytes: Buffer): Buffer {
  return hash('sha256', bytes, 'buffer');
}

const SPKI_PREFIX = Buffer.from('302a300506032b6570032100', 'hex');

function parseKey(source: string): Key {
  const [, name, id, encoded] = /^([^+\s]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]+=*)$/.exec(source) ?? [];
  const bytes = Buffer.from(encoded ?? '', 'base64');
  if (name === undefined || id === undefined || bytes.length !== 33 || bytes[0] !== 1) {
    throw new Unreadable('the verifier key is not an Ed25519 key of c2sp.org/signed-note');
  }
  const expected = sha256(Buffer.concat([Buffer.from(`${name}\n`), bytes])).toString('hex', 0, 4);
  if (id !== expected) throw new Unreadable('the verifier key has the id of another key');
  const spki = Buffer.concat([SPKI_PREFIX, bytes.subarray(1)]);
  return { text: source, name, id, object: createPublicKey({ key: spki, format: 'der', type: 'spki' }) };
}

function openCheckpoint(note: string, key: Key, what: string): Checkpoint {
  const end = note.lastIndexOf('\n\n');
  const body = note.slice(0, end + 1);
  const ours = note
    .slice(end + 2)
    .split('\n')
    .filter((line) => line.startsWith(`— ${key.name} `))
    .map((line) => Buffer.from(line.slice(key.name.length + 3), 'base64'))
    .filter((bytes) => bytes.toString('hex', 0, 4) === key.id);
  const [signature] = ours;
  if (end < 0 || signature === undefined) throw new Unreadable(`${what} is not signed by the key`);
  if (!ours.every((bytes) => verify(null, Buffer.from(body), key.object, bytes.subarray(4)))) {
    throw new Unreadable(`the signature of ${what} is false`);
  }
  const [, origin, size, root] = /^([^\n]+)\n(0|[1-9][0-9]{0,15})\n([A-Za-z0-9+/]{43}=)\n$/.exec(body) ?? [];
  if (size === undefined || root === undefined) throw new Unreadable(`${what} is not a checkpoint`);
  if (origin !== key.name) throw new Unreadable(`${what} is of another log: ${origin}`);
  return {
    text: body,
    signature: signature.subarray(4),
    size: Number(size),
    root: Buffer.from(root, 'base64'),
  };
}

function text(bytes: Buffer, name: string): string {
  if (!isUtf8(bytes)) throw new Unreadable(`${name} is not UTF-8`);
  return bytes.toString('utf8');
}

interface TarFile {
  /** Below the archive's folder. */
  readonly name: string;
  readonly size: number;
  /** The content; valid until the next file is asked for. */
  read(): Buffer;
}

/**
 * The files of the archive, in order. Only what an export consists of is read: plain ustar files of one folder. Links,
 * long-name records, repeated names and bytes after the end are refused, because tar programs differ in what they make of them.
 */
function* filesOf(descriptor: number): Generator<TarFile> {
  const total = fstatSync(descriptor).size;
  const names = new Set<string>();
  const bytesAt = (position: number, length: number): Buffer => {
    const bytes = Buffer.allocUnsafe(length);
    for (let at = 0; at < length; ) {
      const count = readSync(descriptor, bytes, at, length - at, position + at);
      if (count === 0) throw new Unreadable('the archive is cut off');
      at += count;
    }
    return bytes;
  };
  let position = 0;
  for (;;) {
    const header = bytesAt(position, 512);
    position += 512;
    if (header.every((byte) => byte === 0)) break;
    const { name, size } = parseHeader(header);
    if (names.has(name)) throw new Unreadable(`${name} is in the archive twice`);
    names.add(name);
    const from = position;
    if (from + size > total) throw new Unreadable(`the archive is cut off in ${name}`);
    const read = () => {
      if (size > MAX_FILE) throw new Unreadable(`${name} is too long`);
      return bytesAt(from, size);
    };
    yield { name, size, read };
    position += Math.ceil(size / 512) * 512;
  }
  if (total - position > 1024 * 1024) throw new Unreadable('there are bytes after the end of the archive');
  if (total === position || bytesAt(position, total - position).some((byte) => byte !== 0)) {
    throw new Unreadable('the archive does not end as it should');
  }
}

function parseHeader(header: Buffer): { name: string; size: number } {
  const field = (from: number, to: number) => header.toString('latin1', from, to).replace(/\0.*$/s, '');
  const name = field(0, 100);
  const sum = header.reduce((all, byte, at) => all + (at >= 148 && at < 156 ? 0x20 : byte), 0);
  const octal = (value: string) => (/^[0-7]+ ?$/.test(value) ? Number.parseInt(value, 8) : Number.NaN);
  const plain = field(156, 157) === '0' && field(257, 263) === 'ustar' && field(345, 500) === '';
  const size = octal(field(124, 136));
  if (octal(field(148, 155)) !== sum || !plain || Number.isNaN(size)) {
    throw new Unreadable(`${name} is not a plain file of a ustar archive`);
  }
  if (!name.startsWith(FOLDER)) throw new Unreadable(`${name} is not in ${FOLDER}`);
  return { name: name.slice(FOLDER.length), size };
}

function main(args: readonly string[]): number {
  const [path, ...flags] = args;
  const options: { key?: string; since?: string } = {};
  while (flags.length > 0) {
    const [flag, file] = flags.splice(0, 2);
    if (file === undefined || (flag !== '--key' && flag !== '--since')) return usage();
    options[flag === '--key' ? 'key' : 'since'] = readFileSync(file, 'utf8');
  }
  if (path === undefined || path.startsWith('--')) return usage();
  const started = performance.now();
  const report = verifyExport(path, options);
  for (const fact of report.facts) console.log(fact);
  for (const failure of report.failures) console.log(`FAILED    ${failure}`);
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  console.log(report.verified ? `VERIFIED  in ${seconds} s` : 'NOT VERIFIED');
  return report.verified ? 0 : 1;
}

function usage(): number {
  console.error('verify <archive.tar> [--key <log.vkey>] [--since <kept checkpoint>]');
  return 1;
}

const started = process.argv[1];
if (started !== undefined && realpathSync(started) === fileURLToPath(import.meta.url)) {
  process.exitCode = main(process.argv.slice(2));
}
