/**
 * Ways to falsify an export, and who must see each: exactly those, so that a check that sees more or less than is said
 * of it fails the test. The log has 600 records; whoever checks kept the key, and a checkpoint of 300 records.
 */
import { encodeVerifierKey, type NoteSigner, publicKeyPem } from '../../src/audit/note.ts';
import { decodeBundle, encodeBundle } from '../../src/audit/tiles.ts';
import { checkpointOf, type Files, filesOf, originOf, recordsOf } from './exported.ts';
import { bytesOf, testSigner } from './trees.ts';

/**
 * `verifier`: ours, with the kept key. `since`: the same, with the kept checkpoint. `own-key`: ours, with the archive's key.
 * `fsck`, `entry`, `grown`: other people's code, for the whole log, for the record that was touched (its proof made from
 * the export as it is), and for the kept checkpoint. `openssl`: the signature alone.
 */
export const DETECTORS = ['verifier', 'since', 'own-key', 'fsck', 'entry', 'grown', 'openssl'] as const;
export type Detector = (typeof DETECTORS)[number];

export interface Tamper {
  readonly name: string;
  /** Index of the record whose proof is asked for. */
  readonly touched: number;
  readonly seenBy: readonly Detector[];
  make(base: Base): Promise<Files>;
}

export interface Base {
  readonly signer: NoteSigner;
  readonly records: readonly Uint8Array[];
  readonly files: Files;
  /** The kept checkpoint. */
  readonly kept: string;
}

const KEPT = 300;
const ORIGIN = originOf('ten_a');
const FIRST = 'log/tile/entries/000';
const SECOND_TILE = 'log/tile/0/001';
const LAST = 'log/tile/entries/002.p/88';
const UPPER = 'log/tile/1/000.p/2';

const OURS: readonly Detector[] = ['verifier', 'since', 'own-key'];
const WHOLE: readonly Detector[] = [...OURS, 'fsck', 'entry'];

export async function makeBase(): Promise<Base> {
  const signer = testSigner(ORIGIN, 7);
  const records = recordsOf('ten_a', 600);
  const files = await filesOf(records, signer);
  return { signer, records, files, kept: await checkpointOf(records.slice(0, KEPT), signer) };
}

