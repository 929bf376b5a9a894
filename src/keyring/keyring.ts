/**
 * Who may use which key, when: the freshness gate joined to the database, the customer's KMS and the usage log. Encrypt
 * and decrypt have this one way in, and no key is kept between two requests.
 */

import {
  encodeLeaf,
  eventIdText,
  type LeafCall,
  type LeafKey,
  type LeafOutcome,
  newEventId,
  type Writer,
} from '../audit/leaf.ts';
import type { DurableRecord } from '../audit/sealed.ts';
import type { Appended, UsageLog } from '../audit/usage-log.ts';
import { openRecordKey } from '../crypto/keys.ts';
import type { RecordKeys } from '../crypto/records.ts';
import { codeOf, type ErrorCode, ServiceError } from '../errors.ts';
import type { KmsAnswer, KmsCaller } from '../kms/caller.ts';
import type { Unwrapped } from '../kms/driver.ts';
import type { LogRow, LogUnit } from '../store/log.ts';
import type { Round, RoundQuestion } from '../store/rounds.ts';
import { bindingIdText, keyIdText } from './binding.ts';
import {
  disposeKeys,
  dropOpened,
  type FlightTools,
  type KeyAnswer,
  notReleasedRows,
  type Opened,
  refusalRows,
  released,
  UseFailed,
  useFlight,
} from './flight.ts';
import type { Gate } from './gate.ts';
import type { CommitVerdict, GateLimits, GateResult, Plan, Use } from './gate-ports.ts';
import { ItemsFailed, planRound, questionOf, type RootFlight, type RotationPolicy } from './plan.ts';
import { type KeyUse, type Released, UseRefused } from './use.ts';

/** Messages under one data key, whatever the policy says: the bound of the log's append function. */
const MESSAGE_LIMIT = 2 ** 32;

/** How long an outage's answer waits for its record. */
const RECEIPT_WAIT_MS = 100;

export interface KeyringOptions {
  readonly kms: KmsCaller;
  readonly log: UsageLog;
  readonly recordKeys: RecordKeys;
  readonly writer: Writer;
  readonly limits: GateLimits;
  readonly rotation: RotationPolicy;
  /** Reads our own state for one round, in one query that starts now. */
  readRound(tenant: string, question: RoundQuestion): Promise<Round | undefined>;
  /**
   * Our own state has moved since these callers were let in: says for each in which version of it he still may ask,
   * or the code of the refusal.
   */
  recheck(uses: readonly KeyUse[]): Promise<readonly (number | ErrorCode)[]>;
  readonly Gate: typeof Gate;
}

export interface Keyring {
  /**
   * Opens or seals every item of one request. Throws ServiceError; when every item failed alike it is the error of the
   * first. Sealed items open with the records that come along.
   */
  use(use: KeyUse): Promise<Released>;
  /** Requests and flights that have not ended. */
  readonly busy: number;
}

interface Intent {
  readonly index: number;
  readonly eid: Uint8Array;
  readonly text: string;
}

