/**
 * The records of the usage log as the bytes that are hashed, stored and served: UTF-8 JSON, names sorted, no white space,
 * only texts, integers, booleans, lists and objects. Nothing re-encodes them later, so what is written here is final.
 *
 * Common fields: `v` the version of this page, `eid` the event's UUIDv7, `t` the writer's clock in microseconds since
 * 1970 (a claim, not evidence), `tn` the tree's tenant, `typ`, and `svc` the process that wrote it.
 */
import { randomUUID } from 'node:crypto';
import { LEAF_VERSION } from '../brand.ts';
import type { ErrorCode } from '../errors.ts';

/** Who asked: the id and role of the principal. */
export interface Actor {
  readonly id: string;
  readonly role: string;
}

export interface LeafKey {
  readonly id: string;
  readonly ver: number;
}

/** One call to the customer's KMS. */
export interface LeafCall {
  /** The correlation id that we planted in their log. */
  readonly cid: string;
  /** Our id of the customer key. */
  readonly cmk: string;
  /** The vendor's full name of the key. */
  readonly key: string;
  /** The provider, such as `aws-kms`. */
  readonly prv: string;
  /** Their request id; empty when there was no answer. */
  readonly rid?: string;
}

export type KmsOperation = 'wrap' | 'unwrap' | 'describe' | 'check-setup';
export type LeafOutcome = 'ok' | 'denied' | 'error' | 'unknown';

/** What a record says, by type. Fields with the value `undefined` are left out. */
export type LeafBody =
  /** Leaf 0 of every tree. */
  | { readonly typ: 'log.genesis'; readonly origin: string }
  | { readonly typ: 'writer.start'; readonly durability: string }
  /** The checkpoints that cover this record are signed by the key of this verifier key (c2sp.org/signed-note). */
  | { readonly typ: 'log.key'; readonly origin: string; readonly vkey: string }
  /** A call to the customer's KMS is about to leave; `n` uses wait for it. */
  | {
      readonly typ: 'kms.intent';
      readonly op: KmsOperation;
      readonly kms: LeafCall;
      /** The root; absent where the call is about no key of ours. */
      readonly key: LeafKey | undefined;
      readonly sc: string | undefined;
      readonly n: number;
    }
  /** How that call ended. `kref` is the event id of the intent. */
  | {
      readonly typ: 'kms.result';
      readonly op: KmsOperation;
      readonly kms: LeafCall;
      readonly key: LeafKey | undefined;
      readonly kref: string;
      readonly out: LeafOutcome;
      readonly rsn: ErrorCode | undefined;
    }
  /** One use of a key, or one refusal of it. `ok` means authorised for release. `env`: SHA-256 of each envelope, base64. */
  | {
      readonly typ: 'key.use';
      readonly op: 'encrypt' | 'decrypt';
      readonly act: Actor;
      readonly req: string;
      readonly sc: string;
      readonly pu: string;
      readonly key: LeafKey | undefined;
      readonly env: readonly string[];
      readonly n: number;
      readonly kref: string | undefined;
      readonly out: LeafOutcome;
      readonly rsn: ErrorCode | undefined;
      readonly dtl: string | undefined;
    }
  /** What an earlier `key.use` allowed was not handed out. `ref` is its event id. */
  | { readonly typ: 'use.not_released'; readonly ref: string; readonly kref: string; readonly rsn: ErrorCode }
  /** Someone was refused before any use. `act` is absent in the system tree's counts of nameless attempts. */
  | {
      readonly typ: 'access.denied';
      readonly op: string;
      readonly act: Actor | undefined;
      readonly req: string | undefined;
      readonly n: number;
      readonly rsn: ErrorCode;
    }
  /** A change by an administrator, or of a stored object. `obj.h`: SHA-256 of the whole new object, base64; of a principal its authenticator. */
  | {
      readonly typ: 'admin.change';
      readonly op: string;
      readonly act: Actor | undefined;
      readonly req: string | undefined;
      readonly sc?: string | undefined;
      readonly obj: { readonly typ: string; readonly id: string; readonly h?: string | undefined };
      readonly dtl?: string | undefined;
    }
  /**
   * Somebody compared this log with the customer's own KMS log and states the result; the service did not check it. Times are
   * microseconds since 1970, `h` is the SHA-256 of an input file, base64.
   */
  | {
      readonly typ: 'recon.result';
      readonly act: Actor;
      readonly req: string;
      readonly win: ReconInterval;
      readonly gaps: readonly ReconInterval[];
      readonly n: ReconCounts;
      readonly src: readonly { readonly side: 'ours' | 'theirs'; readonly h: string; readonly len: number }[];
    };

