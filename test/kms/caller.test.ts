import { describe, expect, test } from '@jest/globals';
import { z } from 'zod';
import { type CallerTimers, createKmsCaller, type KmsAnswer } from '../../src/kms/caller.ts';
import type { CallOptions, CustomerKeyHandle, KmsDriver, Unwrapped } from '../../src/kms/driver.ts';
import { KmsFailure } from '../../src/kms/driver.ts';

const KEY_REF = 'fake://keys/one';
const CONTEXT = { tenant: 'ten_a', scope: 'default', key: 'key_a' };
const FIRST = { correlationId: 'cid-1', workedBefore: false };
const AGAIN = { correlationId: 'cid-2', workedBefore: true };
const HOST = { secret: () => Promise.reject(new Error('none')), endpointAllowed: () => false };

/** A clock that fires when the test says so. */
function virtualTimers(): CallerTimers & {
  fire(): void;
  readonly pending: number;
  readonly asked: number[];
} {
  const waiting = new Map<number, () => void>();
  const asked: number[] = [];
  let next = 0;
  return {
    asked,
    set(fire, ms) {
      asked.push(ms);
      next += 1;
      waiting.set(next, fire);
      return next;
    },
    clear: (timer) => void waiting.delete(timer as number),
    fire() {
      for (const fire of waiting.values()) fire();
      waiting.clear();
    },
    get pending() {
      return waiting.size;
    },
  };
}

function fakeHandle(change: Partial<CustomerKeyHandle> = {}): CustomerKeyHandle & { closes: number } {
  return {
    closes: 0,
    describe: async () => ({ keyId: KEY_REF, state: 'enabled', bindsContext: true, keyVersion: '1' }),
    wrap: async () => ({
      wrapped: Uint8Array.of(1),
      keyId: KEY_REF,
      keyVersion: '1',
      algorithm: 'a',
      requestId: 'r',
    }),
    unwrap: async () => ({ key: new Uint8Array(32).fill(7), keyId: KEY_REF, requestId: 'rid' }),
    checkSetup: async () => [],
    async close() {
      this.closes += 1;
    },
    ...change,
  };
}

function callerWith(
  open: (keyRef: string) => CustomerKeyHandle | Promise<CustomerKeyHandle>,
  options: { timers?: CallerTimers; maxHandles?: number } = {},
) {
  const driver: KmsDriver = {
    provider: 'fake',
    access: z.strictObject({ b: z.string().optional(), a: z.number().optional() }),
    prepareAccess: (submitted) => submitted,
    parseKeyRef(keyRef) {
      if (!keyRef.startsWith('fake://keys/')) throw new KmsFailure('misconfigured', 'KMS_MISCONFIGURED');
      return keyRef.toLowerCase();
    },
    open: async (keyRef) => open(keyRef),
  };
  const caller = createKmsCaller({ drivers: new Map([['fake', driver]]), host: HOST, ...options });
  const target = (tenant = 'ten_a', keyRef = KEY_REF) => ({
    tenant,
    bindingId: 'ckey_a',
    version: 1,
    provider: 'fake',
    keyRef,
    access: '{}',
  });
  return { caller, target };
}

async function unwrapWith(unwrap: CustomerKeyHandle['unwrap'], call = AGAIN): Promise<KmsAnswer<Unwrapped>> {
  const { caller, target } = callerWith(() => fakeHandle({ unwrap }));
  return caller.unwrap(target(), Uint8Array.of(1), CONTEXT, call);
}

function failing(error: unknown): CustomerKeyHandle['unwrap'] {
  return async () => {
    throw error;
  };
}

