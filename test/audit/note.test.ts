import { generateKeyPairSync } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  encodeCheckpoint,
  encodeVerifierKey,
  localSigner,
  parseCheckpoint,
  parseVerifierKey,
  publicKeyPem,
  signNote,
  splitNote,
  verifyNote,
} from '../../src/audit/note.ts';
import { testSigner } from './trees.ts';

const signer = testSigner('log.example/a', 1);
const other = testSigner('log.example/a', 2);
const TEXT = 'first line\n\nafter an empty line\n';

/** The example of golang.org/x/mod/sumdb/note (BSD-3-Clause) and of c2sp.org/signed-note. */
const PETER = 'PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW';
const PETER_NOTE =
  "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n" +
  '— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n';

describe('keys', () => {
  test('the key of another implementation is read and written back', () => {
    const key = parseVerifierKey(PETER);
    expect(key?.name).toBe('PeterNeumann');
    expect(key && encodeVerifierKey(key)).toBe(PETER);
  });

  test.each([
    ['', 'nothing'],
    ['PeterNeumann+c74f20a3', 'no key'],
    [PETER.replace('c74f20a3', 'c74f20a4'), 'another id'],
    [PETER.replace('c74f20a3', 'C74F20A3'), 'an id in upper case'],
    [PETER.replace('Peter', 'Paul'), 'another name'],
    [PETER.replace('+AR', '+BR'), 'another type'],
    [`${PETER} `, 'a space after it'],
    [`${PETER}\n`, 'a newline after it'],
    [PETER.slice(0, -4), 'a short key'],
    [`Peter Neumann${PETER.slice(12)}`, 'a space in the name'],
  ])('%j is no key: %s', (text) => {
    expect(parseVerifierKey(text)).toBeUndefined();
  });

  test('a signer needs an Ed25519 private key and a name without spaces or plus signs', () => {
    const { privateKey, publicKey } = generateKeyPairSync('ed25519');
    const rsa = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
    expect(() => localSigner('a', publicKey)).toThrow(RangeError);
    expect(() => localSigner('a', rsa)).toThrow(RangeError);
    for (const name of ['', 'a b', 'a+b', 'a\u00a0b', 'a\n', '\ud800']) {
      expect(() => localSigner(name, privateKey)).toThrow(RangeError);
    }
    expect(publicKeyPem(localSigner('a', privateKey))).toBe(
      publicKey.export({ format: 'pem', type: 'spki' }).toString(),
    );
  });
});

describe('notes', () => {
  test('the note of another implementation verifies', () => {
    const key = parseVerifierKey(PETER);
    expect(key && verifyNote(PETER_NOTE, [key])?.text).toBe(PETER_NOTE.slice(0, PETER_NOTE.indexOf('\n—')));
  });

  test('what is signed is verified by its key only, whatever else signed it', async () => {
    const note = await signNote(TEXT, signer);
    const both = note + (await signNote(TEXT, other)).slice(TEXT.length + 1);
    expect(verifyNote(note, [signer])).toEqual({ text: TEXT, keys: [signer] });
    expect(verifyNote(note, [other])).toBeUndefined();
    expect(verifyNote(note, [])).toBeUndefined();
    expect(verifyNote(both, [signer])?.keys).toEqual([signer]);
    expect(verifyNote(both, [other, signer])?.keys).toEqual([signer, other]);
    expect(splitNote(both)?.signatures.map(({ name }) => name)).toEqual([signer.name, signer.name]);
  });

  test('a false signature of a known key condemns the note, a false one of an unknown key does not', async () => {
    const note = await signNote(TEXT, signer);
    const forged = (await signNote('another text\n', other)).slice('another text\n\n'.length);
    expect(verifyNote(note + forged, [signer])?.text).toBe(TEXT);
    expect(verifyNote(note + forged, [signer, other])).toBeUndefined();
  });

  test('no change of a character of the text or the signature goes through', async () => {
    const note = await signNote(TEXT, signer);
    const from = note.indexOf('\n— ') + signer.name.length + 4;
    await fc.assert(
      fc.property(fc.nat(note.length - 2), fc.string({ unit: 'binary', maxLength: 2 }), (at, put) => {
        fc.pre(at < TEXT.length || at >= from);
        const changed = note.slice(0, at) + put + note.slice(at + 1);
        fc.pre(changed !== note);
        expect(verifyNote(changed, [signer])).toBeUndefined();
      }),
    );
  });

  test('what is not in the form of a note is refused', async () => {
    const note = await signNote(TEXT, signer);
    const line = note.slice(TEXT.length + 1);
    const bad = [
      '',
      TEXT,
      note.slice(0, -1),
      `${note}\n`,
      note.replace('— ', '- '),
      note.replace('— ', '—  '),
      note.replace('\n—', '\n —'),
      note.replace('first', 'fir\tst'),
      note.replace('first', 'fir\rst'),
      note.replace('first', '\ud800'),
      `${TEXT}${line}`,
      `${TEXT}\n`,
      `${TEXT}\n${line.trim()} more\n`,
      `${TEXT}\n— ${signer.name} AAAAAA==\n`,
      note.replace('=\n', '\n'),
      note + line.repeat(100),
      `\ufeff${note}`,
    ];
    for (const text of bad) expect([text, verifyNote(text, [signer])]).toEqual([text, undefined]);
    expect(verifyNote(note + line.repeat(15), [signer])?.keys).toEqual([signer]);
  });

  test('a text that no note can carry is not signed', async () => {
    for (const text of ['', 'no newline', 'tab\t\n', '\ud800\n']) {
      await expect(signNote(text, signer)).rejects.toThrow(RangeError);
    }
    const short = { ...signer, sign: () => new Uint8Array(63) };
    await expect(signNote(TEXT, short)).rejects.toThrow(RangeError);
  });
});

describe('checkpoints', () => {
  const root = Uint8Array.from({ length: 32 }, (_, at) => at);
  const text = `log.example/a\n70000\n${Buffer.from(root).toString('base64')}\n`;

  test('are origin, size and root, a line each', () => {
    expect(encodeCheckpoint({ origin: 'log.example/a', size: 70_000, root })).toBe(text);
    expect(parseCheckpoint(text)).toEqual({ origin: 'log.example/a', size: 70_000, root });
  });

  test.each([
    ['no origin', text.replace('log.example/a', '')],
    ['a leading zero', text.replace('70000', '070000')],
    ['a sign', text.replace('70000', '+70000')],
    ['a size beyond 2^53', text.replace('70000', '9007199254740992')],
    ['an extension line', `${text}extension\n`],
    ['an empty line', `${text}\n`],
    ['no last newline', text.slice(0, -1)],
    ['a short root', text.replace('AAEC', '')],
    ['spare bits in the root', text.replace('Hh8=', 'Hh9=')],
    ['no padding', text.replace('=', '')],
  ])('%s is refused', (_, bad) => {
    expect(bad).not.toBe(text);
    expect(parseCheckpoint(bad)).toBeUndefined();
  });

  test('what cannot be read back is not written', () => {
    const good = { origin: 'a', size: 1, root };
    for (const bad of [{ origin: '' }, { origin: 'a\nb' }, { origin: 'a\tb' }, { size: -1 }, { size: 0.5 }]) {
      expect(() => encodeCheckpoint({ ...good, ...bad })).toThrow(RangeError);
    }
    expect(() => encodeCheckpoint({ ...good, root: root.subarray(1) })).toThrow(RangeError);
  });
});
