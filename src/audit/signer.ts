/**
 * The signer of checkpoints. It signs a tree only when a proof shows that it is the one that it signed before and more, so
 * whoever can write the database, or restores an old copy of it, gets no signature for another history. What it
 * signs is in its memory before the signature leaves.
 */
import type { KeyObject } from 'node:crypto';
import { encodeCheckpoint, localSigner, signNote } from './note.ts';
import { openSignerMemory, type TreeHead } from './signer-memory.ts';
import { emptyRoot, verifyConsistency } from './tree.ts';

export interface SignRequest extends TreeHead {
  readonly origin: string;
  /** The size that `proof` starts from. */
  readonly from: number;
  /** RFC 6962 consistency proof from `from` to `size`, 32 bytes each. */
  readonly proof: readonly Uint8Array[];
}

export type SignAnswer =
  | { readonly verdict: 'signed'; readonly note: string }
  /** Nothing wrong yet: the proof must start from this size. */
  | { readonly verdict: 'from'; readonly size: number }
  /** The tree is not the one that was signed at `size`: it is smaller, has another root there, or does not contain it. */
  | {
      readonly verdict: 'refused';
      readonly why: 'smaller' | 'other-root' | 'no-proof';
      readonly size: number;
    };

/** The same in this process and over a socket. Every method throws when the signer cannot be reached or cannot keep its memory. */
export interface Signer {
  /** 32 bytes each: the public key that signs, then those that sign beside it. */
  keys(): Promise<readonly Uint8Array[]>;
  /** One answer for each request, in order. */
  sign(requests: readonly SignRequest[]): Promise<readonly SignAnswer[]>;
  close(): Promise<void>;
}

/** A signer in this process. Throws what {@link openSignerMemory} throws. */
export async function openSigner(options: {
  readonly folder: string;
  /** The first one is what the log names. */
  readonly keys: readonly KeyObject[];
}): Promise<Signer> {
  const { folder, keys } = options;
  const memory = await openSignerMemory(folder);
  let turn: Promise<unknown> = Promise.resolve();

  async function signAll(requests: readonly SignRequest[]): Promise<readonly SignAnswer[]> {
    const fresh = new Map<string, TreeHead>();
    const answers: (SignAnswer | SignRequest)[] = [];
    for (const request of requests) {
      // What cannot be written as a checkpoint throws before anything is remembered.
      encodeCheckpoint(request);
      const known = fresh.get(request.origin) ?? memory.get(request.origin);
      const refusal = judge(known, request);
      answers.push(refusal ?? request);
      if (refusal === undefined && request.size !== known?.size) {
        fresh.set(request.origin, { size: request.size, root: request.root });
      }
    }
    await memory.remember(fresh);
    return Promise.all(
      answers.map(async (each) =>
        'verdict' in each ? each : { verdict: 'signed' as const, note: await noteOf(each, keys) },
      ),
    );
  }

  return {
    keys: async () => keys.map((key) => localSigner('key', key).publicKey),
    sign(requests) {
      const mine = turn.then(() => signAll(requests));
      turn = mine.catch(() => undefined);
      return mine;
    },
    async close() {
      await turn;
      await memory.close();
    },
  };
}

/** Undefined where it may be signed. */
function judge(known: TreeHead | undefined, request: SignRequest): SignAnswer | undefined {
  const { size: before, root } = known ?? { size: 0, root: emptyRoot() };
  if (request.size < before) return { verdict: 'refused', why: 'smaller', size: before };
  if (request.size === before) {
    const same = Buffer.compare(request.root, root) === 0;
    return same ? undefined : { verdict: 'refused', why: 'other-root', size: before };
  }
  if (request.from !== before) return { verdict: 'from', size: before };
  if (verifyConsistency(before, request.size, root, request.root, request.proof)) return undefined;
  return { verdict: 'refused', why: 'no-proof', size: before };
}

/** The checkpoint with one signature of each key; the name of the keys is the origin. */
async function noteOf(head: SignRequest, keys: readonly KeyObject[]): Promise<string> {
  const text = encodeCheckpoint(head);
  const notes = await Promise.all(keys.map((key) => signNote(text, localSigner(head.origin, key))));
  return `${text}\n${notes.map((note) => note.slice(text.length + 1)).join('')}`;
}
