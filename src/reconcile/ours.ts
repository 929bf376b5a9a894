/**
 * Our side: the calls to customers' KMSs in a tenant's usage log. Reads leaves as JSON lines, one leaf's exact text a line, and pages of
 * `GET /v1/tenants/{tenant}/log`, one page a line or a file.
 */
import { z } from 'zod';
import type { Malformed, Position } from './event.ts';
import { readRecords } from './records.ts';

const text = z.string().max(2_048);
const leaf = z.looseObject({
  v: z.literal('keytether.log/1'),
  typ: z.string().max(64),
  eid: z.string().max(64),
  t: z.int().nonnegative(),
  tn: text,
});
const call = z.looseObject({
  op: z.enum(['wrap', 'unwrap', 'describe', 'check-setup']),
  kms: z.looseObject({ cid: text, key: text, prv: text, rid: text.optional() }),
});
const result = call.extend({ out: z.enum(['ok', 'denied', 'error', 'unknown']), rsn: text.optional() });
const use = z.looseObject({ n: z.int().nonnegative(), kref: text.optional(), out: text });
const page = z.looseObject({
  entries: z.array(z.looseObject({ index: z.int().nonnegative(), leaf: z.string() })),
});

export type OurOperation = z.infer<typeof call>['op'];

/** One call: its intent, and its result where there is one. */
export interface OurCall {
  readonly cid: string;
  readonly tenant: string;
  readonly provider: string;
  readonly key: string;
  readonly op: OurOperation;
  /** When it was about to leave, milliseconds since 1970. */
  readonly at: number;
  /** `unknown` also where the log holds no result. */
  readonly outcome: 'ok' | 'denied' | 'error' | 'unknown';
  readonly reason: string;
  readonly rid: string | undefined;
  /** Uses that this call served, as the log says. */
  readonly uses: number;
  readonly position: Position;
}

export interface Interval {
  readonly from: number;
  readonly until: number;
  readonly reason: string;
}

export interface OurLog {
  readonly calls: readonly OurCall[];
  readonly leaves: number;
  /** Calls' leaves that were there more than once, by event id. */
  readonly duplicates: readonly Position[];
  readonly malformed: readonly Malformed[];
  /** Times of the first and last leaf; undefined without any. */
  readonly window: { readonly from: number; readonly until: number } | undefined;
  /** Between leaves whose indices do not follow each other. Known only where pages tell the indices. */
  readonly gaps: readonly Interval[];
}

interface Found {
  readonly fields: z.infer<typeof leaf>;
  readonly index: number | undefined;
  readonly position: Position;
}

type Draft = { -readonly [Field in keyof OurCall]: OurCall[Field] };

/** Reads all inputs together, in any order; the same leaf may be in several. */
export function readOurs(inputs: readonly { readonly name: string; readonly bytes: Uint8Array }[]): OurLog {
  const malformed: Malformed[] = [];
  const duplicates: Position[] = [];
  const found = new Map<string, Found>();
  for (const { name, bytes } of inputs) {
    const records = readRecords(name, bytes);
    malformed.push(...records.malformed);
    for (const { position, value } of records.entries) {
      for (const each of leavesOf(value, position)) {
        if ('reason' in each) malformed.push(each);
        else if (!found.has(each.fields.eid)) found.set(each.fields.eid, each);
        else if (isCall(each.fields.typ)) duplicates.push(position);
      }
    }
  }
  const leaves = [...found.values()].sort((a, b) => a.fields.t - b.fields.t);
  const times = leaves.map(({ fields }) => fields.t / 1000);
  const [from] = times;
  const until = times.at(-1);
  return {
    calls: callsOf(leaves, malformed),
    leaves: leaves.length,
    duplicates,
    malformed,
    window: from === undefined || until === undefined ? undefined : { from, until },
    gaps: holesOf(leaves),
  };
}

function isCall(typ: string): boolean {
  return typ === 'kms.intent';
}

function leavesOf(value: unknown, position: Position): readonly (Found | Malformed)[] {
  const asPage = page.safeParse(value);
  if (!asPage.success) return [leafOf(value, undefined, position)];
  return asPage.data.entries.map(({ index, leaf: json }) => {
    try {
      return leafOf(JSON.parse(json), index, position);
    } catch {
      return { position, reason: `entry ${index}: not JSON` };
    }
  });
}

function leafOf(value: unknown, index: number | undefined, position: Position): Found | Malformed {
  const parsed = leaf.safeParse(value);
  return parsed.success ? { fields: parsed.data, index, position } : { position, reason: 'not a leaf' };
}

function callsOf(leaves: readonly Found[], malformed: Malformed[]): OurCall[] {
  const calls = new Map<string, Draft>();
  const uses = new Map<string, number>();
  for (const { fields, position } of leaves) {
    const { typ } = fields;
    if (typ === 'key.use') {
      const { success, data } = use.safeParse(fields);
      if (success && data.kref !== undefined && data.out === 'ok')
        uses.set(data.kref, (uses.get(data.kref) ?? 0) + data.n);
    }
    if (typ !== 'kms.intent' && typ !== 'kms.result') continue;
    const parsed = (typ === 'kms.intent' ? call : result).safeParse(fields);
    if (!parsed.success) {
      malformed.push({ position, reason: `not a ${typ}` });
      continue;
    }
    const { op, kms } = parsed.data;
    const draft: Draft = calls.get(kms.cid) ?? {
      cid: kms.cid,
      tenant: fields.tn,
      provider: kms.prv,
      key: kms.key,
      op,
      at: fields.t / 1000,
      outcome: 'unknown',
      reason: '',
      rid: undefined,
      uses: 0,
      position,
    };
    if (typ === 'kms.result') {
      const ended = parsed.data as z.infer<typeof result>;
      draft.outcome = ended.out;
      draft.reason = ended.rsn ?? '';
      draft.rid = kms.rid || undefined;
    }
    calls.set(kms.cid, draft);
  }
  return [...calls.values()].map((each) => ({ ...each, uses: uses.get(each.cid) ?? 0 }));
}

/** Where an index is missing, between its neighbours' times. */
function holesOf(leaves: readonly Found[]): Interval[] {
  const indexed = leaves
    .flatMap(({ index, fields }) => (index === undefined ? [] : [{ index, at: fields.t / 1000 }]))
    .sort((a, b) => a.index - b.index);
  return indexed.flatMap(({ index, at }, i) => {
    const next = indexed[i + 1];
    if (next === undefined || next.index <= index + 1) return [];
    const reason = `records ${index + 1} to ${next.index - 1} of our log are not here`;
    return [{ from: Math.min(at, next.at), until: Math.max(at, next.at), reason }];
  });
}
