/** For which time the two logs can be compared at all. Absence means something only inside it. */
import type { KmsEvent, LoggingChange, VendorLog } from './event.ts';
import type { Interval, OurLog } from './ours.ts';

/** Everything that was read of one vendor's log. */
export interface TheirLog {
  readonly log: VendorLog;
  readonly events: readonly KmsEvent[];
  readonly logging: readonly LoggingChange[];
  /** What the files cover, where somebody who knows has said so; milliseconds since 1970. */
  readonly from?: number | undefined;
  readonly until?: number | undefined;
}

export interface Coverage {
  readonly log: VendorLog;
  /** Of our leaves; empty when `from` is after `until`. */
  readonly ours: { readonly from: number; readonly until: number };
  readonly theirs: { readonly from: number; readonly until: number };
  /** Where both are: only here is absence judged. */
  readonly both: { readonly from: number; readonly until: number };
  /** Records of calls after this moment may still be on their way. */
  readonly watermark: number;
  /** Holes inside `both`. */
  readonly gaps: readonly Interval[];
}

export interface CoverageOptions {
  readonly now: number;
  /** When our leaves were read: every call before it has its intent in them. Without it, now. */
  readonly oursUntil?: number | undefined;
  readonly gaps?: readonly Interval[] | undefined;
  /** Instead of the vendor's lag. */
  readonly lagMs?: number | undefined;
}

const NOTHING = { from: Number.POSITIVE_INFINITY, until: Number.NEGATIVE_INFINITY };

/**
 * A log that does not say what it covers is taken to cover the time from its first record to its last; one that is written
 * before the KMS answers, to now.
 */
export function coverageOf(ours: OurLog, theirs: TheirLog, options: CoverageOptions): Coverage {
  const { log, events } = theirs;
  const ourWindow = ours.window
    ? { from: ours.window.from, until: Math.max(options.oursUntil ?? options.now, ours.window.until) }
    : NOTHING;
  const moments = events.map(({ at }) => at);
  const first = theirs.from ?? least(moments);
  const last = theirs.until ?? (log.synchronous && moments.length > 0 ? options.now : most(moments));
  const theirWindow = first <= last ? { from: first, until: last } : NOTHING;
  const both = {
    from: Math.max(ourWindow.from, theirWindow.from),
    until: Math.min(ourWindow.until, theirWindow.until),
  };
  const all = [...ours.gaps, ...(options.gaps ?? []), ...pausesOf(theirs.logging)];
  return {
    log,
    ours: ourWindow,
    theirs: theirWindow,
    both,
    watermark: options.now - (options.lagMs ?? log.lagMs),
    gaps: all
      .filter(({ from, until }) => until >= both.from && from <= both.until)
      .map((gap) => ({ ...gap, from: Math.max(gap.from, both.from), until: Math.min(gap.until, both.until) }))
      .sort((a, b) => a.from - b.from),
  };
}

/** Times from which recording was off until it was on again, if it ever was. */
function pausesOf(changes: readonly LoggingChange[]): Interval[] {
  const ordered = [...changes].sort((a, b) => a.at - b.at);
  return ordered.flatMap(({ at, on, name }, i) => {
    if (on) return [];
    const until = ordered.slice(i + 1).find((later) => later.on)?.at ?? Number.POSITIVE_INFINITY;
    return [{ from: at, until, reason: `their log was switched off: ${name}` }];
  });
}

function least(values: readonly number[]): number {
  return values.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
}

function most(values: readonly number[]): number {
  return values.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
}
