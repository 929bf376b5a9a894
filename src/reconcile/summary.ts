/** What of a reconciliation goes into the tenant's log: the body of `POST …/log/reconciliations`. */
import type { Reconciliation } from './reconcile.ts';

export interface ReconciliationSummary {
  /** The time that both logs cover; RFC 3339, UTC. */
  readonly window: { readonly from: string; readonly until: string };
  /** Holes in it. */
  readonly gaps: readonly { readonly from: string; readonly until: string }[];
  /** By class of `classes.ts`. */
  readonly counts: {
    readonly ours: Readonly<Record<string, number>>;
    readonly theirs: Readonly<Record<string, number>>;
    readonly malformed: number;
  };
  readonly inputs: readonly InputFile[];
}

export interface InputFile {
  readonly side: 'ours' | 'theirs';
  /** Of the file as it is, packed or not: 32 bytes as canonical base64. */
  readonly sha256: string;
  readonly bytes: number;
}

const MAX_GAPS = 32;

/** The window is what all logs cover; undefined where they cover nothing in common. More than 32 gaps become one, which is larger. */
export function summaryOf(
  { coverage, ours, theirs, malformed }: Reconciliation,
  inputs: readonly InputFile[],
): ReconciliationSummary | undefined {
  const from = Math.max(...coverage.map(({ both }) => both.from));
  const until = Math.min(...coverage.map(({ both }) => both.until));
  if (!(from <= until) || !Number.isFinite(from) || !Number.isFinite(until)) return undefined;
  const gaps = coverage.flatMap((each) => each.gaps);
  const told =
    gaps.length <= MAX_GAPS
      ? gaps
      : [
          {
            from: Math.min(...gaps.map((gap) => gap.from)),
            until: Math.max(...gaps.map((gap) => gap.until)),
          },
        ];
  return {
    window: texts({ from, until }),
    gaps: told.map(texts),
    counts: { ours, theirs, malformed: malformed.length },
    inputs,
  };
}

function texts({ from, until }: { from: number; until: number }): { from: string; until: string } {
  return { from: new Date(Math.floor(from)).toISOString(), until: new Date(Math.floor(until)).toISOString() };
}
