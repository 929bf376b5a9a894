/** Damaged inputs in, refusals out: nothing is accepted and nothing fails in a way that the table of errors does not name. */
import { Random } from './random.ts';
import { TARGETS } from './targets.ts';

/** Every refusal that the damage can cause. One that is missing here is unexpected; one that is rare fails the run. */
const REFUSALS: readonly string[] = [
  ...['length', 'magic', 'version', 'suite', 'flags'].map((detail) => `ENVELOPE_MALFORMED/${detail}`),
  ...['commitment', 'tag', 'truncated'].map((detail) => `DECRYPT_FAILED/${detail}`),
  ...['commitment', 'length'].map((detail) => `KMS_INTEGRITY/${detail}`),
  'RECORD_KEY_UNAVAILABLE/auth-id',
  ...[
    'magic',
    'version',
    'kind',
    'suite',
    'flags',
    'key-version',
    'integer',
    'text',
    'tenant',
    'scope',
    'purpose',
    'state',
    'mode',
    'count',
    'wrapper',
    'wrapped',
    'binding-version',
    'provider',
    'key-ref',
    'binding-id',
    'auth-id',
    'retired',
    'mac',
    'length',
    'trailing',
    'wrap-length',
    'wrap-magic',
    'wrap-version',
    'wrap-suite',
    'wrap-flags',
    'wrap-parent',
    'wrap-commitment',
    'wrap-tag',
    'wrap-truncated',
    'wrap-secret',
  ].map((detail) => `KEY_RECORD_TAMPERED/${detail}`),
];

const PAST_COMMITMENT = ['DECRYPT_FAILED/tag', 'KEY_RECORD_TAMPERED/wrap-tag'];
const PAST_HEADER = [
  ...PAST_COMMITMENT,
  'DECRYPT_FAILED/commitment',
  'DECRYPT_FAILED/truncated',
  'KEY_RECORD_TAMPERED/wrap-commitment',
  'KEY_RECORD_TAMPERED/wrap-truncated',
];

export interface FuzzReport {
  readonly tried: number;
  /** Inputs of a target that was not refused, by target. */
  readonly accepted: ReadonlyMap<string, number>;
  /** Errors outside the table, each with an example. */
  readonly unexpected: ReadonlyMap<string, string>;
  readonly refusals: ReadonlyMap<string, number>;
  /** Shares of all inputs that got past the header of a message, and past its commitment. */
  readonly pastHeader: number;
  readonly pastCommitment: number;
}

/** Tries `inputs` damaged inputs. The same seed gives the same inputs. */
export function fuzz(seed: number, inputs: number): FuzzReport {
  const random = new Random(seed);
  const lottery = TARGETS.flatMap((target) => Array.from({ length: target.weight }, () => target));
  const accepted = new Map<string, number>();
  const unexpected = new Map<string, string>();
  const refusals = new Map<string, number>(REFUSALS.map((refusal) => [refusal, 0]));
  let tried = 0;
  while (tried < inputs) {
    const target = random.pick(lottery);
    const use = target.attempt(random);
    if (use === undefined) continue;
    tried++;
    const refusal = refusalOf(use);
    if (refusal === undefined) accepted.set(target.name, (accepted.get(target.name) ?? 0) + 1);
    else if (refusals.has(refusal)) refusals.set(refusal, (refusals.get(refusal) ?? 0) + 1);
    else unexpected.set(refusal, `${target.name}, input ${tried}`);
  }
  const share = (names: readonly string[]) =>
    names.reduce((sum, name) => sum + (refusals.get(name) ?? 0), 0) / tried;
  return {
    tried,
    accepted,
    unexpected,
    refusals,
    pastHeader: share(PAST_HEADER),
    pastCommitment: share(PAST_COMMITMENT),
  };
}

function refusalOf(use: () => unknown): string | undefined {
  try {
    use();
    return undefined;
  } catch (error) {
    const { code, detail, name, message } = error as Error & { code?: string; detail?: string };
    return name === 'ServiceError' ? `${code}/${detail}` : `${name}: ${message}`;
  }
}

/** What is wrong with a report: empty when the run proves what it should. */
export function complaints(report: FuzzReport, leastPerRefusal: number): string[] {
  const list: string[] = [];
  for (const [target, count] of report.accepted) list.push(`${count} damaged inputs accepted: ${target}`);
  for (const [refusal, example] of report.unexpected) list.push(`unexpected: ${refusal} (${example})`);
  for (const [refusal, count] of report.refusals) {
    if (count < leastPerRefusal) list.push(`${refusal}: ${count}, fewer than ${leastPerRefusal}`);
  }
  if (report.pastHeader < 0.2) list.push('less than 20 % got past the header');
  if (report.pastCommitment < 0.05) list.push('less than 5 % got past the commitment');
  return list;
}