describe('an answer', () => {
  test('is handed on with its request id, in a buffer that the driver does not hold', async () => {
    const own = new Uint8Array(32).fill(9);
    const answer = await unwrapWith(async () => ({ key: own, keyId: KEY_REF, requestId: 'rid' }));
    expect(answer).toEqual({
      outcome: 'ok',
      value: { key: new Uint8Array(32).fill(9), keyId: KEY_REF, requestId: 'rid' },
      requestId: 'rid',
      keyId: KEY_REF,
    });
    expect(own).toEqual(new Uint8Array(32));
  });

  test.each([31, 33, 0, 64])('of %d bytes is an integrity failure, zeroed', async (length) => {
    const key = new Uint8Array(length).fill(9);
    const answer = await unwrapWith(async () => ({ key, keyId: KEY_REF, requestId: 'rid' }));
    expect(answer).toMatchObject({
      outcome: 'integrity',
      code: 'KMS_INTEGRITY',
      detail: 'key-length',
      requestId: 'rid',
    });
    expect(key.every((byte) => byte === 0)).toBe(true);
  });

  test('from another key is an integrity failure, zeroed', async () => {
    const key = new Uint8Array(32).fill(9);
    const answer = await unwrapWith(async () => ({ key, keyId: 'fake://keys/two', requestId: '' }));
    expect(answer).toMatchObject({ outcome: 'integrity', code: 'KMS_INTEGRITY', detail: 'key-id' });
    expect(key).toEqual(new Uint8Array(32));
  });

  test('that names another key is refused for wrap and describe too', async () => {
    const { caller, target } = callerWith(() =>
      fakeHandle({
        describe: async () => ({ keyId: 'x', state: 'enabled', bindsContext: true, keyVersion: '' }),
        wrap: async () => ({
          wrapped: Uint8Array.of(1),
          keyId: 'x',
          keyVersion: '',
          algorithm: '',
          requestId: '',
        }),
      }),
    );
    expect(await caller.wrap(target(), new Uint8Array(32), CONTEXT, AGAIN)).toMatchObject({
      code: 'KMS_INTEGRITY',
    });
    expect(await caller.describe(target(), AGAIN)).toMatchObject({ code: 'KMS_INTEGRITY' });
  });

  test.each([0, 4097])('with %d wrapped bytes is outside the contract', async (length) => {
    const { caller, target } = callerWith(() =>
      fakeHandle({
        wrap: async () => ({
          wrapped: new Uint8Array(length),
          keyId: KEY_REF,
          keyVersion: '',
          algorithm: '',
          requestId: '',
        }),
      }),
    );
    expect(await caller.wrap(target(), new Uint8Array(32), CONTEXT, AGAIN)).toMatchObject({
      outcome: 'unknown',
      code: 'KMS_CONTRACT_VIOLATION',
    });
  });

  test.each([undefined, null, {}, { key: 'text' }, 7])(
    'of the wrong shape (%p) is outside the contract',
    async (value) => {
      const answer = await unwrapWith(async () => value as unknown as Unwrapped);
      expect(answer).toMatchObject({ outcome: 'unknown', code: 'KMS_CONTRACT_VIOLATION' });
    },
  );
});

