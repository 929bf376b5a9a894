/**
 * Calls to customers' KMSs as the service uses them: a concrete piece around the drivers that owns what each adapter would
 * otherwise repeat. Every call is one attempt with a deadline that really ends the wait, its answer is checked against the pinned
 * key, and its failure is classified by history. Nothing rejects, nothing is retried, no key is kept.
 */
import type { KmsCode } from '../errors.ts';
import { ServiceError } from '../errors.ts';
import { secretBytes } from '../secret-bytes.ts';
import type {
  CallOptions,
  CustomerKeyHandle,
  Deployment,
  KeyDescription,
  KmsDriver,
  KmsFailureClass,
  SetupCheck,
  Unwrapped,
  WrapContext,
  Wrapped,
} from './driver.ts';
import { createHandles, type KmsTarget } from './handles.ts';

export type { KmsTarget } from './handles.ts';

export interface KmsCallInfo {
  /** Our id for this attempt, planted in the customer's own KMS log. ASCII, 1 to 64. */
  readonly correlationId: string;
  /** Whether an unwrap with this customer key has ever succeeded: a denial is then a refusal, else a misconfiguration. */
  readonly workedBefore: boolean;
}

export interface KmsSuccess<T> {
  readonly outcome: 'ok';
  readonly value: T;
  /** The vendor's id of the call, or empty. */
  readonly requestId: string;
  /** Equal to the key reference of the target. */
  readonly keyId: string;
}

export interface KmsRefusal {
  readonly outcome: 'refused' | 'unknown' | 'integrity' | 'misconfigured';
  readonly code: KmsCode;
  /** One machine word that narrows the code; on a first-contact refusal the specific code; or empty. */
  readonly detail: string;
  readonly requestId: string;
  readonly retryAfterMs?: number;
  /** What the driver threw, for the operator's log only. */
  readonly cause?: unknown;
}

export type KmsAnswer<T> = KmsSuccess<T> | KmsRefusal;

export interface KmsCaller {
  /**
   * Checks what a tenant admin submits and returns what a binding stores: the normalised key reference and the access as
   * JSON text with sorted names. Makes no call. Throws `REQUEST_INVALID` with field errors.
   */
  checkTarget(provider: string, keyRef: string, access: unknown): { keyRef: string; access: string };
  /** The caller keeps and zeroes `key`. */
  wrap(
    target: KmsTarget,
    key: Uint8Array,
    context: WrapContext,
    call: KmsCallInfo,
  ): Promise<KmsAnswer<Wrapped>>;
  /** On ok the value's `key` is 32 bytes in a buffer of its own, which the caller owns and zeroes. */
  unwrap(
    target: KmsTarget,
    wrapped: Uint8Array,
    context: WrapContext,
    call: KmsCallInfo,
  ): Promise<KmsAnswer<Unwrapped>>;
  describe(target: KmsTarget, call: KmsCallInfo): Promise<KmsAnswer<KeyDescription>>;
  checkSetup(target: KmsTarget, call: KmsCallInfo): Promise<KmsAnswer<readonly SetupCheck[]>>;
  /** Refuses further calls, waits for those in flight, closes all handles. */
  close(): Promise<void>;
}

/** The clock of the deadline; replaced in tests. */
export interface CallerTimers {
  set(fire: () => void, ms: number): unknown;
  clear(timer: unknown): void;
}

const KEY_BYTES = 32;
const MAX_WRAPPED = 4096;
const MAX_ACCESS = 8192;
const MAX_TEXT = 1024;

/** Each code has one class: a driver that pairs them differently is outside its contract. */
const CLASS_OF: Readonly<Record<KmsCode, KmsFailureClass>> = {
  KMS_ACCESS_DENIED: 'refused',
  KMS_KEY_DISABLED: 'refused',
  KMS_KEY_PENDING_DELETION: 'refused',
  KMS_KEY_NOT_FOUND: 'refused',
  KMS_MISCONFIGURED: 'misconfigured',
  KMS_INTEGRITY: 'integrity',
  KMS_THROTTLED: 'transient',
  KMS_UNREACHABLE: 'transient',
  KMS_TIMEOUT: 'transient',
  KMS_UNAVAILABLE: 'transient',
  KMS_CONTRACT_VIOLATION: 'transient',
};

const OUTCOME_OF = {
  refused: 'refused',
  transient: 'unknown',
  misconfigured: 'misconfigured',
  integrity: 'integrity',
} as const satisfies Record<KmsFailureClass, KmsRefusal['outcome']>;

const TIMED_OUT = Symbol('timed out');

