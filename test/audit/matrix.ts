/**
 * `npm run test:audit`: falsified exports before every check there is, ours and other people's (Tessera's fsck,
 * golang.org/x/mod/sumdb, OpenSSL), and whether each saw what it should and nothing else. Says which program is missing.
 */
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { parseCheckpoint, splitNote } from '../../src/audit/note.ts';
import { encodeProof } from '../../src/audit/proof.ts';
import { TILE_WIDTH, tilePath, tileReader, widthAt } from '../../src/audit/tiles.ts';
import { consistencyProof, inclusionProof, leafHash, rootOf } from '../../src/audit/tree.ts';
import { verifyExport } from '../../src/audit/verify.ts';
import { goProgram, goVersion } from '../support/go-program.ts';
import { type Files, pack } from './exported.ts';
import { type Base, DETECTORS, type Detector, keptKey, makeBase, TAMPERS } from './tampers.ts';
import { bytesOf, leavesOf, nodesOf } from './trees.ts';

const SOURCE = fileURLToPath(new URL('./go/', import.meta.url));
const execute = promisify(execFile);

/** Undefined where the program is not installed. */
type Verdict = 'accepts' | 'refuses' | undefined;

interface Programs {
  readonly go: string | undefined;
  readonly openssl: string | undefined;
}

async function run(program: string | undefined, ...args: string[]): Promise<Verdict> {
  if (program === undefined) return undefined;
  try {
    await execute(program, args, { timeout: 150_000, maxBuffer: 16 * 1024 * 1024 });
    return 'accepts';
  } catch (error) {
    // A program that cannot be started, or does not end, has judged nothing.
    const { code } = error as { code?: unknown };
    if (typeof code !== 'number' || code === 3) throw error;
    return 'refuses';
  }
}