describe('a failure', () => {
  const denied = new KmsFailure('refused', 'KMS_ACCESS_DENIED', { requestId: 'rid' });

  test('that refuses a key which worked before is a refusal', async () => {
    expect(await unwrapWith(failing(denied), AGAIN)).toMatchObject({
      outcome: 'refused',
      code: 'KMS_ACCESS_DENIED',
      requestId: 'rid',
    });
  });

  test('that refuses a key on first contact is a misconfiguration and keeps the specific code', async () => {
    expect(await unwrapWith(failing(denied), FIRST)).toMatchObject({
      outcome: 'misconfigured',
      code: 'KMS_MISCONFIGURED',
      detail: 'KMS_ACCESS_DENIED',
      requestId: 'rid',
    });
  });

  test('that is transient is unknown whatever the history, with the time to wait', async () => {
    const throttled = new KmsFailure('transient', 'KMS_THROTTLED', { retryAfterMs: 250 });
    for (const call of [FIRST, AGAIN]) {
      expect(await unwrapWith(failing(throttled), call)).toMatchObject({
        outcome: 'unknown',
        code: 'KMS_THROTTLED',
        retryAfterMs: 250,
      });
    }
  });

  test('of integrity or configuration keeps its class whatever the history', async () => {
    for (const call of [FIRST, AGAIN]) {
      const integrity = new KmsFailure('integrity', 'KMS_INTEGRITY');
      const wrong = new KmsFailure('misconfigured', 'KMS_MISCONFIGURED', { detail: 'region-mismatch' });
      expect(await unwrapWith(failing(integrity), call)).toMatchObject({ outcome: 'integrity' });
      expect(await unwrapWith(failing(wrong), call)).toMatchObject({
        outcome: 'misconfigured',
        detail: 'region-mismatch',
      });
    }
  });

  test.each([new Error('foreign'), 'text', undefined, null, { code: 'KMS_ACCESS_DENIED' }])(
    'that is not ours (%p) is outside the contract, never a refusal',
    async (error) => {
      expect(await unwrapWith(failing(error))).toMatchObject({
        outcome: 'unknown',
        code: 'KMS_CONTRACT_VIOLATION',
      });
    },
  );

  test('whose class does not belong to its code is outside the contract', async () => {
    const wrong = new KmsFailure('transient', 'KMS_ACCESS_DENIED');
    expect(await unwrapWith(failing(wrong))).toMatchObject({
      outcome: 'unknown',
      code: 'KMS_CONTRACT_VIOLATION',
    });
  });

  test('thrown synchronously by the handle or by open is an answer like any other', async () => {
    const answer = await unwrapWith(() => {
      throw new Error('synchronous');
    });
    expect(answer).toMatchObject({ outcome: 'unknown', code: 'KMS_CONTRACT_VIOLATION' });
    const { caller, target } = callerWith(() => {
      throw denied;
    });
    expect(await caller.describe(target(), AGAIN)).toMatchObject({
      outcome: 'refused',
      code: 'KMS_ACCESS_DENIED',
    });
  });

  test('to open is not remembered: the next call opens again', async () => {
    let opens = 0;
    const { caller, target } = callerWith(() => {
      opens += 1;
      if (opens === 1) throw denied;
      return fakeHandle();
    });
    expect(await caller.describe(target(), AGAIN)).toMatchObject({ outcome: 'refused' });
    expect(await caller.describe(target(), AGAIN)).toMatchObject({ outcome: 'ok' });
  });

  test('of a binding that names no driver or another form of the key is a misconfiguration', async () => {
    const { caller, target } = callerWith(() => fakeHandle());
    expect(await caller.describe({ ...target(), provider: 'none' }, AGAIN)).toMatchObject({
      outcome: 'misconfigured',
      detail: 'unknown-provider',
    });
    expect(await caller.describe({ ...target(), keyRef: 'fake://keys/ONE' }, AGAIN)).toMatchObject({
      outcome: 'misconfigured',
      detail: 'key-ref',
    });
    expect(await caller.describe({ ...target(), access: '{"z":1}' }, AGAIN)).toMatchObject({
      detail: 'access',
    });
  });
});