export function createKmsCaller(options: {
  readonly drivers: ReadonlyMap<string, KmsDriver>;
  readonly host: Deployment;
  /** How long one attempt may take, opening the handle included. */
  readonly attemptMs?: number;
  readonly maxHandles?: number;
  readonly timers?: CallerTimers;
}): KmsCaller {
  const { drivers, host, attemptMs = 1500, maxHandles = 1000, timers = systemTimers } = options;
  const handles = createHandles({ drivers, host, maxHandles });
  let closed = false;

  const attempt = async <T, R>(
    target: KmsTarget,
    call: KmsCallInfo,
    invoke: (handle: CustomerKeyHandle, options: CallOptions) => Promise<T>,
    accept: (answer: T, keyRef: string) => KmsAnswer<R>,
    discard: (answer: T) => void = () => {},
  ): Promise<KmsAnswer<R>> => {
    if (closed) return violation('closed');
    const lease = handles.lease(target);
    const abort = new AbortController();
    const deadline = Promise.withResolvers<typeof TIMED_OUT>();
    const timer = timers.set(() => deadline.resolve(TIMED_OUT), attemptMs);
    let late = false;
    const answered = lease.handle.then((handle) => {
      if (late) throw TIMED_OUT;
      return invoke(handle, { signal: abort.signal, correlationId: call.correlationId });
    });
    try {
      const answer = await Promise.race([answered, deadline.promise]);
      if (answer !== TIMED_OUT) return accept(answer, target.keyRef);
      late = true;
      answered.then(discard, () => {});
      abort.abort();
      return { outcome: 'unknown', code: 'KMS_TIMEOUT', detail: 'attempt-deadline', requestId: '' };
    } catch (error) {
      return classified(error, call.workedBefore);
    } finally {
      timers.clear(timer);
      lease.release(late);
    }
  };

  return {
    checkTarget(provider, keyRef, access) {
      const driver = drivers.get(provider);
      if (!driver) throw invalid([{ path: 'provider', rule: `one of: ${[...drivers.keys()].join(', ')}` }]);
      const errors: { path: string; rule: string }[] = [];
      let prepared = access;
      try {
        prepared = driver.prepareAccess(access);
      } catch {
        errors.push({ path: 'access', rule: 'names something that the service chooses itself' });
      }
      const parsed = driver.access.safeParse(prepared);
      for (const issue of parsed.error?.issues ?? []) {
        const rule =
          issue.code === 'unrecognized_keys' ? 'has a field that this provider does not know' : issue.message;
        errors.push({ path: ['access', ...issue.path].join('.'), rule });
      }
      const normal = fullKeyRef(driver, keyRef);
      if (normal === undefined) {
        errors.push({
          path: 'keyRef',
          rule: `the full ${provider} name of a key; aliases are not accepted`,
        });
      }
      const text = parsed.success ? canonicalJson(parsed.data) : '';
      if (new TextEncoder().encode(text).length > MAX_ACCESS) {
        errors.push({ path: 'access', rule: `at most ${MAX_ACCESS} bytes` });
      }
      if (errors.length > 0 || normal === undefined) throw invalid(errors);
      return { keyRef: normal, access: text };
    },
    wrap: (target, key, context, call) =>
      attempt(target, call, (handle, options) => handle.wrap(key, context, options), acceptWrapped),
    unwrap: (target, wrapped, context, call) =>
      attempt(
        target,
        call,
        (handle, options) => handle.unwrap(wrapped, context, options),
        acceptUnwrapped,
        zeroKey,
      ),
    describe: (target, call) =>
      attempt(target, call, (handle, options) => handle.describe(options), acceptDescription),
    checkSetup: (target, call) =>
      attempt(target, call, (handle, options) => handle.checkSetup(options), acceptChecks),
    async close() {
      closed = true;
      await handles.close();
    },
  };
}

const systemTimers: CallerTimers = {
  set: (fire, ms) => setTimeout(fire, ms),
  clear: (timer) => clearTimeout(timer as NodeJS.Timeout),
};

function acceptWrapped(answer: Wrapped, keyRef: string): KmsAnswer<Wrapped> {
  if (!isBytes(answer?.wrapped) || !texts(answer.keyVersion, answer.algorithm))
    return violation('wrap-answer');
  if (answer.wrapped.length < 1 || answer.wrapped.length > MAX_WRAPPED) return violation('wrapped-length');
  return pinned(answer, keyRef);
}