export function createKeyring(options: KeyringOptions): Keyring {
  const { kms, log, recordKeys, writer, rotation } = options;
  const tools: FlightTools = { writer, recordKeys, now: Date.now };
  /** The durable records of what a request came to, for the receipt of a refusal. */
  const recordsOf = new WeakMap<KeyUse, readonly DurableRecord[]>();

  const gate: Gate<KeyUse, RootFlight, Intent, KeyAnswer, Opened> = new options.Gate(
    {
      now: () => performance.now(),
      wall: () => Date.now(),
      timer(ms, fn) {
        const timer = setTimeout(fn, ms);
        return () => clearTimeout(timer);
      },
      prepare: (tenant, uses, done) => void settle(prepare(tenant, uses), done),
      begin: (tenant, flight, uses, done) => void settle(begin(tenant, flight, uses.length), done),
      call: (_tenant, flight, intent, done) => void call(flight, intent).then(done),
      use: (flight, answer, use) => useFlight(flight, answer, use, tools),
      dispose: (_flight, answer) => disposeKeys(answer),
      unanswered: (tenant, flight, intent, answer) => unanswered(tenant, flight, intent, answer),
      commit: (tenant, flight, intent, answer, uses, done) =>
        void commit(tenant, flight, intent, answer, uses).then(done, () => done('failed')),
      drop: dropOpened,
      notReleased: (tenant, _flight, intent, opened, code) =>
        later({ kind: 'plain', tenant, rows: notReleasedRows(writer, intent.text, opened, code) }),
      codeOf,
    },
    options.limits,
  );

  /** Hands a failure over as its code: the gate answers the requests with it. */
  async function settle<T>(work: Promise<T>, done: (value: T | ErrorCode) => void): Promise<void> {
    let value: T | ErrorCode;
    try {
      value = await work;
    } catch (error) {
      value = codeOf(error);
    }
    done(value);
  }

  /** A record that nobody waits for. If the log is down, the intent stays open and tells the auditor as much. */
  function later(unit: LogUnit): void {
    log.append(unit).catch(() => {});
  }

  async function prepare(tenant: string, uses: readonly KeyUse[]): Promise<readonly Plan<RootFlight>[]> {
    const question = questionOf(uses);
    const denied = new Map<KeyUse, ErrorCode>();
    let round = await options.readRound(tenant, question);
    for (let tries = 0; round !== undefined && tries < 3; tries += 1) {
      const { stateVersion } = round;
      const moved = uses.filter((use) => use.stateVersion !== stateVersion && !denied.has(use));
      if (moved.length === 0) break;
      const answers = await options.recheck(moved);
      moved.forEach((use, i) => {
        const answer = answers[i] ?? 'INTERNAL';
        if (typeof answer === 'number') use.stateVersion = answer;
        else denied.set(use, answer);
      });
      if (moved.some((use) => use.stateVersion !== stateVersion && !denied.has(use))) {
        round = await options.readRound(tenant, question);
      }
    }
    if (round === undefined) throw new ServiceError('NOT_FOUND');
    const { stateVersion } = round;
    const allowed = uses.filter((use) => !denied.has(use) && use.stateVersion === stateVersion);
    const plans = new Map<KeyUse, Plan<RootFlight>>();
    planRound(allowed, round, { recordKeys, rotation, nowMs: Date.now() }).forEach((plan, i) => {
      const use = allowed[i];
      if (use !== undefined) plans.set(use, plan);
    });
    const all = uses.map(
      (use): Plan<RootFlight> =>
        plans.get(use) ?? { code: denied.get(use) ?? 'OVERLOADED', cause: undefined },
    );
    await logRefusals(tenant, uses, all);
    return all;
  }

  /** A refusal that needs no KMS is durable before it is answered. */
  async function logRefusals(
    tenant: string,
    uses: readonly KeyUse[],
    plans: readonly Plan<RootFlight>[],
  ): Promise<void> {
    const rowsOf = uses.map((use, i): LogRow[] => {
      const plan = plans[i];
      if (plan === undefined || !('code' in plan)) return [];
      const detail = plan.cause instanceof ServiceError ? plan.cause.detail : undefined;
      const out = plan.code === 'DECRYPT_FAILED' || plan.code === 'KEY_RECORD_TAMPERED' ? 'error' : 'denied';
      return refusalRows(writer, use, { code: plan.code, detail, out, intent: undefined });
    });
    const rows = rowsOf.flat();
    if (rows.length === 0) return;
    const byEvent = recordsByEvent(await log.append({ kind: 'plain', tenant, rows }));
    for (const [i, use] of uses.entries()) keepRecords(use, rowsOf[i] ?? [], byEvent);
  }

  function keepRecords(
    use: KeyUse,
    rows: readonly LogRow[],
    byEvent: RecordsByEvent,
  ): readonly DurableRecord[] {
    const records = rows.flatMap((row) => byEvent.get(row.eid) ?? []);
    recordsOf.set(use, records);
    return records;
  }

  function callOf({ target, binding }: RootFlight, intent: string, requestId?: string): LeafCall {
    const cmk = bindingIdText(binding.bindingId);
    const rid = requestId === undefined ? {} : { rid: requestId };
    return { cid: intent, cmk, key: target.keyRef, prv: target.provider, ...rid };
  }

  function keyOf({ root }: RootFlight): LeafKey {
    return { id: keyIdText(root.keyId), ver: root.keyVersion };
  }

  async function begin(tenant: string, flight: RootFlight, uses: number): Promise<Intent> {
    const unit = intentUnit(writer, tenant, flight.entryName, (intent) => ({
      typ: 'kms.intent',
      op: 'unwrap',
      kms: callOf(flight, intent),
      key: keyOf(flight),
      sc: flight.scope,
      n: uses,
    }));
    const { records } = await log.append(unit.unit);
    const [record] = records;
    if (record === undefined) throw new ServiceError('LOG_UNAVAILABLE', { detail: 'intent-dropped' });
    return { index: record.index, eid: unit.eid, text: unit.text };
  }

  async function call(flight: RootFlight, intent: Intent): Promise<KeyAnswer> {
    const { root, scope } = flight;
    const wrap = root.wraps[0];
    const context = { tenant: root.tenant, scope, key: keyIdText(root.keyId) };
    const answer: KmsAnswer<Unwrapped> =
      wrap === undefined
        ? { outcome: 'integrity', code: 'KMS_INTEGRITY', detail: 'no-wrap', requestId: '' }
        : await kms.unwrap(flight.target, wrap.wrapped, context, {
            correlationId: intent.text,
            workedBefore: true,
          });
    const { requestId } = answer;
    const none = {
      requestId,
      intent: intent.text,
      rootKey: undefined,
      dataKeys: new Map(),
      created: new Map(),
    };
    if (answer.outcome !== 'ok') {
      const { outcome, code, retryAfterMs } = answer;
      return { ...none, outcome, code, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) };
    }
    try {
      return { ...none, outcome: 'ok', code: 'INTERNAL', rootKey: openRecordKey(answer.value.key, root) };
    } catch {
      return { ...none, outcome: 'integrity', code: 'KMS_INTEGRITY' };
    } finally {
      answer.value.key.fill(0);
    }
  }

  function resultRow(
    tenant: string,
    flight: RootFlight,
    intent: Intent,
    result: { out: LeafOutcome; code: ErrorCode | undefined; requestId: string | undefined },
  ): LogRow {
    const leaf = encodeLeaf(writer, tenant, {
      typ: 'kms.result',
      op: 'unwrap',
      kms: callOf(flight, intent.text, result.requestId),
      key: keyOf(flight),
      kref: intent.text,
      out: result.out,
      rsn: result.code,
    });
    return { eid: leaf.eid, leaf: leaf.bytes, guarded: false };
  }

  function unanswered(
    tenant: string,
    flight: RootFlight,
    intent: Intent,
    answer: KeyAnswer | undefined,
  ): void {
    const code = answer?.code ?? 'KMS_TIMEOUT';
    const row = resultRow(tenant, flight, intent, { out: 'unknown', code, requestId: answer?.requestId });
    later({ kind: 'outcome', tenant, flight: intent.eid, result: 'other', rows: [row] });
  }

  async function commit(
    tenant: string,
    flight: RootFlight,
    intent: Intent,
    answer: KeyAnswer,
    uses: readonly Use<KeyUse, Opened>[],
  ): Promise<CommitVerdict> {
    const { outcome, code, requestId } = answer;
    const out = outcome === 'ok' ? 'ok' : outcome === 'integrity' ? 'error' : 'denied';
    const result = resultRow(tenant, flight, intent, {
      out,
      code: outcome === 'ok' ? undefined : code,
      requestId,
    });
    const opened = uses.flatMap((use) => (use.ok ? [use.opened] : []));
    const created = opened.length === 0 ? [] : [...answer.created.values()];
    const rowsOf = uses.map((use) => (use.ok ? use.opened.rows : failedRows(use, out, intent.text)));
    const rows = [
      result,
      ...created.flatMap((key) => key.leaves.map(({ eid, bytes }) => ({ eid, leaf: bytes, guarded: true }))),
      ...rowsOf.flat(),
    ];
    const appended = await log.append({
      kind: 'outcome',
      tenant,
      flight: intent.eid,
      result: outcome === 'ok' || outcome === 'refused' ? outcome : 'other',
      rows,
      stateVersion: flight.stateVersion,
      newKeys: created.map((key) => key.stored),
      counts: opened.flatMap(({ counts }) => counts.map((count) => ({ ...count, limit: MESSAGE_LIMIT }))),
    });
    const byEvent = recordsByEvent(appended);
    for (const [i, use] of uses.entries()) {
      const records = keepRecords(use.request, rowsOf[i] ?? [], byEvent);
      const each = use.ok ? use.opened : use.cause instanceof UseFailed ? use.cause.opened : undefined;
      if (each !== undefined) each.records = records;
    }
    if (appended.verdict === 'head-moved') {
      for (const { request } of uses) request.lostRaces = (request.lostRaces ?? 0) + 1;
    }
    if (appended.verdict !== 'appended') return 'requeue';
    return opened.every((each) => each.records.length === each.rows.length) ? 'durable' : 'failed';
  }

  function failedRows(
    use: Extract<Use<KeyUse, Opened>, { ok: false }>,
    out: 'ok' | 'denied' | 'error',
    intent: string,
  ): readonly LogRow[] {
    if (use.cause instanceof UseFailed) return use.cause.opened.rows;
    const detail = use.cause instanceof ServiceError ? use.cause.detail : undefined;
    return refusalRows(writer, use.request, {
      code: use.code,
      detail,
      out: out === 'ok' ? 'unknown' : out,
      intent,
    });
  }

  /**
   * The customer's KMS gave no answer in time: nothing was used, and the log says that somebody wanted to. The answer waits
   * for the record a moment and no longer, because it is at its deadline.
   */
  async function unansweredUse(request: KeyUse, code: ErrorCode): Promise<readonly DurableRecord[]> {
    const { tenant } = request;
    const rows = refusalRows(writer, request, { code, detail: undefined, out: 'unknown', intent: undefined });
    const appended = log.append({ kind: 'plain', tenant, rows }).then(
      ({ records }) => records.flatMap((record) => record ?? []),
      () => [],
    );
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<readonly DurableRecord[]>((resolve) => {
      timer = setTimeout(resolve, RECEIPT_WAIT_MS, []);
    });
    const records = await Promise.race([appended, late]);
    clearTimeout(timer);
    return records;
  }

  async function use(request: KeyUse): Promise<Released> {
    const result = await new Promise<GateResult<Opened>>((resolve) => {
      gate.use(request.tenant, request, weightOf(request), resolve, request.arrivedAt);
    });
    if (result.ok) return released(result.opened);
    const records = result.logged
      ? (recordsOf.get(request) ?? [])
      : result.code.startsWith('KMS_')
        ? await unansweredUse(request, result.code)
        : [];
    const { cause } = result;
    if (cause instanceof UseFailed && request.items.length > 1) return released(cause.opened);
    if (cause instanceof ItemsFailed && request.items.length > 1) {
      return {
        results: cause.items.map(({ code, detail }) => ({ ok: false, code, detail, leaf: 0 })),
        records,
      };
    }
    const retryAfterSeconds =
      result.retryAfterMs === undefined ? undefined : Math.ceil(result.retryAfterMs / 1000);
    throw new UseRefused(result.code, records, {
      ...(result.cause === undefined ? {} : { cause: result.cause }),
      ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
    });
  }

  return {
    use,
    get busy() {
      return gate.busy;
    },
  };
}

/** By the very bytes that the row was made with: a record keeps them. */
type RecordsByEvent = ReadonlyMap<Uint8Array, DurableRecord>;

function recordsByEvent({ records }: Appended): RecordsByEvent {
  return new Map(records.flatMap((record) => (record === undefined ? [] : [[record.eid, record] as const])));
}

/** The unit that opens a flight, and its event id. The body learns the id, which is also the correlation id of the call. */
export function intentUnit(
  writer: Writer,
  tenant: string,
  entry: Uint8Array,
  body: (intent: string) => Parameters<typeof encodeLeaf>[2],
): { unit: LogUnit; eid: Uint8Array; text: string } {
  const eid = newEventId();
  const text = eventIdText(eid);
  const leaf = encodeLeaf(writer, tenant, body(text), eid);
  return {
    unit: { kind: 'intent', tenant, entry, rows: [{ eid, leaf: leaf.bytes, guarded: false }] },
    eid,
    text,
  };
}

function weightOf(use: KeyUse): number {
  let bytes = 0;
  for (const item of use.items) bytes += 'envelope' in item ? item.envelope.length : item.plaintext.length;
  return bytes;
}
