/**
 * What the clients were given, held against what the log says after all the kills. Nothing here uses the service's own code: the
 * hashes and the tree are RFC 6962, section 2.1, from its definition.
 */
import { createHash } from 'node:crypto';

/** One answer with status 200 that arrived whole. */
export interface Released {
  readonly tenant: string;
  readonly requestId: string;
  readonly operation: 'encrypt' | 'decrypt';
  readonly origin: string;
  readonly index: number;
  /** Base64, as in the receipt. */
  readonly leafHash: string;
  /** SHA-256 of the envelope, base64. */
  readonly envelope: string;
  /** Milliseconds of the machine's monotonic clock. */
  readonly arrivedAt: number;
}

export interface StoredLeaf {
  readonly index: number;
  readonly leafHash: Uint8Array;
  readonly leaf: Uint8Array;
}

export interface StoredLog {
  readonly tenant: string;
  readonly size: number;
  readonly root: Uint8Array;
  readonly leaves: readonly StoredLeaf[];
}

/** A call to the KMS as the log knows it. */
export interface LoggedFlight {
  readonly tenant: string;
  /** Whether the log says how it ended. */
  ended: boolean;
  /** Uses that it allowed. */
  allowed: number;
  /** When each of them that was released had arrived at its client. */
  readonly released: number[];
}

export interface Findings {
  readonly released: number;
  /** Released, and the index of the receipt does not hold the record of the receipt. */
  lost: number;
  /** Released, and the log has no record anywhere that allows it. */
  withoutRecord: number;
  /** Gaps, doubles, hashes that are not the leaf's, a size or a root that is not the leaves'. */
  treeErrors: number;
  /** More than one record allows the same request. */
  allowedTwice: number;
  /** Records that allow a release that no client has seen: the safe side. */
  overReported: number;
  /** Of these, the ones that the log itself says were not handed out. */
  overReportedAndSaid: number;
  readonly leaves: number;
  /** By the correlation id that the KMS has seen. */
  readonly flights: Map<string, LoggedFlight>;
  /** One line for each of the first violations. */
  readonly examples: string[];
}

interface Leaf {
  readonly typ: string;
  readonly eid: string;
  readonly op?: string;
  readonly req?: string;
  readonly out?: string;
  readonly env?: readonly string[];
  readonly kref?: string;
  readonly ref?: string;
  readonly origin?: string;
  readonly kms?: { readonly cid: string };
}

interface Allowed {
  readonly leaf: Leaf;
  readonly index: number;
}

const EXAMPLES = 5;

/** Compares the answers of one tenant with its log. */
export function checkTenant(released: readonly Released[], log: StoredLog): Findings {
  const findings: Findings = {
    released: released.length,
    lost: 0,
    withoutRecord: 0,
    treeErrors: 0,
    allowedTwice: 0,
    overReported: 0,
    overReportedAndSaid: 0,
    leaves: log.leaves.length,
    flights: new Map(),
    examples: [],
  };
  const say = (line: string): void => {
    if (findings.examples.length < EXAMPLES) findings.examples.push(`${log.tenant}: ${line}`);
  };
  const hashes = checkTree(log, findings, say);
  const { allowed, unsaid, origin } = readLeaves(log, findings, say);
  const seen = new Set<string>();
  for (const answer of released) {
    seen.add(answer.requestId);
    const record = allowed.get(answer.requestId);
    const fits = record?.leaf.op === answer.operation && record.leaf.env?.[0] === answer.envelope;
    if (!fits) {
      findings.withoutRecord += 1;
      say(`${answer.operation} ${answer.requestId} was released and no record allows it`);
    }
    const there = hashes.get(answer.index) === answer.leafHash && record?.index === answer.index;
    if (!there || answer.origin !== origin) {
      findings.lost += 1;
      say(`${answer.operation} ${answer.requestId}: not its record at ${answer.index}`);
    }
    findings.flights.get(record?.leaf.kref ?? '')?.released.push(answer.arrivedAt);
  }
  for (const [requestId, { leaf }] of allowed) {
    if (seen.has(requestId)) continue;
    findings.overReported += 1;
    if (unsaid.has(leaf.eid)) findings.overReportedAndSaid += 1;
  }
  return findings;
}