export interface ReconInterval {
  readonly from: number;
  readonly until: number;
}

/** Calls of ours and events of theirs by class, as `src/reconcile/reconcile.ts` names them. */
export interface ReconCounts {
  readonly ours: Readonly<Record<string, number>>;
  readonly theirs: Readonly<Record<string, number>>;
  readonly malformed: number;
}

/** The process that writes. */
export interface Writer {
  /** 16 random bytes of this process. */
  readonly id: Uint8Array;
  readonly build: string;
}

export interface Leaf {
  /** 16 bytes, UUIDv7. */
  readonly eid: Uint8Array;
  readonly bytes: Uint8Array;
}

/** A UUIDv7 (RFC 9562): milliseconds, then random bits; ids of one process grow with time. */
export function newEventId(nowMs: number = Date.now()): Uint8Array {
  // The random bits of a UUIDv4 stand where ours do, and Node draws those of many at once.
  const id = new Uint8Array(Buffer.from(randomUUID().replaceAll('-', ''), 'hex'));
  let rest = nowMs;
  for (let at = 5; at >= 0; at -= 1) {
    id[at] = rest % 256;
    rest = Math.floor(rest / 256);
  }
  id[6] = 0x70 | ((id[6] ?? 0) & 0x0f);
  return id;
}

/** The usual text of an event id. */
export function eventIdText(eid: Uint8Array): string {
  const hex = Buffer.from(eid.buffer, eid.byteOffset, eid.byteLength).toString('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

/** Every name that a record can have at its top. */
type FieldName =
  | (LeafBody extends infer Body ? (Body extends unknown ? keyof Body : never) : never)
  | ('eid' | 'svc' | 't' | 'tn' | 'v');

const encoder = new TextEncoder();

/** Encodes one record of a tenant's tree. `eid` is given where something else already refers to it. */
export function encodeLeaf(writer: Writer, tenant: string, body: LeafBody, eid = newEventId()): Leaf {
  const { act, key, kms, obj, ...own } = body as Partial<Record<FieldName, unknown>> & Parts;
  // Written in the order of the names, which a sort for each record would cost as much as all the rest of it.
  const fields: Record<FieldName, unknown> = {
    act: act && { id: act.id, role: act.role },
    dtl: own.dtl,
    durability: own.durability,
    eid: eventIdText(eid),
    env: own.env,
    gaps: ordered(own.gaps),
    key: key && { id: key.id, ver: key.ver },
    kms: kms && { cid: kms.cid, cmk: kms.cmk, key: kms.key, prv: kms.prv, rid: kms.rid },
    kref: own.kref,
    n: ordered(own.n),
    obj: obj && { h: obj.h, id: obj.id, typ: obj.typ },
    op: own.op,
    origin: own.origin,
    out: own.out,
    pu: own.pu,
    ref: own.ref,
    req: own.req,
    rsn: own.rsn,
    sc: own.sc,
    src: ordered(own.src),
    svc: { build: writer.build, inst: eventIdText(writer.id) },
    t: Date.now() * 1000,
    tn: tenant,
    typ: own.typ,
    v: LEAF_VERSION,
    vkey: own.vkey,
    win: ordered(own.win),
  };
  return { eid, bytes: encoder.encode(JSON.stringify(fields)) };
}

/** The rare parts that are not written in order: names sorted at every level. */
function ordered(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(ordered);
  if (typeof value !== 'object' || value === null) return value;
  const fields = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(fields.map(([name, field]) => [name, ordered(field)]));
}

/** The fields that are objects themselves. */
interface Parts {
  readonly act?: Actor | undefined;
  readonly key?: LeafKey | undefined;
  readonly kms?: LeafCall | undefined;
  readonly obj?: { readonly typ: string; readonly id: string; readonly h?: string | undefined };
}
