/**
 * Matches our log of KMS calls with the customer's own KMS log: every call of ours and every event of theirs gets exactly one class,
 * so the counts of each side add up to what was read.
 *
 * A call matches by the vendor's request id, else by our correlation id. Principal, key, operation and time alone are a suggestion
 * and change no class.
 */
import { OUR_CLASSES, type OurClass, THEIR_CLASSES, type TheirClass } from './classes.ts';
import { type Coverage, type CoverageOptions, coverageOf, type TheirLog } from './coverage.ts';
import type { KmsEvent, Malformed, VendorLog } from './event.ts';
import type { Interval, OurCall, OurLog } from './ours.ts';

/** Fields in which two sides of one call may differ. `items`: one call of theirs carried several keys. */
export type Difference = 'key' | 'op' | 'outcome' | 'principal' | 'rid' | 'time' | 'items' | 'record';

export interface Finding {
  readonly class: OurClass | TheirClass;
  readonly ours: OurCall | undefined;
  readonly theirs: KmsEvent | undefined;
  /** Empty where the class says it all. */
  readonly reason: string;
  readonly differs: readonly Difference[];
}

export interface Suggestion {
  readonly ours: OurCall;
  readonly theirs: KmsEvent;
}

export interface Reconciliation {
  /** No finding, nothing malformed, no gap, and a time that both logs cover. Pending calls are to be looked at again; they are no finding. */
  readonly clean: boolean;
  readonly coverage: readonly Coverage[];
  readonly ours: Readonly<Record<OurClass, number>>;
  readonly theirs: Readonly<Record<TheirClass, number>>;
  /** Uses that the matched calls served. */
  readonly uses: number;
  /** Every call and event, in order of time. */
  readonly findings: readonly Finding[];
  readonly suggestions: readonly Suggestion[];
  readonly malformed: readonly Malformed[];
}

export interface ReconcileOptions extends CoverageOptions {
  /** Judges nothing outside, milliseconds since 1970. */
  readonly window?: { readonly from: number; readonly until: number } | undefined;
  /** Who may use the key in our name, as their log writes it; a final `*` stands for any rest. Empty: not compared. */
  readonly principals?: readonly string[] | undefined;
}

const SUGGEST_MS = 2_000;
/** How far the clocks of the two sides may differ. */
const CLOCKS_MS = 5 * 60_000;