/** The proof of a record, made from the files as they are; undefined where they are too broken to make one. */
async function proofFrom(
  files: Files,
  index: number,
): Promise<{ proof: string; entry: Uint8Array } | undefined> {
  try {
    const checkpoint = Buffer.from(bytesOf(files.get('log/checkpoint'))).toString();
    const { size } = parseCheckpoint(splitNote(checkpoint)?.text ?? '') ?? { size: 0 };
    const tile = (level: number, at: number, width: number) =>
      bytesOf(files.get(`log/${tilePath({ kind: 'hashes', level, index: at, width })}`));
    const hashes = await inclusionProof(index, size, tileReader(size, tile));
    const bundle = Math.floor(index / TILE_WIDTH);
    const path = tilePath({ kind: 'entries', index: bundle, width: widthAt(0, bundle, size) });
    const entry = entryAt(bytesOf(files.get(`log/${path}`)), index % TILE_WIDTH);
    return { proof: encodeProof({ index, hashes, checkpoint }), entry };
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

/** The entry at this place, whatever follows it. */
function entryAt(bundle: Uint8Array, place: number): Uint8Array {
  const view = Buffer.from(bundle);
  let at = 0;
  for (let left = place; left > 0; left -= 1) at += 2 + view.readUInt16BE(at);
  return view.subarray(at + 2, at + 2 + view.readUInt16BE(at));
}

async function judge(
  folder: string,
  files: Files,
  touched: number,
  base: Base,
  programs: Programs,
): Promise<Record<Detector, Verdict>> {
  const at = (name: string) => join(folder, name);
  for (const [name, bytes] of files) {
    mkdirSync(dirname(at(name)), { recursive: true });
    writeFileSync(at(name), bytes);
  }
  const { vkey, pem } = keptKey(base);
  writeFileSync(at('export.tar'), pack(files));
  writeFileSync(at('kept.vkey'), `${vkey}\n`);
  writeFileSync(at('kept.pem'), pem);
  writeFileSync(at('kept.checkpoint'), base.kept);
  const proof = await proofFrom(files, touched);
  writeFileSync(at('record.tlog-proof'), proof?.proof ?? '');
  writeFileSync(at('record.json'), proof?.entry ?? '');
  const ours = (options: { key?: string; since?: string }): Verdict =>
    verifyExport(at('export.tar'), options).verified ? 'accepts' : 'refuses';
  const { go, openssl } = programs;
  return {
    verifier: ours({ key: vkey }),
    since: ours({ key: vkey, since: base.kept }),
    'own-key': ours({}),
    fsck: await run(go, 'fsck', at('log'), at('kept.vkey')),
    entry: await run(go, 'entry', at('record.tlog-proof'), at('record.json'), at('kept.vkey')),
    grown: await run(go, 'grown', at('kept.checkpoint'), at('log'), at('kept.vkey')),
    openssl: await run(
      openssl,
      ...['pkeyutl', '-verify', '-pubin', '-inkey', at('kept.pem'), '-rawin'],
      ...['-in', at('note.txt'), '-sigfile', at('note.sig')],
    ),
  };
}

async function findPrograms(): Promise<Programs> {
  const compiler = await goVersion();
  const openssl = await execute('openssl', ['version']).then(
    ({ stdout }) => stdout.trim(),
    () => undefined,
  );
  console.log(compiler ?? 'Go is not installed: fsck, entry and grown are not run');
  console.log(openssl ?? 'OpenSSL is not installed: the signature is not checked with it');
  const go =
    compiler === undefined ? undefined : await goProgram('audit', SOURCE, ['go.mod', 'go.sum', 'main.go']);
  return { go, openssl: openssl === undefined ? undefined : 'openssl' };
}

/** Every inclusion and consistency proof of the trees of up to 70 leaves, for the `proofs` check. */
async function smallProofs(): Promise<string> {
  const hashes = leavesOf(70).map(leafHash);
  const read = nodesOf(hashes);
  const line = (...fields: (string | number | Uint8Array)[]) =>
    fields
      .map((field) => (field instanceof Uint8Array ? Buffer.from(field).toString('base64') : field))
      .join(' ');
  const lines: string[] = [];
  for (let size = 1; size <= hashes.length; size += 1) {
    const root = rootOf(hashes.slice(0, size));
    for (let at = 0; at < size; at += 1) {
      const leaf = bytesOf(hashes[at]);
      const older = rootOf(hashes.slice(0, at + 1));
      lines.push(line('inclusion', at, size, leaf, root, ...(await inclusionProof(at, size, read))));
      lines.push(
        line('consistency', at + 1, size, older, root, ...(await consistencyProof(at + 1, size, read))),
      );
    }
  }
  return `${lines.join('\n')}\n`;
}

/** Whether golang.org/x/mod/sumdb accepts all of them, and none after a change of the last one. */
async function checkProofs(go: string | undefined): Promise<boolean> {
  const folder = mkdtempSync(join(tmpdir(), 'keytether-audit-'));
  const file = join(folder, 'proofs');
  try {
    const proofs = await smallProofs();
    writeFileSync(file, proofs);
    const good = await run(go, 'proofs', file);
    writeFileSync(file, proofs.replace(/inclusion 69 70/, 'inclusion 68 70'));
    const bad = await run(go, 'proofs', file);
    const count = proofs.trim().split('\n').length;
    console.log(
      `\n${count} proofs of all sizes to 70: ${good ?? 'not run'}; with one changed: ${bad ?? 'not run'}`,
    );
    return go === undefined || (good === 'accepts' && bad === 'refuses');
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function main(): Promise<number> {
  const programs = await findPrograms();
  const proofsHold = await checkProofs(programs.go);
  const base = await makeBase();
  const width = Math.max(...TAMPERS.map(({ name }) => name.length));
  console.log(`\n${''.padEnd(width)}  ${DETECTORS.map((detector) => detector.padEnd(8)).join('  ')}`);
  let wrong = proofsHold ? 0 : 1;
  for (const tamper of TAMPERS) {
    const folder = mkdtempSync(join(tmpdir(), 'keytether-audit-'));
    try {
      const verdicts = await judge(folder, await tamper.make(base), tamper.touched, base, programs);
      const cells = DETECTORS.map((detector) => {
        const verdict = verdicts[detector];
        const expected = tamper.seenBy.includes(detector) ? 'refuses' : 'accepts';
        if (verdict === undefined) return 'not run';
        if (verdict !== expected) wrong += 1;
        return verdict === expected ? verdict : `${verdict}!`;
      });
      console.log(`${tamper.name.padEnd(width)}  ${cells.map((cell) => cell.padEnd(8)).join('  ')}`);
    } finally {
      rmSync(folder, { recursive: true });
    }
  }
  console.log(wrong === 0 ? '\nas expected' : `\n${wrong} checks did not go as expected (verdicts marked !)`);
  return wrong === 0 ? 0 : 1;
}

process.exitCode = await main();