describe('the attempt deadline', () => {
  test('ends the wait for a driver that never settles, and aborts it', async () => {
    const timers = virtualTimers();
    const started = Promise.withResolvers<AbortSignal>();
    const { caller, target } = callerWith(
      () =>
        fakeHandle({
          unwrap: (_wrapped, _context, { signal }) => {
            started.resolve(signal);
            return new Promise(() => {});
          },
        }),
      { timers },
    );
    const answer = caller.unwrap(target(), Uint8Array.of(1), CONTEXT, AGAIN);
    const signal = await started.promise;
    expect(timers.asked).toEqual([1500]);
    expect(signal.aborted).toBe(false);
    timers.fire();
    expect(await answer).toMatchObject({ outcome: 'unknown', code: 'KMS_TIMEOUT' });
    expect(signal.aborted).toBe(true);
  });

  test('zeroes a plaintext that comes too late and never uses it', async () => {
    const timers = virtualTimers();
    const started = Promise.withResolvers<void>();
    const late = Promise.withResolvers<Unwrapped>();
    const { caller, target } = callerWith(
      () =>
        fakeHandle({
          unwrap: () => {
            started.resolve();
            return late.promise;
          },
        }),
      { timers },
    );
    const answer = caller.unwrap(target(), Uint8Array.of(1), CONTEXT, AGAIN);
    await started.promise;
    timers.fire();
    expect(await answer).toMatchObject({ outcome: 'unknown', code: 'KMS_TIMEOUT' });
    const key = new Uint8Array(32).fill(9);
    late.resolve({ key, keyId: KEY_REF, requestId: '' });
    await late.promise;
    await Promise.resolve();
    expect(key).toEqual(new Uint8Array(32));
  });

  test('zeroes a plaintext that comes in the same turn as the deadline', async () => {
    const timers = virtualTimers();
    const started = Promise.withResolvers<void>();
    const late = Promise.withResolvers<Unwrapped>();
    const { caller, target } = callerWith(
      () =>
        fakeHandle({
          unwrap: () => {
            started.resolve();
            return late.promise;
          },
        }),
      { timers },
    );
    const answer = caller.unwrap(target(), Uint8Array.of(1), CONTEXT, AGAIN);
    await started.promise;
    const key = new Uint8Array(32).fill(9);
    timers.fire();
    late.resolve({ key, keyId: KEY_REF, requestId: '' });
    const settled = await answer;
    await new Promise((resolve) => setImmediate(resolve));
    expect(settled).toMatchObject({ code: 'KMS_TIMEOUT' });
    expect(key).toEqual(new Uint8Array(32));
  });

  test('leaves no unhandled rejection when the driver fails after it', async () => {
    const timers = virtualTimers();
    const unhandled: unknown[] = [];
    const listen = (reason: unknown) => unhandled.push(reason);
    process.on('unhandledRejection', listen);
    const { caller, target } = callerWith(
      () =>
        fakeHandle({
          unwrap: (_wrapped, _context, { signal }: CallOptions) =>
            new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('late')))),
        }),
      { timers },
    );
    const answer = caller.unwrap(target(), Uint8Array.of(1), CONTEXT, AGAIN);
    await new Promise((resolve) => setImmediate(resolve));
    timers.fire();
    expect(await answer).toMatchObject({ code: 'KMS_TIMEOUT' });
    await new Promise((resolve) => setImmediate(resolve));
    process.off('unhandledRejection', listen);
    expect(unhandled).toEqual([]);
  });

  test('covers opening, forgets a handle that never opens and closes one that opens too late', async () => {
    const timers = virtualTimers();
    const opening = Promise.withResolvers<CustomerKeyHandle>();
    const late = fakeHandle();
    let opens = 0;
    const { caller, target } = callerWith(
      () => {
        opens += 1;
        return opens === 1 ? opening.promise : fakeHandle();
      },
      { timers },
    );
    const answer = caller.describe(target(), AGAIN);
    await new Promise((resolve) => setImmediate(resolve));
    timers.fire();
    expect(await answer).toMatchObject({ code: 'KMS_TIMEOUT' });
    expect(await caller.describe(target(), AGAIN)).toMatchObject({ outcome: 'ok' });
    opening.resolve(late);
    await new Promise((resolve) => setImmediate(resolve));
    expect([opens, late.closes]).toEqual([2, 1]);
  });

  test('leaves no timer behind', async () => {
    const timers = virtualTimers();
    const { caller, target } = callerWith(() => fakeHandle(), { timers });
    await caller.describe(target(), AGAIN);
    expect(timers.pending).toBe(0);
  });
});