export function reconcile(
  ours: OurLog,
  theirs: readonly TheirLog[],
  malformed: readonly Malformed[],
  options: ReconcileOptions,
): Reconciliation {
  const findings: Finding[] = [];
  const add = (name: OurClass | TheirClass, one: Partial<Omit<Finding, 'class'>>): void => {
    findings.push({ class: name, ours: undefined, theirs: undefined, reason: '', differs: [], ...one });
  };
  const coverage = new Map(theirs.map((each) => [each.log.provider, coverageOf(ours, each, options)]));
  const open = new Map(ours.calls.map((call) => [call.cid, call]));
  const taken = new Map<string, OurCall>();
  const left: { event: KmsEvent; log: VendorLog; cover: Coverage }[] = [];
  const unread: KmsEvent[] = [];

  for (const { log, events } of theirs) {
    const cover = coverage.get(log.provider);
    if (cover === undefined) continue;
    const calls = ours.calls.filter(({ provider }) => provider === log.provider);
    const keys = [...new Set(calls.map(({ key }) => key))];
    const byRid = new Map(
      calls.flatMap((call) => (call.rid === undefined ? [] : [[call.rid, call] as const])),
    );
    const byCid = new Map(calls.map((call) => [call.cid, call]));
    const pair = (event: KmsEvent, call: OurCall | undefined): boolean => {
      if (call === undefined || !open.delete(call.cid)) return false;
      taken.set(call.cid, call);
      add(...judge(call, event, log, options.principals ?? []));
      return true;
    };
    const { first, again, changed } = distinct(events);
    for (const event of again) add('duplicate', { theirs: event });
    for (const event of changed)
      add('conflict', { theirs: event, differs: ['record'], reason: 'their id again, with other contents' });
    const uses = first.filter(({ op }) => op !== 'provider' && op !== 'manage');
    for (const event of first) {
      if (event.op === 'provider') add('provider', { theirs: event, reason: event.name });
      if (event.op === 'manage') add('management', { theirs: event, reason: event.name });
    }
    const withoutRid = uses.filter(
      (event) => !pair(event, event.rid === undefined ? undefined : byRid.get(event.rid)),
    );
    // Of several with one correlation id the one that was not denied is the call; a denied one is an attempt before it.
    const byWeight = withoutRid.sort(
      (a, b) => Number(a.outcome === 'denied') - Number(b.outcome === 'denied'),
    );
    const withoutCid = byWeight.filter(
      (event) => !pair(event, event.cid === undefined ? undefined : byCid.get(event.cid)),
    );
    for (const event of withoutCid) {
      const known = event.cid === undefined ? undefined : taken.get(event.cid);
      const same = known && sameOperation(known, event) && log.sameKey(known.key, event.key);
      if (same && event.op === 'describe')
        add('matched', { theirs: event, reason: 'another read of the same check' });
      else if (same && event.outcome === 'denied')
        add('matched', { theirs: event, reason: 'a denied attempt of the same call' });
      else if (event.op === 'describe' && event.cid === undefined) {
        add('management', { theirs: event, reason: event.name });
        unread.push(event);
      } else if (
        event.key === '' ? event.cid === undefined : !keys.some((key) => log.sameKey(key, event.key))
      )
        add('other-keys', { theirs: event });
      else left.push({ event, log, cover });
    }
  }

  for (const { event, cover } of left) {
    const reused = event.cid !== undefined && taken.has(event.cid);
    const [name, reason] = placeTheirs(event, cover, ours.gaps, options, reused);
    add(name, { theirs: event, reason });
  }
  for (const call of open.values()) {
    const [name, reason] = placeOurs(call, coverage.get(call.provider), options);
    add(name, { ours: call, reason });
  }
  for (const _ of ours.duplicates) add('duplicate', { reason: 'a leaf of ours was given twice' });

  const all = [...malformed, ...ours.malformed];
  const covers = [...coverage.values()];
  const counts = countsOf(findings);
  const bad = counts.ours['ours-only'] + counts.ours['not-coverable'] + counts.ours.conflict;
  const alarms = counts.theirs['theirs-only'] + counts.theirs['not-coverable'] + counts.theirs.conflict;
  const gaps = covers.reduce((sum, { gaps }) => sum + gaps.length, 0);
  const nothing = covers.length === 0 || covers.some(({ both }) => both.from > both.until);
  return {
    clean: bad + alarms + all.length + gaps === 0 && !nothing,
    coverage: covers,
    ...counts,
    uses: [...taken.values()].reduce((sum, { uses }) => sum + uses, 0),
    findings: findings.sort((a, b) => momentOf(a) - momentOf(b)),
    suggestions: suggest([...open.values()], [...left.map(({ event }) => event), ...unread], theirs),
    malformed: all,
  };
}

/** The class of a pair, and where the two differ. */
function judge(
  call: OurCall,
  event: KmsEvent,
  log: VendorLog,
  principals: readonly string[],
): [OurClass & TheirClass, Partial<Finding>] {
  const differs: Difference[] = [];
  // A refused call may name no key at all.
  const unnamed = event.key === '' && event.outcome !== 'ok';
  if (!unnamed && !log.sameKey(call.key, event.key)) differs.push('key');
  if (!sameOperation(call, event)) differs.push('op');
  if (
    call.outcome !== 'unknown' &&
    event.outcome !== 'unknown' &&
    (call.outcome === 'ok') !== (event.outcome === 'ok')
  )
    differs.push('outcome');
  if (principals.length > 0 && !principals.some((one) => allows(one, event.principal)))
    differs.push('principal');
  if (call.rid !== undefined && event.rid !== undefined && call.rid !== event.rid) differs.push('rid');
  if (Math.abs(call.at - event.at) > CLOCKS_MS) differs.push('time');
  if (event.items !== 1) differs.push('items');
  const sides = { ours: call, theirs: event, differs };
  if (differs.length > 0) return ['conflict', sides];
  if (call.outcome !== 'unknown') return ['matched', sides];
  return ['resolved-unknown', { ...sides, reason: `their log says ${event.outcome}` }];
}

function isRead({ op }: OurCall): boolean {
  return op === 'describe' || op === 'check-setup';
}

function sameOperation(call: OurCall, event: KmsEvent): boolean {
  return isRead(call) ? event.op === 'describe' : event.op === call.op;
}

function allows(pattern: string, principal: string | undefined): boolean {
  if (principal === undefined) return false;
  return pattern.endsWith('*') ? principal.startsWith(pattern.slice(0, -1)) : principal === pattern;
}

