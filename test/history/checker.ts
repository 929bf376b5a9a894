/**
 * Decides from outside whether a service kept the promise of fresh answers. It sees only when each decrypt and each act of the
 * customer began and ended and what came of it.
 *
 * A tenant's key is one switch. A decrypt may show the state that the last act left which had ended before the decrypt began,
 * and the state of every act that ran beside it. A decrypt that succeeds outside that set is *stale*; one that is denied
 * outside it is a *stale denial*. Acts of one tenant do not overlap, so no search is needed.
 */
export type KeyState = 'enabled' | 'revoked';

interface Interval {
  readonly tenant: string;
  /** By one monotonic clock. */
  readonly invoke: number;
  readonly complete: number;
}

export interface Decrypt extends Interval {
  /** `none`: neither plaintext nor a refusal of the customer's KMS. */
  readonly result: 'ok' | 'denied' | 'none';
}

export interface Act extends Interval {
  readonly state: KeyState;
}

export interface Verdict {
  readonly ok: number;
  readonly denied: number;
  readonly none: number;
  readonly staleDecrypts: readonly Decrypt[];
  readonly staleDenials: readonly Decrypt[];
}

/** Every key is enabled at first. Throws an Error for acts of one tenant that overlap, or that end before they begin. */
export function check(decrypts: readonly Decrypt[], acts: readonly Act[]): Verdict {
  const byTenant = Map.groupBy(acts, ({ tenant }) => tenant);
  for (const [tenant, list] of byTenant) byTenant.set(tenant, inOrder(list));
  const staleDecrypts: Decrypt[] = [];
  const staleDenials: Decrypt[] = [];
  const counts = { ok: 0, denied: 0, none: 0 };
  for (const decrypt of decrypts) {
    counts[decrypt.result] += 1;
    if (decrypt.result === 'none') continue;
    const states = allowed(decrypt, byTenant.get(decrypt.tenant) ?? []);
    if (decrypt.result === 'ok' && !states.has('enabled')) staleDecrypts.push(decrypt);
    if (decrypt.result === 'denied' && !states.has('revoked')) staleDenials.push(decrypt);
  }
  return { ...counts, staleDecrypts, staleDenials };
}

function inOrder(acts: readonly Act[]): Act[] {
  const sorted = [...acts].sort((a, b) => a.invoke - b.invoke);
  sorted.forEach((act, i) => {
    const before = sorted[i - 1];
    if (act.complete < act.invoke) throw new Error('an act ends before it begins');
    if (before !== undefined && before.complete > act.invoke)
      throw new Error('acts of one tenant must not overlap');
  });
  return sorted;
}

/** `acts` in order. What ended in the very tick in which the decrypt began counts as running beside it. */
function allowed({ invoke, complete }: Decrypt, acts: readonly Act[]): Set<KeyState> {
  let next = firstNotBefore(acts, invoke);
  const states = new Set<KeyState>([acts[next - 1]?.state ?? 'enabled']);
  for (let act = acts[next]; act !== undefined && act.invoke <= complete; act = acts[++next])
    states.add(act.state);
  return states;
}

/** Index of the first act that had not ended before `time`. */
function firstNotBefore(acts: readonly Act[], time: number): number {
  let low = 0;
  let high = acts.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((acts[middle]?.complete ?? 0) < time) low = middle + 1;
    else high = middle;
  }
  return low;
}
