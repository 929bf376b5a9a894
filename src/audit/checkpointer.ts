/**
 * Publishes the trees that grew: full tiles first, then a checkpoint that the signer has signed. One process at a time does it, by a
 * lock of the database; who signs what is the signer's to judge, so two at once would only do work twice.
 *
 * A round takes the longest published trees first, does a bounded amount of work on each, one statement at a time on one connection, and
 * leaves the rest to the next round. No use waits for it. Who takes the lead shows the quiet trees to the signer as well, once: a
 * database that was rolled back shows at once, and a new key reaches every tree.
 */
import { createHash } from 'node:crypto';
import { codeOf } from '../errors.ts';
import type { Database, Leadership } from '../store/db.ts';
import { readHead } from '../store/log.ts';
import {
  growTiles,
  type PublishedTree,
  publishCheckpoint,
  readPublished,
  readUnpublished,
} from '../store/publication.ts';
import { encodeLeaf, type Writer } from './leaf.ts';
import { encodeVerifierKey } from './note.ts';
import type { SignAnswer, Signer, SignRequest } from './signer.ts';
import { storedNodes } from './stored-tree.ts';
import { consistencyProof } from './tree.ts';
import type { UsageLog } from './usage-log.ts';

/** Names our lock within one database: the bytes of "ktcp". */
const LOCK = 0x6b746370;
/** An answer that asks for another proof is followed this often in one round. */
const TRIES = 3;
/** Trees that one round of the sweep looks at. */
const SWEEP_TREES = 100;

export type CheckpointEvent =
  /** The signer will not sign this tree any more. An operator has to look. */
  | { readonly event: 'checkpoint-refused'; readonly tenant: string; readonly why: string }
  /** Something did not work this time and is tried again. */
  | { readonly event: 'checkpoint-failed'; readonly tenant: string | undefined; readonly error: unknown };

export interface CheckpointerOptions {
  readonly db: Database;
  readonly log: UsageLog;
  readonly writer: Writer;
  /** Opens the signer when this process has the lock; it is closed when the lock is lost. */
  openSigner(): Promise<Signer>;
  originOf(tenant: string): string;
  /** Told once of each refused tree, and of failures. */
  report(event: CheckpointEvent): void;
  /** Milliseconds between two rounds. */
  readonly everyMs?: number;
  readonly treesPerRound?: number;
  /** Tiles of one tree that one round writes. */
  readonly tilesPerRound?: number;
}

export interface Checkpointer {
  /** One round; does nothing while another process has the lock. Never rejects. Rounds do not overlap. */
  round(): Promise<void>;
  /** Whether this process had the lock in the last round. */
  readonly leading: boolean;
  /** Trees that the signer refused, with its reason. */
  readonly refused: ReadonlyMap<string, string>;
  /** Ends the rounds, and gives lock and signer back. */
  stop(): Promise<void>;
}