describe('handles', () => {
  test('are opened once per tenant, key and access, and not shared between tenants', async () => {
    const opened: string[] = [];
    const { caller, target } = callerWith((keyRef) => {
      opened.push(keyRef);
      return fakeHandle();
    });
    await Promise.all([caller.describe(target('ten_a'), AGAIN), caller.describe(target('ten_a'), AGAIN)]);
    await caller.describe(target('ten_b'), AGAIN);
    await caller.describe(target('ten_a', 'fake://keys/two'), AGAIN);
    expect(opened).toEqual([KEY_REF, KEY_REF, 'fake://keys/two']);
  });

  test('beyond the bound close from the least recently used, but not under a call', async () => {
    const handles: (CustomerKeyHandle & { closes: number })[] = [];
    const release = Promise.withResolvers<void>();
    const { caller, target } = callerWith(
      () => {
        const handle = fakeHandle({
          checkSetup: async () => {
            await release.promise;
            return [];
          },
        });
        handles.push(handle);
        return handle;
      },
      { maxHandles: 2 },
    );
    const long = caller.checkSetup(target('ten_a'), AGAIN);
    await caller.describe(target('ten_b'), AGAIN);
    await caller.describe(target('ten_c'), AGAIN);
    await caller.describe(target('ten_d'), AGAIN);
    expect(handles.map((handle) => handle.closes)).toEqual([0, 1, 0, 0]);
    release.resolve();
    await long;
    expect(handles.map((handle) => handle.closes)).toEqual([1, 1, 0, 0]);
  });

  test('all close at the end, once, after the calls in flight; later calls are refused', async () => {
    const handles: (CustomerKeyHandle & { closes: number })[] = [];
    const release = Promise.withResolvers<void>();
    const { caller, target } = callerWith(() => {
      const handle = fakeHandle({
        checkSetup: async () => {
          await release.promise;
          return [];
        },
      });
      handles.push(handle);
      return handle;
    });
    const long = caller.checkSetup(target('ten_a'), AGAIN);
    await caller.describe(target('ten_b'), AGAIN);
    let closed = false;
    const closing = caller.close().then(() => {
      closed = true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    expect([closed, ...handles.map((handle) => handle.closes)]).toEqual([false, 0, 1]);
    release.resolve();
    expect(await long).toMatchObject({ outcome: 'ok' });
    await closing;
    await caller.close();
    expect(handles.map((handle) => handle.closes)).toEqual([1, 1]);
    expect(await caller.describe(target(), AGAIN)).toMatchObject({
      code: 'KMS_CONTRACT_VIOLATION',
      detail: 'closed',
    });
  });
});

describe('checkTarget', () => {
  const { caller } = callerWith(() => fakeHandle());
  const problems = (provider: string, keyRef: string, access: unknown) => {
    try {
      caller.checkTarget(provider, keyRef, access);
      return [];
    } catch (error) {
      const { code, errors } = error as { code: string; errors: { path: string }[] };
      return [code, ...errors.map((one) => one.path)];
    }
  };

  test('returns the normalised key reference and the access as one text, whatever the order of its names', () => {
    expect(caller.checkTarget('fake', 'fake://keys/ONE', { b: 'x', a: 1 })).toEqual({
      keyRef: KEY_REF,
      access: '{"a":1,"b":"x"}',
    });
    expect(caller.checkTarget('fake', KEY_REF, { a: 1, b: 'x' }).access).toBe('{"a":1,"b":"x"}');
  });

  test('names every wrong field', () => {
    expect(problems('none', KEY_REF, {})).toEqual(['REQUEST_INVALID', 'provider']);
    expect(problems('fake', 'alias/one', { a: 'x', b: 1 })).toEqual([
      'REQUEST_INVALID',
      'access.b',
      'access.a',
      'keyRef',
    ]);
    expect(problems('fake', KEY_REF, { c: 1 })).toEqual(['REQUEST_INVALID', 'access']);
    expect(problems('fake', KEY_REF, null)).toEqual(['REQUEST_INVALID', 'access']);
    expect(problems('fake', KEY_REF, { b: 'x'.repeat(8192) })).toEqual(['REQUEST_INVALID', 'access']);
    expect(problems('fake', `fake://keys/${'x'.repeat(1024)}`, {})).toEqual(['REQUEST_INVALID', 'keyRef']);
  });

  test('never repeats a value that was sent', () => {
    let shown = '';
    try {
      caller.checkTarget('fake', 'secret-ref', { a: 'secret-value', 'secret-name': 1 });
    } catch (error) {
      shown = JSON.stringify(error);
    }
    expect(shown).not.toBe('');
    expect(shown).not.toMatch(/secret-/);
  });
});
