/** The signer's rules, its memory on disk, and both behind a socket. */
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import {
  appendFileSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { localSigner, type NoteKey, parseCheckpoint, verifyNote } from '../../src/audit/note.ts';
import { openSigner, type Signer, type SignRequest } from '../../src/audit/signer.ts';
import { newLogKeyFile, parseLogKeys } from '../../src/audit/signer-keys.ts';
import { createSignerMemory, openSignerMemory } from '../../src/audit/signer-memory.ts';
import { remoteSigner, serveSigner } from '../../src/audit/signer-process.ts';
import { consistencyProof, leafHash, type ReadNode, rootOf } from '../../src/audit/tree.ts';

const ORIGIN = 'log.test/log/ten_x';
const [KEY, OLDER] = [newKey(), newKey()];

function newKey(): KeyObject {
  return generateKeyPairSync('ed25519').privateKey;
}

function noteKey(key: KeyObject, name = ORIGIN): NoteKey {
  return { name, publicKey: localSigner(name, key).publicKey };
}

/** Leaf hashes of a log; `mark` makes another history. */
function history(size: number, mark = 'a', forkAt = 0): Uint8Array[] {
  return Array.from({ length: size }, (_, i) => leafHash(Buffer.from(`${i >= forkAt ? mark : 'a'}${i}`)));
}

function nodesOf(hashes: readonly Uint8Array[]): ReadNode {
  return (level, index) => rootOf(hashes.slice(index * 2 ** level, (index + 1) * 2 ** level));
}

async function asking(from: number, hashes: readonly Uint8Array[], origin = ORIGIN): Promise<SignRequest> {
  const size = hashes.length;
  const proof = from > 0 && from < size ? await consistencyProof(from, size, nodesOf(hashes)) : [];
  return { origin, size, root: rootOf(hashes), from, proof };
}

let folder: string;
let open: { close(): Promise<void> }[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'keytether-signer-'));
  createSignerMemory(folder);
  open = [];
});
afterEach(async () => {
  for (const each of open) await each.close();
  rmSync(folder, { recursive: true, force: true });
});

async function signerHere(keys: readonly KeyObject[] = [KEY]): Promise<Signer> {
  const signer = await openSigner({ folder, keys });
  open.push(signer);
  return signer;
}

async function close(signer: { close(): Promise<void> }): Promise<void> {
  open.splice(open.indexOf(signer), 1);
  await signer.close();
}

const memoryFile = () => join(folder, 'signer-memory');

