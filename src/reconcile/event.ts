/** One call as the customer's own KMS logged it, whatever the vendor: what every parser of this folder produces. */

export const VENDORS = ['aws', 'gcp', 'azure', 'vault', 'local'] as const;
export type Vendor = (typeof VENDORS)[number];

/**
 * What was done with the key: `use` is any other use of the key's material, and whatever the parser does not know; `manage` is an
 * act of the customer that uses no key material; `provider` is an act of the KMS itself, such as a scheduled rotation.
 */
export type Operation = 'wrap' | 'unwrap' | 'describe' | 'use' | 'manage' | 'provider';

/** `denied`: the KMS refused. `error`: anything else that gave no result. `unknown`: the log does not say. */
export type Outcome = 'ok' | 'denied' | 'error' | 'unknown';

/** Where a record stands: the name of the input, and its line or its place in the list, counted from 1. */
export interface Position {
  readonly input: string;
  readonly record: number;
}

export interface KmsEvent {
  readonly vendor: Vendor;
  /** Milliseconds since 1970. */
  readonly at: number;
  /** The vendor's id of this record, or empty where the format has none. The same record delivered twice has the same id. */
  readonly id: string;
  /** Our correlation id, as the vendor logged it. */
  readonly cid: string | undefined;
  /** The vendor's request id, which our side got with the answer. */
  readonly rid: string | undefined;
  /** The vendor's name of the key, or empty where the record names none. */
  readonly key: string;
  readonly op: Operation;
  /** The vendor's own name of the operation. */
  readonly name: string;
  readonly principal: string | undefined;
  readonly outcome: Outcome;
  /** Keys or messages that the one call carried; 1 unless it was a batch. */
  readonly items: number;
  readonly position: Position;
}

/** Something in a log that is about the log itself: recording stopped or started at `at`. */
export interface LoggingChange {
  readonly at: number;
  readonly on: boolean;
  readonly name: string;
}

export interface Malformed {
  readonly position: Position;
  readonly reason: string;
}

export interface Parsed {
  readonly events: readonly KmsEvent[];
  readonly malformed: readonly Malformed[];
  /** Well-formed records about something else than keys. */
  readonly unrelated: number;
  readonly logging: readonly LoggingChange[];
}

/** What is known of a vendor's log before any record is read. */
export interface VendorLog {
  readonly vendor: Vendor;
  /** The provider name in our own leaves. */
  readonly provider: string;
  /** How long a record may take to appear, milliseconds; younger calls are pending. */
  readonly lagMs: number;
  /** The KMS answers only after its log has the record, so the log covers everything up to the moment it was copied. */
  readonly synchronous: boolean;
  /** A denial of a foreign account's caller may appear in that account's log alone. */
  readonly denialsMayBeElsewhere: boolean;
  parse(input: string, bytes: Uint8Array): Parsed;
  /** Whether two names mean one key: ours is the key reference of a leaf, theirs comes from `parse`. */
  sameKey(ours: string, theirs: string): boolean;
}

const MARK = /(?:^|[\s;(])keytether\/1 cid\/([A-Za-z0-9._-]{1,64})(?=$|[\s;,)])/;
const BARE = /^[A-Za-z0-9._-]{1,64}$/;

/** The correlation id in a user agent or a reason, `keytether/1 cid/<id>`. */
export function markedId(text: string | undefined): string | undefined {
  return text === undefined ? undefined : MARK.exec(text)?.[1];
}

/** The correlation id in a field that holds nothing else, with or without our mark. */
export function wholeId(text: string | undefined): string | undefined {
  return markedId(text) ?? (text !== undefined && BARE.test(text) ? text : undefined);
}

/** Whether one name is the other or a part below it, such as a version. */
export function sameOrBelow(ours: string, theirs: string): boolean {
  if (ours === '' || theirs === '') return false;
  return ours === theirs || theirs.startsWith(`${ours}/`) || ours.startsWith(`${theirs}/`);
}
