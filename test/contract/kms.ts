/**
 * The contract of KMS drivers as a suite. A driver joins it with a harness: how to reach two keys and how to bring the first
 * into each condition. A harness that cannot bring one about says why; the run then prints the clauses that it leaves unproven.
 */
import { readFileSync } from 'node:fs';
import { inspect } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { ERRORS, type KmsCode } from '../../src/errors.ts';
import type {
  CallOptions,
  CustomerKeyHandle,
  DriverHost,
  KmsDriver,
  WrapContext,
} from '../../src/kms/driver.ts';
import { CLAUSES, type Clause } from './clauses.ts';

/** What a harness may be unable to bring about or to see. */
export type Condition =
  | 'disabled'
  | 'pending-deletion'
  | 'denied'
  | 'throttled'
  | 'slow'
  | 'rotated'
  | 'version'
  | 'counted';

export interface KmsHarness {
  readonly driver: KmsDriver;
  readonly host: DriverHost;
  readonly access: unknown;
  readonly keyRefs: readonly [first: string, second: string];
  /** Well formed, of a key that does not exist. */
  readonly unknownKeyRef: string;
  /** Access, and a reference to the first key where it holds the address, with which no host is reached, and back. */
  unreachable(): Promise<{ access: unknown; keyRef?: string; restore(): Promise<void> }>;
  /** Brings the first key into the condition; the returned function takes it out again. */
  enter(condition: Exclude<Condition, 'version' | 'counted'>): Promise<() => Promise<void>>;
  /** How many calls the KMS has seen; not read when the plan cannot count. */
  calls(): number;
  close(): Promise<void>;
}

export interface HarnessPlan {
  readonly name: string;
  /** Why a condition cannot be brought about here. */
  readonly cannot: Partial<Record<Condition, string>>;
  /** Key references that this vendor's parser must refuse, besides those made from a good one. */
  readonly hostile: readonly string[];
  /** The driver's own source files, from the root of the repository. */
  readonly sources: readonly string[];
  /** Credentials that must not show in errors. */
  readonly secrets: readonly string[];
  start(): Promise<KmsHarness>;
}

const CLAUSE_OF: Readonly<Record<Condition, Clause>> = {
  disabled: 'K9',
  'pending-deletion': 'K9',
  denied: 'K9',
  throttled: 'K9',
  slow: 'K10',
  rotated: 'K8',
  version: 'K8',
  counted: 'K12',
};

/** The lines that a run prints and that `localstack/README.md` commits to. */
export function unprovenClauses(plan: HarnessPlan): readonly string[] {
  return Object.entries(plan.cannot).map(
    ([condition, why]) => `${CLAUSE_OF[condition as Condition]} ${condition}: ${why}`,
  );
}

const CONTEXT: WrapContext = { tenant: 'ten_markertenant', scope: 'marker-scope', key: 'key_markerkey' };
const CODES: Readonly<Record<'disabled' | 'pending-deletion' | 'denied' | 'throttled', KmsCode>> = {
  disabled: 'KMS_KEY_DISABLED',
  'pending-deletion': 'KMS_KEY_PENDING_DELETION',
  denied: 'KMS_ACCESS_DENIED',
  throttled: 'KMS_THROTTLED',
};

