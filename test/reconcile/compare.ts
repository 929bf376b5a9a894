/** Both sides' texts to a result, as the command line does it. */
import { readOurs } from '../../src/reconcile/ours.ts';
import { type ReconcileOptions, type Reconciliation, reconcile } from '../../src/reconcile/reconcile.ts';
import { VENDOR_LOGS } from '../../src/reconcile/vendors.ts';
import { NOW, type Shape } from './scenario.ts';

export function bytesOf(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

export interface Stated {
  readonly theirsFrom?: number;
  readonly theirsUntil?: number;
}

export function compare(
  shape: Pick<Shape, 'vendor'>,
  ours: readonly string[],
  theirs: string | Uint8Array,
  { theirsFrom, theirsUntil, ...options }: Partial<ReconcileOptions> & Stated = {},
): Reconciliation {
  const log = VENDOR_LOGS[shape.vendor];
  const parsed = log.parse('theirs', typeof theirs === 'string' ? bytesOf(theirs) : theirs);
  return reconcile(
    readOurs([{ name: 'ours', bytes: bytesOf(ours.join('\n')) }]),
    [{ log, events: parsed.events, logging: parsed.logging, from: theirsFrom, until: theirsUntil }],
    parsed.malformed,
    { now: NOW, ...options },
  );
}

/** The counts that are not zero. */
export function counts({ ours, theirs }: Reconciliation): { ours: object; theirs: object } {
  const some = (all: Readonly<Record<string, number>>) =>
    Object.fromEntries(Object.entries(all).filter(([, count]) => count > 0));
  return { ours: some(ours), theirs: some(theirs) };
}