/** Leaf hashes by index, base64, computed from the leaves. */
function checkTree(log: StoredLog, findings: Findings, say: (line: string) => void): Map<number, string> {
  const hashes = new Map<number, string>();
  const wrong = (line: string): void => {
    findings.treeErrors += 1;
    say(line);
  };
  const inOrder = log.leaves.map(({ index, leaf, leafHash }, position) => {
    if (index !== position) wrong(`leaf ${index} where ${position} is due`);
    const hash = sha256(Uint8Array.of(0), leaf);
    if (!hash.equals(leafHash)) wrong(`leaf ${index} has another hash`);
    hashes.set(index, hash.toString('base64'));
    return hash;
  });
  if (log.size !== log.leaves.length) wrong(`${log.leaves.length} leaves, and a head of ${log.size}`);
  if (!merkleRoot(inOrder).equals(log.root)) wrong('the root of the head is not the root of the leaves');
  return hashes;
}

function readLeaves(log: StoredLog, findings: Findings, say: (line: string) => void) {
  const allowed = new Map<string, Allowed>();
  const unsaid = new Set<string>();
  let origin = '';
  for (const { index, leaf: bytes } of log.leaves) {
    const leaf: Leaf = JSON.parse(new TextDecoder().decode(bytes));
    if (leaf.typ === 'log.genesis') origin = leaf.origin ?? '';
    if (leaf.typ === 'use.not_released') unsaid.add(leaf.ref ?? '');
    if (leaf.typ === 'kms.intent' && leaf.kms !== undefined)
      findings.flights.set(leaf.kms.cid, { tenant: log.tenant, ended: false, allowed: 0, released: [] });
    const flight = findings.flights.get(leaf.kref ?? '');
    if (flight !== undefined && leaf.typ === 'kms.result') flight.ended = true;
    if (leaf.typ !== 'key.use' || leaf.out !== 'ok' || leaf.req === undefined) continue;
    if (allowed.has(leaf.req)) {
      findings.allowedTwice += 1;
      say(`${leaf.req} is allowed twice`);
    }
    allowed.set(leaf.req, { leaf, index });
    if (flight !== undefined) flight.allowed += 1;
  }
  return { allowed, unsaid, origin };
}

/** Adds up the findings of several tenants. */
export function sumOf(all: readonly Findings[]): Findings {
  const sum = (field: (each: Findings) => number) => all.reduce((total, each) => total + field(each), 0);
  return {
    released: sum((each) => each.released),
    lost: sum((each) => each.lost),
    withoutRecord: sum((each) => each.withoutRecord),
    treeErrors: sum((each) => each.treeErrors),
    allowedTwice: sum((each) => each.allowedTwice),
    overReported: sum((each) => each.overReported),
    overReportedAndSaid: sum((each) => each.overReportedAndSaid),
    leaves: sum((each) => each.leaves),
    flights: new Map(all.flatMap((each) => [...each.flights])),
    examples: all.flatMap((each) => each.examples).slice(0, EXAMPLES),
  };
}

/** RFC 6962, section 2.1. */
export function merkleRoot(hashes: readonly Buffer[]): Buffer {
  const [only] = hashes;
  if (only === undefined) return sha256();
  if (hashes.length === 1) return only;
  let split = 1;
  while (split * 2 < hashes.length) split *= 2;
  return sha256(Uint8Array.of(1), merkleRoot(hashes.slice(0, split)), merkleRoot(hashes.slice(split)));
}

function sha256(...parts: readonly Uint8Array[]): Buffer {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
}