/** Both ways to the signer must keep the same rules. */
describe.each(['in this process', 'behind a socket'])('a signer %s', (where) => {
  async function start(keys: readonly KeyObject[] = [KEY]): Promise<Signer> {
    const signer = await openSigner({ folder, keys });
    if (where === 'in this process') {
      open.push(signer);
      return signer;
    }
    const path = join(folder, 'socket');
    open.push(await serveSigner(signer, path));
    return remoteSigner(path);
  }

  test('signs a tree that it sees for the first time, and its growth', async () => {
    const signer = await start();
    for (const [from, size] of [
      [0, 3],
      [3, 4],
      [4, 300],
    ] as const) {
      const hashes = history(size);
      const [answer] = await signer.sign([await asking(from, hashes)]);
      const note = answer?.verdict === 'signed' ? verifyNote(answer.note, [noteKey(KEY)]) : undefined;
      expect(note && parseCheckpoint(note.text)).toEqual({ origin: ORIGIN, size, root: rootOf(hashes) });
    }
  });

  test('refuses a smaller tree, another root, a fork and a wrong proof, and goes on signing the true one', async () => {
    const signer = await start();
    await signer.sign([await asking(0, history(10))]);
    const cases: [SignRequest, object][] = [
      [await asking(0, history(9)), { verdict: 'refused', why: 'smaller', size: 10 }],
      [await asking(10, history(10, 'b', 5)), { verdict: 'refused', why: 'other-root', size: 10 }],
      [await asking(10, history(20, 'b', 5)), { verdict: 'refused', why: 'no-proof', size: 10 }],
      [
        { ...(await asking(10, history(20))), proof: [] },
        { verdict: 'refused', why: 'no-proof', size: 10 },
      ],
      [await asking(9, history(20)), { verdict: 'from', size: 10 }],
      [await asking(0, history(20, 'b')), { verdict: 'from', size: 10 }],
    ];
    const answers = await signer.sign(cases.map(([request]) => request));
    expect(answers).toEqual(cases.map(([, answer]) => answer));
    expect(await signer.sign([await asking(10, history(20))])).toMatchObject([{ verdict: 'signed' }]);
  });

  test('signs the same tree again with the same words', async () => {
    const signer = await start();
    const first = await signer.sign([await asking(0, history(7))]);
    expect(await signer.sign([await asking(7, history(7))])).toEqual(first);
  });

  test('origins do not touch each other, and one call may ask twice about one', async () => {
    const signer = await start();
    const other = 'log.test/log/ten_y';
    const answers = await signer.sign([
      await asking(0, history(5)),
      await asking(0, history(3, 'z'), other),
      await asking(5, history(6)),
      await asking(0, history(4)),
    ]);
    expect(answers.map(({ verdict }) => verdict)).toEqual(['signed', 'signed', 'signed', 'refused']);
  });

  test('calls at once are judged one after the other', async () => {
    const signer = await start();
    const [one, two] = await Promise.all([
      signer.sign([await asking(0, history(5))]),
      signer.sign([await asking(0, history(5, 'b'))]),
    ]);
    expect([one?.[0]?.verdict, two?.[0]?.verdict].sort()).toEqual(['refused', 'signed']);
  });

  test('an older key behind the first signs too, and the first is what it names', async () => {
    const signer = await start([KEY, OLDER]);
    const [answer] = await signer.sign([await asking(0, history(3))]);
    if (answer?.verdict !== 'signed') throw new Error('not signed');
    for (const key of [KEY, OLDER]) {
      expect(verifyNote(answer.note, [noteKey(key)])?.keys).toHaveLength(1);
    }
    expect(verifyNote(answer.note, [noteKey(newKey())])).toBeUndefined();
    expect((await signer.keys()).map((key) => Buffer.from(key))).toEqual(
      [KEY, OLDER].map((key) => Buffer.from(noteKey(key).publicKey)),
    );
  });

  test('an origin that no checkpoint can have is an error and leaves no memory', async () => {
    const signer = await start();
    const bad = { ...(await asking(0, history(3))), origin: 'two\nlines' };
    await expect(signer.sign([await asking(0, history(3), 'a.test/log'), bad])).rejects.toThrow();
    expect(readFileSync(memoryFile(), 'utf8')).not.toContain('a.test/log');
  });
});