function acceptUnwrapped(answer: Unwrapped, keyRef: string): KmsAnswer<Unwrapped> {
  if (!isBytes(answer?.key)) return violation('unwrap-answer');
  try {
    const requestId = text(answer.requestId);
    if (answer.key.length !== KEY_BYTES) return integrity('key-length', requestId);
    const checked = pinned(answer, keyRef);
    if (checked.outcome !== 'ok') return checked;
    // A copy of ours, so that no driver can keep a reference to the bytes that we use.
    const key = secretBytes(KEY_BYTES);
    key.set(answer.key);
    return { ...checked, value: { key, keyId: answer.keyId, requestId } };
  } finally {
    zeroKey(answer);
  }
}

function acceptDescription(answer: KeyDescription, keyRef: string): KmsAnswer<KeyDescription> {
  const states: readonly string[] = ['enabled', 'disabled', 'pending-deletion', 'unavailable'];
  if (!states.includes(answer?.state) || !texts(answer.keyVersion)) return violation('describe-answer');
  return pinned(answer, keyRef);
}

function acceptChecks(answer: readonly SetupCheck[], keyRef: string): KmsAnswer<readonly SetupCheck[]> {
  if (!Array.isArray(answer)) return violation('setup-answer');
  return { outcome: 'ok', value: answer, requestId: '', keyId: keyRef };
}

/** The answer, if it names the key that was asked. */
function pinned<T extends { keyId: string; requestId?: string }>(answer: T, keyRef: string): KmsAnswer<T> {
  const requestId = text(answer.requestId);
  if (answer.keyId !== keyRef) return integrity('key-id', requestId);
  return { outcome: 'ok', value: answer, requestId, keyId: keyRef };
}

function classified(error: unknown, workedBefore: boolean): KmsRefusal {
  const failure = asFailure(error);
  if (!failure) return { ...violation('thrown'), cause: error };
  const { code, requestId, retryAfterMs } = failure;
  const failureClass = CLASS_OF[code];
  const wait = retryAfterMs === undefined ? {} : { retryAfterMs };
  if (failureClass === 'refused' && !workedBefore) {
    return {
      outcome: 'misconfigured',
      code: 'KMS_MISCONFIGURED',
      detail: code,
      requestId,
      ...wait,
      cause: error,
    };
  }
  return {
    outcome: OUTCOME_OF[failureClass],
    code,
    detail: failure.detail,
    requestId,
    ...wait,
    cause: error,
  };
}

/** Reads a KmsFailure by its shape, since `instanceof` fails between realms; undefined for anything outside the contract. */
function asFailure(
  error: unknown,
): { code: KmsCode; detail: string; requestId: string; retryAfterMs: number | undefined } | undefined {
  if (typeof error !== 'object' || error === null) return undefined;
  const { name, code, failureClass, detail, requestId, retryAfterMs } = error as Record<string, unknown>;
  if (name !== 'KmsFailure' || typeof code !== 'string' || !Object.hasOwn(CLASS_OF, code)) return undefined;
  if (CLASS_OF[code as KmsCode] !== failureClass) return undefined;
  const wait = typeof retryAfterMs === 'number' && retryAfterMs >= 0 ? retryAfterMs : undefined;
  return { code: code as KmsCode, detail: text(detail), requestId: text(requestId), retryAfterMs: wait };
}

function violation(detail: string): KmsRefusal {
  return { outcome: 'unknown', code: 'KMS_CONTRACT_VIOLATION', detail, requestId: '' };
}

function integrity(detail: string, requestId: string): KmsRefusal {
  return { outcome: 'integrity', code: 'KMS_INTEGRITY', detail, requestId };
}

function invalid(errors: readonly { path: string; rule: string }[]): ServiceError {
  return new ServiceError('REQUEST_INVALID', { errors });
}

function fullKeyRef(driver: KmsDriver, keyRef: string): string | undefined {
  try {
    const normal = driver.parseKeyRef(keyRef);
    return normal.length > 0 && normal.length < MAX_TEXT ? normal : undefined;
  } catch (error) {
    if (asFailure(error)) return undefined;
    throw error;
  }
}

/** The same text for the same value, whatever order its names came in. */
function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_name, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  );
}

function zeroKey(answer: Unwrapped): void {
  if (isBytes(answer?.key)) answer.key.fill(0);
}

function isBytes(value: unknown): value is Uint8Array {
  return Object.prototype.toString.call(value) === '[object Uint8Array]';
}

function text(value: unknown): string {
  return typeof value === 'string' && value.length <= MAX_TEXT ? value : '';
}

function texts(...values: readonly unknown[]): boolean {
  return values.every((value) => typeof value === 'string' && value.length <= MAX_TEXT);
}