function placeTheirs(
  event: KmsEvent,
  { ours }: Coverage,
  gaps: readonly Interval[],
  { window }: ReconcileOptions,
  reused: boolean,
): [TheirClass, string] {
  if (window && (event.at < window.from || event.at > window.until)) return ['outside', ''];
  if (event.at < ours.from - SUGGEST_MS) return ['not-coverable', 'before our leaves'];
  if (event.at > ours.until + SUGGEST_MS) return ['not-coverable', 'after our leaves were read'];
  const gap = gaps.find(({ from, until }) => event.at >= from && event.at <= until);
  if (gap) return ['not-coverable', gap.reason];
  if (reused) return ['theirs-only', 'bears the correlation id of another call'];
  return [
    'theirs-only',
    event.cid === undefined ? 'bears no correlation id of ours' : 'bears an unknown correlation id',
  ];
}

function placeOurs(
  call: OurCall,
  cover: Coverage | undefined,
  { window }: ReconcileOptions,
): [OurClass, string] {
  const { at } = call;
  if (window && (at < window.from || at > window.until)) return ['outside', ''];
  if (cover === undefined) return ['not-coverable', `no log of ${call.provider} was given`];
  const gap = cover.gaps.find(({ from, until }) => at >= from && at <= until);
  if (gap) return ['not-coverable', gap.reason];
  if (at > cover.watermark) return ['pending', 'younger than their log’s delay'];
  if (at < cover.theirs.from) return ['not-coverable', 'before their log begins'];
  if (at > cover.theirs.until) return ['not-coverable', 'after their log ends'];
  if (!wasAnswered(call)) return ['resolved-unknown', 'their log shows no such call: it never arrived'];
  if (cover.log.denialsMayBeElsewhere && call.outcome === 'denied')
    return ['not-coverable', 'a denial of a foreign account’s caller is in that account’s log'];
  return ['ours-only', ''];
}

/** Whether our log says that the KMS itself gave the answer; a misconfigured call without a request id may never have left. */
function wasAnswered({ outcome, reason, rid }: OurCall): boolean {
  return rid !== undefined || !(outcome === 'unknown' || reason === 'KMS_MISCONFIGURED');
}

/** Records by their vendor id, or by all that they say where there is none. */
function distinct(events: readonly KmsEvent[]): {
  first: KmsEvent[];
  again: KmsEvent[];
  changed: KmsEvent[];
} {
  const known = new Map<string, string>();
  const sorted = { first: [] as KmsEvent[], again: [] as KmsEvent[], changed: [] as KmsEvent[] };
  for (const { event, contents } of ordered(events)) {
    const id = event.id === '' ? contents : event.id;
    const before = known.get(id);
    if (before === undefined) known.set(id, contents);
    sorted[before === undefined ? 'first' : before === contents ? 'again' : 'changed'].push(event);
  }
  return sorted;
}

/** By time, and by contents within it, so that the order of the files changes nothing. */
function ordered(events: readonly KmsEvent[]): { event: KmsEvent; contents: string }[] {
  return events
    .map((event) => {
      const { position: _, ...said } = event;
      return { event, contents: JSON.stringify(said) };
    })
    .sort((a, b) => a.event.at - b.event.at || (a.contents < b.contents ? -1 : 1));
}

function suggest(
  calls: readonly OurCall[],
  events: readonly KmsEvent[],
  theirs: readonly TheirLog[],
): Suggestion[] {
  const logs = new Map(theirs.map(({ log }) => [log.vendor, log]));
  const free = new Set(events);
  return calls.flatMap((call) => {
    for (const event of free) {
      const log = logs.get(event.vendor);
      if (log?.provider !== call.provider || !log.sameKey(call.key, event.key)) continue;
      if (!sameOperation(call, event) || Math.abs(call.at - event.at) > SUGGEST_MS) continue;
      free.delete(event);
      return [{ ours: call, theirs: event }];
    }
    return [];
  });
}

function countsOf(findings: readonly Finding[]): Pick<Reconciliation, 'ours' | 'theirs'> {
  const ours = Object.fromEntries(OUR_CLASSES.map((name) => [name, 0])) as Record<OurClass, number>;
  const theirs = Object.fromEntries(THEIR_CLASSES.map((name) => [name, 0])) as Record<TheirClass, number>;
  for (const finding of findings) {
    // A leaf of ours that was given twice has neither side.
    if (finding.ours || !finding.theirs) ours[finding.class as OurClass] += 1;
    if (finding.theirs) theirs[finding.class as TheirClass] += 1;
  }
  return { ours, theirs };
}

function momentOf({ ours, theirs }: Finding): number {
  return ours?.at ?? theirs?.at ?? 0;
}