export function describeKmsContract(plan: HarnessPlan): void {
  describe(`KMS contract: ${plan.name}`, () => {
    let harness: KmsHarness;
    let first: CustomerKeyHandle;
    let second: CustomerKeyHandle;
    const can = (condition: Condition) => plan.cannot[condition] === undefined;
    const open = async (keyRef: string, access: unknown = harness.access) => {
      const { driver, host } = harness;
      return driver.open(driver.parseKeyRef(keyRef), driver.access.parse(access), host);
    };

    beforeAll(async () => {
      harness = await plan.start();
      first = await open(harness.keyRefs[0]);
      second = await open(harness.keyRefs[1]);
    });

    afterAll(async () => {
      await first?.close();
      await second?.close();
      await harness?.close();
      const unproven = unprovenClauses(plan);
      if (unproven.length > 0)
        process.stderr.write(`unproven with ${plan.name}:\n  ${unproven.join('\n  ')}\n`);
    });

    test(`K1 ${CLAUSES.K1}`, async () => {
      for (const length of [16, 32, 64]) {
        const key = bytes(length);
        const { wrapped } = await first.wrap(key, CONTEXT, call());
        const answer = await first.unwrap(wrapped, CONTEXT, call());
        expect(hex(answer.key)).toBe(hex(key));
        expect(answer.key.buffer.byteLength).toBe(length);
      }
    });

    test(`K2 ${CLAUSES.K2}`, async () => {
      const key = bytes(32);
      const one = await first.wrap(key, CONTEXT, call());
      const two = await first.wrap(key, CONTEXT, call());
      expect(hex(one.wrapped)).not.toBe(hex(two.wrapped));
    });

    test(`K3 ${CLAUSES.K3}`, async () => {
      expect((await first.describe(call())).bindsContext).toBe(true);
      const { tenant, scope, key } = CONTEXT;
      const { wrapped } = await first.wrap(bytes(32), CONTEXT, call());
      const others: WrapContext[] = [
        { tenant: `${tenant}x`, scope, key },
        { tenant, scope: `${scope}x`, key },
        { tenant, scope, key: `${key}x` },
        { tenant: '', scope, key },
        { tenant, scope: '', key },
        { tenant: scope, scope: tenant, key },
        { tenant: tenant + scope.slice(0, 1), scope: scope.slice(1), key },
        { tenant: tenant.toUpperCase(), scope, key },
      ];
      for (const other of others) {
        expect(await codeOf(first.unwrap(wrapped, other, call()))).toBe('KMS_INTEGRITY');
      }
      const reordered: WrapContext = { key, scope, tenant };
      expect((await first.unwrap(wrapped, reordered, call())).key).toHaveLength(32);
    });

    test(`K4 ${CLAUSES.K4}`, async () => {
      const { wrapped } = await first.wrap(bytes(32), CONTEXT, call());
      expect(await codeOf(second.unwrap(wrapped, CONTEXT, call()))).toBe('KMS_INTEGRITY');
    });

    test(`K5 ${CLAUSES.K5}`, async () => {
      const { wrapped } = await first.wrap(bytes(32), CONTEXT, call());
      const bad: Uint8Array[] = [];
      for (let i = 0; i < wrapped.length; i += 1) {
        const changed = Uint8Array.from(wrapped);
        changed[i] = (changed[i] ?? 0) ^ (1 << (i % 8));
        bad.push(changed);
      }
      for (const length of [1, 2, 16, 20, wrapped.length >> 1, wrapped.length - 1])
        bad.push(wrapped.slice(0, length));
      bad.push(Uint8Array.from([...wrapped, 0]), Uint8Array.from([0, ...wrapped]));
      const codes = new Set<string>();
      for (const changed of bad) codes.add(await codeOf(first.unwrap(changed, CONTEXT, call())));
      expect([...codes]).toEqual(['KMS_INTEGRITY']);
      expect(ERRORS.KMS_INTEGRITY.retryable).toBe(false);
    });

    test(`K6 ${CLAUSES.K6}`, async () => {
      const { wrapped } = await first.wrap(bytes(32), CONTEXT, call());
      expect(wrapped.length).toBeGreaterThan(0);
      expect(wrapped.length).toBeLessThanOrEqual(4096);
    });

    test(`K7 ${CLAUSES.K7}`, async () => {
      const [keyRef] = harness.keyRefs;
      expect(harness.driver.parseKeyRef(keyRef)).toBe(keyRef);
      expect(keyRef.length).toBeGreaterThan(0);
      expect(keyRef.length).toBeLessThan(1024);
      const wrapped = await first.wrap(bytes(32), CONTEXT, call());
      const unwrapped = await first.unwrap(wrapped.wrapped, CONTEXT, call());
      const described = await first.describe(call());
      expect([described.keyId, wrapped.keyId, unwrapped.keyId]).toEqual([keyRef, keyRef, keyRef]);
    });

    if (can('rotated')) {
      test(`K8 ${CLAUSES.K8}`, async () => {
        const version = async () =>
          (await first.wrap(bytes(32), CONTEXT, call())).keyVersion ||
          (await first.describe(call())).keyVersion;
        const key = bytes(32);
        const { wrapped } = await first.wrap(key, CONTEXT, call());
        const before = await version();
        await (await harness.enter('rotated'))();
        expect(hex((await first.unwrap(wrapped, CONTEXT, call())).key)).toBe(hex(key));
        const after = await version();
        if (can('version')) expect(after).not.toBe(before);
      });
    }

    test(`K9 ${CLAUSES.K9}`, async () => {
      const { wrapped } = await first.wrap(bytes(32), CONTEXT, call());
      const seen = new Map<string, string>();
      for (const [condition, code] of Object.entries(CODES) as [keyof typeof CODES, KmsCode][]) {
        if (!can(condition)) continue;
        const leave = await harness.enter(condition);
        const [unwrapCode, wrapCode] = [
          await codeOf(first.unwrap(wrapped, CONTEXT, call())),
          await codeOf(first.wrap(bytes(32), CONTEXT, call())),
        ];
        await leave();
        expect([condition, unwrapCode, wrapCode]).toEqual([condition, code, code]);
        seen.set(condition, unwrapCode);
        expect((await first.unwrap(wrapped, CONTEXT, call())).key).toHaveLength(32);
      }
      const unknown = await open(harness.unknownKeyRef);
      seen.set('unknown', await codeOf(unknown.unwrap(wrapped, CONTEXT, call())));
      await unknown.close();
      const { access, keyRef = harness.keyRefs[0], restore } = await harness.unreachable();
      const cut = await open(keyRef, access);
      seen.set('unreachable', await codeOf(cut.unwrap(wrapped, CONTEXT, call())));
      await cut.close();
      await restore();
      expect(seen.get('unknown')).toBe('KMS_KEY_NOT_FOUND');
      expect(seen.get('unreachable')).toBe('KMS_UNREACHABLE');
      expect(new Set(seen.values()).size).toBe(seen.size);
      for (const code of seen.values()) {
        const retryable = code === 'KMS_THROTTLED' || code === 'KMS_UNREACHABLE';
        expect([code, ERRORS[code as KmsCode].retryable]).toEqual([code, retryable]);
      }
    });

    test(`K10 ${CLAUSES.K10}`, async () => {
      const { wrapped } = await first.wrap(bytes(32), CONTEXT, call());
      const leave = can('slow') ? await harness.enter('slow') : undefined;
      const abort = new AbortController();
      const started = codeOf(first.unwrap(wrapped, CONTEXT, call(abort.signal)));
      await new Promise((resolve) => setImmediate(resolve));
      abort.abort();
      expect(await started).toBe('KMS_TIMEOUT');
      await leave?.();
      expect(await codeOf(first.unwrap(wrapped, CONTEXT, call(AbortSignal.abort())))).toBe('KMS_TIMEOUT');
      expect((await first.unwrap(wrapped, CONTEXT, call())).key).toHaveLength(32);
    });

    test(`K11 ${CLAUSES.K11}`, async () => {
      const results = await Promise.all(
        Array.from({ length: 40 }, async (_, index) => {
          const key = bytes(32);
          const context = { ...CONTEXT, key: `key_${index}` };
          const { wrapped } = await first.wrap(key, context, call());
          return hex((await first.unwrap(wrapped, context, call())).key) === hex(key);
        }),
      );
      expect(results).not.toContain(false);
    });

    test(`K12 ${CLAUSES.K12}`, async () => {
      const { wrapped } = await first.wrap(bytes(32), CONTEXT, call());
      const before = harness.calls();
      await first.unwrap(wrapped, CONTEXT, call());
      await first.unwrap(wrapped, CONTEXT, call());
      await codeOf(first.unwrap(wrapped, { ...CONTEXT, scope: 'other' }, call()));
      if (can('counted')) expect(harness.calls()).toBe(before + 3);
      for (const file of plan.sources) {
        expect([file, forbidden(readFileSync(file, 'utf8'))]).toEqual([file, []]);
      }
    });

    test(`K13 ${CLAUSES.K13}`, async () => {
      const before = harness.calls();
      const [good] = harness.keyRefs;
      const hostile = [
        '',
        ' ',
        '../',
        `${good}/../x`,
        `${good}?x=1`,
        `${good}#x`,
        `${good}%2f..`,
        `${good}\n`,
        ...plan.hostile,
      ];
      for (const keyRef of hostile)
        expect([keyRef, parseCode(keyRef)]).toEqual([keyRef, 'KMS_MISCONFIGURED']);
      const piece = fc.constantFrom(
        '../',
        '?',
        '#',
        '%2F',
        '%00',
        '\0',
        '\r\n',
        ' ',
        '\\',
        '@',
        '//',
        ';',
        '\u2215',
      );
      fc.assert(
        fc.property(fc.nat(good.length), piece, (at, inserted) => {
          expect(parseCode(good.slice(0, at) + inserted + good.slice(at))).toBe('KMS_MISCONFIGURED');
        }),
      );
      expect(harness.calls()).toBe(before);
    });

    test(`K14 ${CLAUSES.K14}`, async () => {
      const key = bytes(32);
      const { wrapped } = await first.wrap(key, CONTEXT, call());
      const errors = [
        await thrown(first.unwrap(wrapped, { ...CONTEXT, scope: 'marker-other' }, call())),
        await thrown(first.unwrap(wrapped.slice(1), CONTEXT, call())),
        await thrown(second.unwrap(wrapped, CONTEXT, call())),
        await thrown(first.unwrap(wrapped, CONTEXT, call(AbortSignal.abort()))),
      ];
      if (can('disabled')) {
        const leave = await harness.enter('disabled');
        errors.push(
          await thrown(first.wrap(key, CONTEXT, call())),
          await thrown(first.unwrap(wrapped, CONTEXT, call())),
        );
        await leave();
      }
      const markers = [...Object.values(CONTEXT), 'marker-other', ...plan.secrets];
      for (const secret of [key, wrapped]) markers.push(hex(secret), Buffer.from(secret).toString('base64'));
      for (const error of errors) {
        const shown = inspect(error, { depth: 8, maxArrayLength: 10 });
        expect(markers.filter((marker) => shown.includes(marker))).toEqual([]);
      }
    });

    test(`K15 ${CLAUSES.K15}`, async () => {
      const handle = await open(harness.keyRefs[0]);
      const { wrapped } = await handle.wrap(bytes(32), CONTEXT, call());
      await handle.close();
      await handle.close();
      const uses = [
        handle.wrap(bytes(32), CONTEXT, call()),
        handle.unwrap(wrapped, CONTEXT, call()),
        handle.describe(call()),
        handle.checkSetup(call()),
      ];
      const codes = await Promise.all(uses.map(codeOf));
      expect(new Set(codes)).toEqual(new Set(['KMS_CONTRACT_VIOLATION']));
      expect((await first.unwrap(wrapped, CONTEXT, call())).key).toHaveLength(32);
    });

    const parseCode = (keyRef: string): string => {
      try {
        harness.driver.parseKeyRef(keyRef);
        return 'accepted';
      } catch (error) {
        return (error as { code?: string }).code ?? 'foreign';
      }
    };
  });
}

function call(signal: AbortSignal = new AbortController().signal): CallOptions {
  return { signal, correlationId: 'cid-0123456789abcdef' };
}

function bytes(length: number): Uint8Array {
  return crypto.getRandomValues(new Uint8Array(length));
}

function hex(value: Uint8Array): string {
  return Buffer.from(value).toString('hex');
}

async function thrown(answer: Promise<unknown>): Promise<unknown> {
  return answer.then(
    () => new Error('it did not fail'),
    (error: unknown) => error,
  );
}

/** The code of the KmsFailure that a call ends in; `ok` or `foreign` for anything else. */
async function codeOf(answer: Promise<unknown>): Promise<string> {
  return answer.then(
    () => 'ok',
    (error: { name?: string; code?: string }) =>
      error.name === 'KmsFailure' ? (error.code ?? '') : 'foreign',
  );
}

/** What a driver's source must not hold: the environment, a log, timers that outlive a call. */
function forbidden(source: string): readonly string[] {
  const code = source.replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '');
  return code.match(/process\.env|console\.|setInterval|process\.stdout|process\.stderr/g) ?? [];
}
