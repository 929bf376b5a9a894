/**
 * Latencies in log-linear buckets: 64 per power of two of microseconds, so a quantile is at most 1.6 % above the truth.
 * Recording is two shifts and an increment.
 */

const SUB_BITS = 6;
const SUB = 1 << SUB_BITS;
/** 2^27 µs are 134 s: longer than any run. */
const TOP_BIT = 27;

function indexOf(micros: number): number {
  if (micros < SUB) return micros;
  const shift = 31 - Math.clz32(micros) - SUB_BITS;
  return (shift + 1) * SUB + (micros >>> shift) - SUB;
}

/** The highest value that falls into the bucket. */
function upperEdge(index: number): number {
  if (index < SUB) return index;
  const shift = Math.floor(index / SUB) - 1;
  return (SUB + (index % SUB) + 1) * 2 ** shift - 1;
}

export class Histogram {
  readonly #counts = new Float64Array(indexOf(2 ** TOP_BIT - 1) + 1);
  #total = 0;
  #max = 0;

  /** @param micros time in microseconds; below 0 counts as 0, above 134 s as 134 s. */
  record(micros: number): void {
    const whole = Math.min(Math.max(0, Math.round(micros)), 2 ** TOP_BIT - 1);
    const index = indexOf(whole);
    this.#counts[index] = (this.#counts[index] ?? 0) + 1;
    this.#total += 1;
    if (whole > this.#max) this.#max = whole;
  }

  get count(): number {
    return this.#total;
  }

  /** The largest recorded value in microseconds, 0 when there is none. */
  get max(): number {
    return this.#max;
  }

  /** The smallest bucket edge, in microseconds, that at least `share` (0 to 1) of the values do not exceed; 0 when there is none. */
  quantile(share: number): number {
    const wanted = Math.max(1, Math.ceil(share * this.#total));
    let seen = 0;
    for (const [index, count] of this.#counts.entries()) {
      seen += count;
      if (seen >= wanted && count > 0) return Math.min(upperEdge(index), this.#max);
    }
    return 0;
  }
}