export const TAMPERS: readonly Tamper[] = [
  { name: 'nothing', touched: 200, seenBy: [], make: async ({ files }) => new Map(files) },
  {
    name: 'a field edited',
    touched: 200,
    seenBy: WHOLE,
    make: async ({ files }) => inBundle(files, FIRST, 256, (list) => list.with(200, edited(list[200]))),
  },
  {
    name: 'two records swapped',
    touched: 200,
    seenBy: WHOLE,
    make: async ({ files }) =>
      inBundle(files, FIRST, 256, (list) => list.with(200, bytesOf(list[201])).with(201, bytesOf(list[200]))),
  },
  {
    name: 'a record deleted',
    touched: 200,
    seenBy: WHOLE,
    make: async ({ files }) => inBundle(files, FIRST, 256, (list) => list.toSpliced(200, 1)),
  },
  {
    name: 'a record in the place of its neighbour',
    touched: 201,
    seenBy: WHOLE,
    make: async ({ files }) => inBundle(files, FIRST, 256, (list) => list.with(201, bytesOf(list[200]))),
  },
  {
    name: 'a record repeated behind the last',
    touched: 599,
    // The library looks at no more records than the checkpoint counts.
    seenBy: OURS,
    make: async ({ files }) => inBundle(files, LAST, 88, (list) => [...list, bytesOf(list[87])]),
  },
  {
    name: 'a file of records cut off',
    touched: 599,
    seenBy: WHOLE,
    make: async ({ files }) => put(files, LAST, bytesOf(files.get(LAST)).subarray(0, -10)),
  },
  {
    name: 'a file of records removed',
    touched: 200,
    seenBy: WHOLE,
    make: async ({ files }) => new Map([...files].filter(([name]) => name !== FIRST)),
  },
  {
    name: 'the last files removed',
    touched: 599,
    seenBy: [...WHOLE, 'grown'],
    make: async ({ files }) => new Map([...files].slice(0, [...files.keys()].indexOf(LAST))),
  },
  {
    name: 'the last record dropped, size and root in the checkpoint put right',
    touched: 200,
    seenBy: DETECTORS,
    make: async ({ files, records, signer }) => {
      const shorter = await filesOf(records.slice(0, 599), signer);
      const signatures = Buffer.from(bytesOf(files.get('log/checkpoint')))
        .toString()
        .split('\n\n')[1];
      const note = Buffer.from(`${Buffer.from(bytesOf(shorter.get('note.txt')))}\n${signatures}`);
      return put(put(shorter, 'log/checkpoint', note), 'note.sig', bytesOf(files.get('note.sig')));
    },
  },
  {
    name: 'a bit flipped in a tile of record hashes',
    touched: 281,
    seenBy: [...WHOLE, 'grown'],
    make: async ({ files }) => put(files, SECOND_TILE, flipped(files.get(SECOND_TILE), (280 - 256) * 32)),
  },
  {
    name: 'a bit flipped in an upper tile',
    touched: 200,
    seenBy: [...WHOLE, 'grown'],
    make: async ({ files }) => put(files, UPPER, flipped(files.get(UPPER), 40)),
  },
  {
    name: 'a field edited, tiles rebuilt, old checkpoint',
    touched: 200,
    seenBy: [...WHOLE, 'grown'],
    make: async ({ files, records, signer }) => {
      const rebuilt = await filesOf(records.with(200, edited(records[200])), signer);
      for (const name of ['log/checkpoint', 'note.txt', 'note.sig'])
        rebuilt.set(name, bytesOf(files.get(name)));
      return rebuilt;
    },
  },
  {
    name: 'rewritten and signed with another key',
    touched: 200,
    seenBy: DETECTORS,
    make: async ({ files, records }) => {
      const forged = await filesOf(records.with(200, edited(records[200])), testSigner(ORIGIN, 8));
      for (const name of ['log.vkey', 'log.pem']) forged.set(name, bytesOf(files.get(name)));
      return forged;
    },
  },
  {
    name: 'rewritten and signed with another key, which lies in the archive',
    touched: 200,
    // Whoever trusts the key in the archive believes it.
    seenBy: DETECTORS.filter((detector) => detector !== 'own-key'),
    make: async ({ records }) => filesOf(records.with(200, edited(records[200])), testSigner(ORIGIN, 8)),
  },
  {
    name: 'rewritten and signed with the same key',
    touched: 200,
    seenBy: ['since', 'grown'],
    make: async ({ records, signer }) => filesOf(records.with(200, edited(records[200])), signer),
  },
  {
    name: 'cut to 250 records and signed with the same key',
    touched: 200,
    seenBy: ['since', 'grown'],
    make: async ({ records, signer }) => filesOf(records.slice(0, 250), signer),
  },
  {
    name: 'a record twice, signed with the same key',
    touched: 451,
    // Only a reader of the records sees the event id again.
    seenBy: OURS,
    make: async ({ records, signer }) => filesOf(records.toSpliced(451, 0, bytesOf(records[450])), signer),
  },
  {
    name: 'rewritten behind the kept checkpoint and signed with the same key',
    touched: 450,
    // What no kept checkpoint covers, its signer can still change.
    seenBy: [],
    make: async ({ records, signer }) => filesOf(records.with(450, edited(records[450])), signer),
  },
];

/** The key and the PEM that the reader kept. */
export function keptKey(base: Base): { readonly vkey: string; readonly pem: string } {
  return { vkey: encodeVerifierKey(base.signer), pem: publicKeyPem(base.signer) };
}

function put(files: Files, name: string, bytes: Uint8Array): Files {
  return new Map(files).set(name, bytes);
}

function inBundle(
  files: Files,
  name: string,
  width: number,
  change: (records: readonly Uint8Array[]) => readonly Uint8Array[],
): Files {
  return put(files, name, encodeBundle(change(decodeBundle(bytesOf(files.get(name)), width))));
}

/** The record with another scope of the same length, so still a record. */
function edited(record: Uint8Array | undefined): Uint8Array {
  const text = Buffer.from(bytesOf(record)).toString();
  return Buffer.from(text.replace('"sc":"default"', '"sc":"another"'));
}

function flipped(bytes: Uint8Array | undefined, at: number): Uint8Array {
  return bytesOf(bytes).map((byte, index) => (index === at ? byte ^ 1 : byte));
}