describe('the memory', () => {
  const head = (size: number) => new Map([[ORIGIN, { size, root: rootOf(history(size)) }]]);

  test('outlives the process: what was signed is refused to another history afterwards', async () => {
    const first = await signerHere();
    await first.sign([await asking(0, history(10))]);
    await close(first);
    const second = await signerHere();
    expect(await second.sign([await asking(0, history(8))])).toMatchObject([{ why: 'smaller' }]);
    expect(await second.sign([await asking(10, history(12, 'b'))])).toMatchObject([{ why: 'no-proof' }]);
    expect(await second.sign([await asking(10, history(12))])).toMatchObject([{ verdict: 'signed' }]);
  });

  test('is on disk before an answer is given', async () => {
    const signer = await signerHere();
    const [answer] = await signer.sign([await asking(0, history(10))]);
    expect(answer?.verdict).toBe('signed');
    expect(readFileSync(memoryFile(), 'utf8')).toContain(`["${ORIGIN}",10,`);
  });

  test('a death between journal and answer costs nothing: the same tree is signed when it is asked for again', async () => {
    const memory = await openSignerMemory(folder);
    await memory.remember(head(10));
    await memory.close();
    const signer = await signerHere();
    // The asker knows of no signature yet.
    expect(await signer.sign([await asking(0, history(10))])).toMatchObject([{ verdict: 'signed' }]);
    expect(await signer.sign([await asking(0, history(12))])).toEqual([{ verdict: 'from', size: 10 }]);
    expect(await signer.sign([await asking(10, history(12))])).toMatchObject([{ verdict: 'signed' }]);
  });

  test('a line cut at any byte is forgotten, and what was before it is not', async () => {
    const memory = await openSignerMemory(folder);
    await memory.remember(head(4));
    const whole = statSync(memoryFile()).size;
    await memory.remember(head(9));
    await memory.close();
    const journal = readFileSync(memoryFile());
    for (let length = whole; length < journal.length; length += 1) {
      writeFileSync(memoryFile(), journal.subarray(0, length));
      const again = await openSignerMemory(folder);
      expect(again.get(ORIGIN)?.size).toBe(4);
      await again.remember(head(5));
      await again.close();
      const after = await openSignerMemory(folder);
      expect(after.get(ORIGIN)?.size).toBe(5);
      await after.close();
    }
  });

  test('a changed byte anywhere in a whole line stops the signer', async () => {
    const memory = await openSignerMemory(folder);
    await memory.remember(head(4));
    await memory.remember(head(9));
    await memory.close();
    const journal = readFileSync(memoryFile());
    for (let at = 0; at < journal.length - 1; at += 7) {
      const changed = Buffer.from(journal);
      changed[at] = (changed[at] ?? 0) ^ 1;
      writeFileSync(memoryFile(), changed);
      await expect(openSignerMemory(folder)).rejects.toThrow('damaged');
    }
    writeFileSync(memoryFile(), '');
    await expect(openSignerMemory(folder)).rejects.toThrow('damaged');
  });

  test('a lost memory is not taken for a new one', async () => {
    rmSync(memoryFile());
    await expect(openSignerMemory(folder)).rejects.toThrow('restore it');
    expect(existsSync(memoryFile())).toBe(false);
  });

  test('two signers cannot share one', async () => {
    const first = await signerHere();
    await expect(openSigner({ folder, keys: [KEY] })).rejects.toThrow('in use by process');
    await close(first);
    await signerHere();
  });

  test.each([
    ['written to', () => appendFileSync(memoryFile(), 'x\n')],
    ['cut', () => truncateSync(memoryFile(), 5)],
    [
      'replaced',
      () => {
        const text = readFileSync(memoryFile());
        rmSync(memoryFile());
        writeFileSync(memoryFile(), text);
      },
    ],
  ])('a memory that is %s behind the lock signs nothing any more', async (_name, disturb) => {
    const signer = await signerHere();
    await signer.sign([await asking(0, history(3))]);
    disturb();
    await expect(signer.sign([await asking(3, history(4))])).rejects.toThrow('changed by another process');
    await expect(signer.sign([await asking(3, history(4))])).rejects.toThrow('start the signer anew');
  });

  test('is written anew when it has grown, and loses nothing', async () => {
    const memory = await openSignerMemory(folder, { compactBytes: 2_000 });
    const origins = Array.from({ length: 5 }, (_, i) => `log.test/log/${i}`);
    let largest = 0;
    for (let size = 1; size <= 40; size += 1) {
      await memory.remember(new Map(origins.map((origin) => [origin, { size, root: rootOf(history(1)) }])));
      largest = Math.max(largest, statSync(memoryFile()).size);
    }
    await memory.close();
    expect(largest).toBeLessThan(4_000);
    const again = await openSignerMemory(folder);
    expect(origins.map((origin) => again.get(origin)?.size)).toEqual(origins.map(() => 40));
    await again.close();
  });
});

describe('the key file', () => {
  test('holds one to four Ed25519 keys', () => {
    expect(parseLogKeys(newLogKeyFile())).toHaveLength(1);
    expect(parseLogKeys(`${newLogKeyFile()}\n${newLogKeyFile()}`)).toHaveLength(2);
    const x25519 = generateKeyPairSync('x25519')
      .privateKey.export({ format: 'pem', type: 'pkcs8' })
      .toString();
    for (const bad of ['', 'key', `${newLogKeyFile()}#`, newLogKeyFile().repeat(5), x25519]) {
      expect(() => parseLogKeys(bad)).toThrow('log key file');
    }
  });
});
