/**
 * The records of the usage log as the bytes that are hashed, stored and served: UTF-8 JSON, names sorted, no white space,
 * only texts, integers, booleans, lists and objects. Nothing re-encodes them later, so what is written here is final.
 *
 * Common fields: `v` the version of this page, `eid` the event's UUIDv7, `t` the writer's clock in microseconds since
 * 1970 (a claim, not evidence), `tn` the tree's tenant, `typ`, and `svc` the process that wrote it.
 */
import { randomFillSync } from 'node:crypto';
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
  /** A change by an administrator, or of a stored object. `obj.h`: SHA-256 of the whole new object, base64. */
  | {
      readonly typ: 'admin.change';
      readonly op: string;
      readonly act: Actor | undefined;
      readonly req: string | undefined;
      readonly sc?: string | undefined;
      readonly obj: { readonly typ: string; readonly id: string; readonly h?: string | undefined };
      readonly dtl?: string | undefined;
    };

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
  const id = randomFillSync(new Uint8Array(16));
  let rest = nowMs;
  for (let at = 5; at >= 0; at -= 1) {
    id[at] = rest % 256;
    rest = Math.floor(rest / 256);
  }
  id[6] = 0x70 | ((id[6] ?? 0) & 0x0f);
  id[8] = 0x80 | ((id[8] ?? 0) & 0x3f);
  return id;
}

/** The usual text of an event id. */
export function eventIdText(eid: Uint8Array): string {
  const hex = Buffer.from(eid.buffer, eid.byteOffset, eid.byteLength).toString('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

/** Encodes one record of a tenant's tree. `eid` is given where something else already refers to it. */
export function encodeLeaf(writer: Writer, tenant: string, body: LeafBody, eid = newEventId()): Leaf {
  const nowMs = Date.now();
  const text = JSON.stringify(
    sorted({
      ...body,
      eid: eventIdText(eid),
      svc: { build: writer.build, inst: eventIdText(writer.id) },
      t: nowMs * 1000,
      tn: tenant,
      v: LEAF_VERSION,
    }),
  );
  return { eid, bytes: new TextEncoder().encode(text) };
}

/** Names in the order of their bytes, at every level; fields without a value are left out. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  const names = Object.keys(value).sort();
  const out: Record<string, unknown> = {};
  for (const name of names) {
    const field = (value as Record<string, unknown>)[name];
    if (field !== undefined) out[name] = sorted(field);
  }
  return out;
}