/** Starts the rounds, unless `everyMs` is 0. */
export function startCheckpointer(options: CheckpointerOptions): Checkpointer {
  const {
    db,
    log,
    writer,
    originOf,
    report,
    everyMs = 1_000,
    treesPerRound = 500,
    tilesPerRound = 256,
  } = options;
  const refused = new Map<string, string>();
  let lead: Leadership | undefined;
  let signer: Signer | undefined;
  let running: Promise<void> | undefined;
  let stopped = false;
  /** The last tree of the part of the sweep that is done; undefined when it is over. Who takes the lead begins one. */
  let swept: string | undefined;

  async function takeLead(): Promise<Signer | undefined> {
    if (lead !== undefined && !(await lead.held())) await giveUp();
    if (lead === undefined) {
      lead = await db.lead(LOCK);
      swept = '';
    }
    if (lead === undefined) return undefined;
    try {
      signer ??= await options.openSigner();
    } catch (error) {
      // Another process may have what this one lacks.
      await giveUp();
      throw error;
    }
    return signer;
  }

  async function giveUp(): Promise<void> {
    const held = [signer?.close(), lead?.release()];
    signer = undefined;
    lead = undefined;
    await Promise.allSettled(held);
  }

  async function publish(by: Signer): Promise<void> {
    const [key] = await by.keys();
    if (key === undefined) throw new RangeError('the signer has no key');
    const trees = await readUnpublished(db, treesPerRound, [...refused.keys()]);
    const grown = new Set(trees.map(({ tenant }) => tenant));
    const quiet = (await sweep()).filter(({ tenant }) => !grown.has(tenant) && !refused.has(tenant));
    let waiting: Wanted[] = [...trees, ...quiet].map((tree) => {
      const origin = originOf(tree.tenant);
      return {
        ...tree,
        origin,
        from: tree.published,
        key: encodeVerifierKey({ name: origin, publicKey: key }),
      };
    });
    for (let tries = 0; tries < TRIES && waiting.length > 0 && !stopped; tries += 1) {
      const asked = await prepareAll(waiting);
      if (asked.length === 0) return;
      const answers = await by.sign(asked.map(({ request }) => request));
      waiting = [];
      for (const [i, { wanted, request }] of asked.entries()) {
        const answer = answers[i];
        if (answer === undefined) continue;
        const from = await attempt(wanted.tenant, () => settle(wanted, request, answer));
        if (from !== undefined) waiting.push({ ...wanted, from });
      }
    }
  }

  /** The next part of all published trees: a tree that does not grow any more must not hide that it was rolled back. */
  async function sweep(): Promise<readonly PublishedTree[]> {
    if (swept === undefined) return [];
    const part = await readPublished(db, swept, SWEEP_TREES);
    swept = part.at(-1)?.tenant;
    return part;
  }

  async function prepareAll(trees: readonly Wanted[]): Promise<{ wanted: Wanted; request: SignRequest }[]> {
    const asked: { wanted: Wanted; request: SignRequest }[] = [];
    for (const wanted of trees) {
      const request = stopped ? undefined : await attempt(wanted.tenant, () => prepare(wanted));
      if (request !== undefined) asked.push({ wanted, request });
    }
    return asked;
  }

  /** The tree as it is now, with the proof; undefined when its tiles are not all written yet. */
  async function prepare(wanted: Wanted): Promise<SignRequest | undefined> {
    const { tenant, origin, vkey, key, from } = wanted;
    if (vkey !== key) await recordKey(wanted);
    return db.transaction(
      tenant,
      async (tx) => {
        const { size, root } = await readHead(tx);
        if (!(await growTiles(tx, tilesPerRound))) return undefined;
        const proof = from < size ? await consistencyProof(from, size, storedNodes(tx, size)) : [];
        return { origin, size, root, from, proof };
      },
      { logs: [] },
    );
  }

  /** A tree names each of its keys once, before the first checkpoint of that key: the event id is made of both. */
  async function recordKey({ tenant, origin, key }: Wanted): Promise<void> {
    const leaf = encodeLeaf(writer, tenant, { typ: 'log.key', origin, vkey: key }, keyEventId(tenant, key));
    await log.append({ kind: 'plain', tenant, rows: [{ eid: leaf.eid, leaf: leaf.bytes, guarded: false }] });
  }

  /** Stores what was signed. Gives the size that a better proof starts from, where one may help. */
  async function settle(
    { tenant, key }: Wanted,
    { size }: SignRequest,
    answer: SignAnswer,
  ): Promise<number | undefined> {
    if (answer.verdict === 'from') return answer.size;
    if (answer.verdict === 'signed') {
      await db.transaction(tenant, (tx) => publishCheckpoint(tx, { size, note: answer.note, vkey: key }), {
        logs: [],
      });
      return undefined;
    }
    // Another process may have signed what committed after our look at the tree; then a new look shows it.
    if (answer.why === 'smaller' && (await sizeOf(tenant)) >= answer.size) return answer.size;
    refused.set(tenant, answer.why);
    report({ event: 'checkpoint-refused', tenant, why: answer.why });
    return undefined;
  }

  function sizeOf(tenant: string): Promise<number> {
    return db.transaction(tenant, async (tx) => (await readHead(tx)).size, { logs: [] });
  }

  async function attempt<T>(tenant: string | undefined, work: () => Promise<T>): Promise<T | undefined> {
    try {
      return await work();
    } catch (error) {
      if (!stopped) report({ event: 'checkpoint-failed', tenant, error });
      // Without the database no other tree will do better.
      if (tenant !== undefined && codeOf(error) === 'STORE_UNAVAILABLE') throw error;
      return undefined;
    }
  }

  async function once(): Promise<void> {
    await attempt(undefined, async () => {
      const by = await takeLead();
      if (by !== undefined) await publish(by);
    });
  }

  function round(): Promise<void> {
    if (stopped) return Promise.resolve();
    running ??= once().finally(() => {
      running = undefined;
    });
    return running;
  }

  const timer = everyMs === 0 ? undefined : setInterval(() => void round(), everyMs).unref();
  return {
    round,
    refused,
    get leading() {
      return lead !== undefined;
    },
    async stop() {
      stopped = true;
      clearInterval(timer);
      await running;
      await giveUp();
    },
  };
}

interface Wanted extends PublishedTree {
  readonly origin: string;
  /** The size that the signer is believed to remember. */
  readonly from: number;
  /** Verifier key that will sign; `vkey` is the one that signed the newest checkpoint. */
  readonly key: string;
}

/** A UUIDv8 (RFC 9562) that is the same for the same tree and key. */
function keyEventId(tenant: string, vkey: string): Uint8Array {
  const id = new Uint8Array(
    createHash('sha256').update(`log.key\n${tenant}\n${vkey}`).digest().subarray(0, 16),
  );
  id[6] = 0x80 | ((id[6] ?? 0) & 0x0f);
  id[8] = 0x80 | ((id[8] ?? 0) & 0x3f);
  return id;
}
