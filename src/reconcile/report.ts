/** A reconciliation as plain text for people. */
import { OUR_CLASSES, THEIR_CLASSES } from './classes.ts';
import type { Difference, Finding, Reconciliation } from './reconcile.ts';

const MAX_SHOWN = 50;
/** Classes that somebody has to look at, most serious first. */
const SHOWN = [
  'theirs-only',
  'conflict',
  'ours-only',
  'not-coverable',
  'resolved-unknown',
  'pending',
] as const;

export function reportOf(result: Reconciliation): string {
  const lines: string[] = ['Coverage'];
  for (const { log, ours, theirs, both, watermark, gaps } of result.coverage) {
    lines.push(`  ${log.vendor.padEnd(6)} our log    ${span(ours)}`);
    lines.push(`         their log  ${span(theirs)}`);
    lines.push(
      `         compared   ${span(both)}${log.synchronous ? '' : `, complete until ${time(watermark)}`}`,
    );
    for (const gap of gaps) lines.push(`         gap        ${span(gap)}: ${gap.reason}`);
  }
  if (result.coverage.length === 0) lines.push('  none: no log of theirs was given');

  lines.push('', `${'class'.padEnd(18)}${'ours'.padStart(8)}${'theirs'.padStart(8)}`);
  for (const name of new Set([...OUR_CLASSES, ...THEIR_CLASSES])) {
    const [mine, other] = [cell(result.ours, name), cell(result.theirs, name)];
    lines.push(`${name.padEnd(18)}${mine.padStart(8)}${other.padStart(8)}`);
  }
  lines.push(`${'total'.padEnd(18)}${total(result.ours)}${total(result.theirs)}`);
  lines.push('', `The calls that have a counterpart served ${result.uses} uses.`);

  for (const name of SHOWN) {
    const found = result.findings.filter((one) => one.class === name);
    if (found.length === 0) continue;
    lines.push('', name);
    for (const one of found.slice(0, MAX_SHOWN)) lines.push(`  ${lineOf(one)}`);
    if (found.length > MAX_SHOWN) lines.push(`  and ${found.length - MAX_SHOWN} more`);
  }
  if (result.suggestions.length > 0) lines.push('', 'alike, without an id that says so');
  for (const { ours, theirs } of result.suggestions.slice(0, MAX_SHOWN))
    lines.push(
      `  ours ${time(ours.at)} ${ours.cid}  ~  theirs ${theirs.position.input}:${theirs.position.record}`,
    );
  if (result.malformed.length > 0) lines.push('', `malformed: ${result.malformed.length}`);
  for (const { position, reason } of result.malformed.slice(0, MAX_SHOWN))
    lines.push(`  ${position.input}:${position.record}  ${reason}`);

  lines.push('', verdict(result));
  return lines.join('\n');
}

function verdict({ clean, ours, theirs, coverage, malformed }: Reconciliation): string {
  const pending = ours.pending === 0 ? '' : ` ${ours.pending} calls are pending: compare again later.`;
  if (clean) return `Clean for the time that was compared.${pending}`;
  const gaps = coverage.reduce((sum, each) => sum + each.gaps.length, 0);
  const why = [
    [theirs['theirs-only'], 'of theirs without a record of ours'],
    [ours.conflict + theirs.conflict > 0 ? Math.max(ours.conflict, theirs.conflict) : 0, 'in conflict'],
    [ours['ours-only'], 'of ours without a record of theirs'],
    [ours['not-coverable'] + theirs['not-coverable'], 'that cannot be covered'],
    [gaps, 'gaps'],
    [malformed.length, 'malformed records'],
  ] as const;
  const told = why.filter(([count]) => count > 0).map(([count, what]) => `${count} ${what}`);
  return `Not clean: ${told.join(', ') || 'the two logs cover no time in common'}.${pending}`;
}

function lineOf({ ours, theirs, reason, differs }: Finding): string {
  const at = time(ours?.at ?? theirs?.at ?? 0);
  const what = theirs ? `${theirs.name} ${theirs.outcome}` : `${ours?.op} ${ours?.outcome}`;
  const where = theirs ? `${theirs.position.input}:${theirs.position.record}` : (ours?.cid ?? '');
  const parts = [at, what, theirs?.key || ours?.key || '(no key named)', where];
  if (theirs?.principal) parts.push(`by ${theirs.principal}`);
  for (const name of differs) parts.push(difference(name, ours, theirs));
  if (reason !== '') parts.push(`(${reason})`);
  return parts.join('  ');
}

function difference(name: Difference, ours: Finding['ours'], theirs: Finding['theirs']): string {
  if (name === 'principal' || name === 'record' || name === 'items') return `differs: ${name}`;
  const of = {
    key: [ours?.key, theirs?.key],
    op: [ours?.op, theirs?.name],
    outcome: [ours?.outcome, theirs?.outcome],
    rid: [ours?.rid, theirs?.rid],
    time: [ours && time(ours.at), theirs && time(theirs.at)],
  }[name];
  return `differs: ${name}, ours ${of[0]}, theirs ${of[1]}`;
}

function cell(counts: Readonly<Record<string, number>>, name: string): string {
  return Object.hasOwn(counts, name) ? String(counts[name]) : '';
}

function total(counts: Readonly<Record<string, number>>): string {
  return String(Object.values(counts).reduce((a, b) => a + b, 0)).padStart(8);
}

function span({ from, until }: { readonly from: number; readonly until: number }): string {
  return from > until ? 'nothing' : `${time(from)} to ${time(until)}`;
}

function time(at: number): string {
  return Number.isFinite(at) ? new Date(at).toISOString() : 'open';
}
