import { describe, expect, test } from '@jest/globals';
import { type Act, check, type Decrypt, type KeyState } from './checker.ts';

function act(invoke: number, complete: number, state: KeyState, tenant = 't'): Act {
  return { tenant, invoke, complete, state };
}

function decrypt(invoke: number, complete: number, result: Decrypt['result'], tenant = 't'): Decrypt {
  return { tenant, invoke, complete, result };
}

const REVOKED_AT_10 = [act(10, 12, 'revoked')];

describe('the history checker', () => {
  test.each([
    ['a success before the revocation began', decrypt(1, 9, 'ok')],
    ['a success beside the revocation', decrypt(1, 11, 'ok')],
    ['a denial beside the revocation', decrypt(1, 11, 'denied')],
    ['a success that began while the revocation ran', decrypt(11, 40, 'ok')],
    ['a success that began as the revocation ended', decrypt(12, 40, 'ok')],
    ['a denial after the revocation', decrypt(13, 14, 'denied')],
    ['neither, at any time', decrypt(13, 14, 'none')],
    ['a success of another tenant', decrypt(13, 14, 'ok', 'other')],
  ])('allows %s', (_what, one) => {
    const verdict = check([one], REVOKED_AT_10);
    expect(verdict.staleDecrypts).toEqual([]);
    expect(verdict.staleDenials).toEqual([]);
  });

  test('a success that began after the revocation had ended is stale', () => {
    const stale = decrypt(13, 14, 'ok');
    expect(check([decrypt(1, 2, 'ok'), stale], REVOKED_AT_10).staleDecrypts).toEqual([stale]);
  });

  test('a denial that ended before the revocation began is stale', () => {
    const stale = decrypt(8, 9, 'denied');
    expect(check([stale], REVOKED_AT_10).staleDenials).toEqual([stale]);
  });

  test('the last act that ended counts, not an earlier one', () => {
    const acts = [act(10, 12, 'revoked'), act(20, 22, 'enabled'), act(30, 32, 'revoked')];
    expect(check([decrypt(25, 26, 'ok')], acts).staleDecrypts).toHaveLength(0);
    expect(check([decrypt(25, 26, 'denied')], acts).staleDenials).toHaveLength(1);
    expect(check([decrypt(35, 36, 'ok')], acts).staleDecrypts).toHaveLength(1);
  });

  test('every act beside a long decrypt counts', () => {
    const acts = [act(10, 12, 'revoked'), act(20, 22, 'enabled'), act(30, 32, 'revoked')];
    expect(check([decrypt(13, 40, 'ok'), decrypt(13, 40, 'denied')], acts)).toMatchObject({
      staleDecrypts: [],
      staleDenials: [],
    });
  });

  test('acts may come in any order, but not at the same time', () => {
    const acts = [act(20, 22, 'enabled'), act(10, 12, 'revoked')];
    expect(check([decrypt(15, 16, 'ok')], acts).staleDecrypts).toHaveLength(1);
    expect(() => check([], [act(10, 20, 'revoked'), act(15, 25, 'enabled')])).toThrow(/overlap/);
    expect(() => check([], [act(10, 9, 'revoked')])).toThrow(/ends before/);
  });

  test('agrees with the definition, computed the slow way, on random histories', () => {
    let seed = 1;
    const random = (below: number): number => {
      seed = (seed * 48_271) % 2_147_483_647;
      return seed % below;
    };
    let stale = 0;
    for (let round = 0; round < 300; round += 1) {
      const acts: Act[] = [];
      for (let time = random(5), i = 0; i < 6; i += 1, time += random(6)) {
        const invoke = time;
        time += random(4);
        acts.push(act(invoke, time, random(2) === 0 ? 'revoked' : 'enabled'));
      }
      const from = random(40);
      const one = decrypt(from, from + random(15), random(2) === 0 ? 'ok' : 'denied');
      const ended = acts.filter(({ complete }) => complete < one.invoke);
      const beside = acts.filter((each) => each.complete >= one.invoke && each.invoke <= one.complete);
      const states = [ended.at(-1)?.state ?? 'enabled', ...beside.map(({ state }) => state)];
      const wrong = !states.includes(one.result === 'ok' ? 'enabled' : 'revoked');
      const { staleDecrypts, staleDenials } = check([one], acts);
      expect(staleDecrypts.length + staleDenials.length).toBe(wrong ? 1 : 0);
      if (wrong) stale += 1;
    }
    expect(stale).toBeGreaterThan(20);
  });
});
