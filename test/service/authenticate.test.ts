import { describe, expect, test } from '@jest/globals';
import { ServiceError } from '../../src/errors.ts';
import { createAuthenticator, type PrincipalRow } from '../../src/service/authenticate.ts';
import { type MintedToken, mintToken } from '../../src/service/token.ts';

type Row = PrincipalRow & { readonly forged?: boolean };

function rowOf(token: MintedToken, more: Partial<Row> = {}): Row {
  return {
    id: token.principalId,
    tenant: 'ten_x',
    role: 'service',
    scopes: ['default'],
    purposes: ['*'],
    stateVersion: 7,
    tenantState: 'active',
    state: 'active',
    expiresAt: undefined,
    secretSha256: token.secretSha256,
    ...more,
  };
}

/** Rows in memory; each query takes its snapshot when it starts and answers when the test says so. */
function store(rows: Row[]) {
  const table = new Map(rows.map((row) => [row.id, row]));
  const queries: { ids: readonly string[]; answer: () => void; fail: (error: Error) => void }[] = [];
  const readPrincipals = (ids: readonly string[]): Promise<readonly Row[]> =>
    new Promise((resolve, reject) => {
      const snapshot = ids.flatMap((id) => table.get(id) ?? []);
      queries.push({ ids, answer: () => resolve(snapshot), fail: reject });
    });
  return { table, queries, readPrincipals };
}

const options = { verifyPrincipal: () => {}, now: () => 1_000 };
const turn = () => new Promise((resolve) => setImmediate(resolve));

async function codeOfRejection(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'accepted',
    (error: ServiceError) => error.code,
  );
}

async function answerAtOnce(rows: Row[], token: MintedToken, more: object = {}): Promise<string> {
  const { authenticate } = createAuthenticator<Row>({
    ...options,
    readPrincipals: async () => rows,
    ...more,
  });
  return codeOfRejection(authenticate(token));
}

describe('one request', () => {
  test('gets the principal of its row without what only authentication needs', async () => {
    const token = mintToken();
    const { authenticate } = createAuthenticator({ ...options, readPrincipals: async () => [rowOf(token)] });
    expect(await authenticate(token)).toEqual({
      id: token.principalId,
      tenant: 'ten_x',
      role: 'service',
      scopes: ['default'],
      purposes: ['*'],
      stateVersion: 7,
      tenantState: 'active',
    });
  });

  test.each<[string, (token: MintedToken) => Row[]]>([
    ['unknown', () => []],
    ['of another secret', (token) => [rowOf(token, { secretSha256: new Uint8Array(32) })]],
    ['revoked', (token) => [rowOf(token, { state: 'revoked' })]],
    ['expired this very moment', (token) => [rowOf(token, { expiresAt: 1_000 })]],
    ['an API key for an operator’s row', (token) => [rowOf(token, { role: 'operator', tenant: 'system' })]],
    ['another row than was asked for', () => [rowOf(mintToken())]],
  ])('is refused when its key is %s', async (_name, rows) => {
    const token = mintToken();
    expect(await answerAtOnce(rows(token), token)).toBe('UNAUTHENTICATED');
  });

  test('is accepted one millisecond before the expiry', async () => {
    const token = mintToken();
    expect(await answerAtOnce([rowOf(token, { expiresAt: 1_001 })], token)).toBe('accepted');
  });

  test('an invitation is never a caller', async () => {
    const token = mintToken('invitation');
    expect(await answerAtOnce([rowOf(token)], token)).toBe('UNAUTHENTICATED');
  });

  test('a forged row fails as tampering, before its secret is compared', async () => {
    const token = mintToken();
    const forged = rowOf(token, { forged: true, secretSha256: new Uint8Array(32) });
    const verifyPrincipal = (row: Row) => {
      if (row.forged) throw new ServiceError('KEY_RECORD_TAMPERED');
    };
    expect(await answerAtOnce([forged], token, { verifyPrincipal })).toBe('KEY_RECORD_TAMPERED');
  });
});

describe('rounds', () => {
  test('a request that arrives during a query waits for the next one', async () => {
    const token = mintToken();
    const { queries, readPrincipals } = store([rowOf(token)]);
    const { authenticate } = createAuthenticator({ ...options, readPrincipals });
    const first = authenticate(token);
    await turn();
    const second = authenticate(token);
    await turn();
    expect(queries).toHaveLength(1);
    queries[0]?.answer();
    await first;
    await turn();
    expect(queries).toHaveLength(2);
    queries[1]?.answer();
    await second;
  });

  /**
   * All orders of: requests that arrive, one revocation, answers of queries; each step followed by a turn of the event loop
   * or not. A request that arrives after the revocation must be refused, one whose round started before it may pass.
   */
  test('a key revoked before a request arrived is never accepted, in any order of events', async () => {
    const steps = 7;
    let sequences = 0;
    let refusedLater = 0;
    for (let code = 0; code < 3 ** steps; code++) {
      const events = code.toString(3).padStart(steps, '0');
      if (events.split('1').length !== 2) continue;
      for (const yields of [true, false]) {
        sequences++;
        refusedLater += await playRevocation(events, yields);
      }
    }
    expect(sequences).toBe(2 * 7 * 2 ** 6);
    expect(refusedLater).toBeGreaterThan(500);
  });

  /** 0: a request arrives; 1: the key is revoked; 2: the oldest open query answers. Returns the number of late requests. */
  async function playRevocation(events: string, yields: boolean): Promise<number> {
    const token = mintToken();
    const { table, queries, readPrincipals } = store([rowOf(token)]);
    const { authenticate } = createAuthenticator({ ...options, readPrincipals });
    const outcomes: { late: boolean; code: Promise<string> }[] = [];
    let revoked = false;
    let answered = 0;
    for (const event of events) {
      if (event === '0') outcomes.push({ late: revoked, code: codeOfRejection(authenticate(token)) });
      if (event === '1') {
        revoked = true;
        table.set(token.principalId, rowOf(token, { state: 'revoked' }));
      }
      if (event === '2' && answered < queries.length) queries[answered++]?.answer();
      if (yields) await turn();
      expect(queries.length - answered).toBeLessThanOrEqual(1);
    }
    const all = Promise.all(outcomes.map(({ code }) => code));
    let done = false;
    void all.then(() => {
      done = true;
    });
    while (!done) {
      while (answered < queries.length) queries[answered++]?.answer();
      await turn();
    }
    const late = outcomes.filter((outcome) => outcome.late);
    for (const outcome of late) expect([events, await outcome.code]).toEqual([events, 'UNAUTHENTICATED']);
    return late.length;
  }

  test('requests that arrive together share one query, each id once, with a bound on ids', async () => {
    const tokens = [mintToken(), mintToken(), mintToken()];
    const { queries, readPrincipals } = store(tokens.map((token) => rowOf(token)));
    const { authenticate } = createAuthenticator({ ...options, readPrincipals, roundSize: 2 });
    const done = Promise.all([...tokens, ...tokens].map((token) => authenticate(token)));
    await turn();
    expect(queries.map(({ ids }) => ids.length)).toEqual([2]);
    queries[0]?.answer();
    await turn();
    await turn();
    expect(queries.map(({ ids }) => ids.length)).toEqual([2, 1]);
    queries[1]?.answer();
    expect(await done).toHaveLength(6);
  });

  test('a failing query refuses its own round only', async () => {
    const token = mintToken();
    const { queries, readPrincipals } = store([rowOf(token)]);
    const { authenticate } = createAuthenticator({ ...options, readPrincipals });
    const first = codeOfRejection(authenticate(token));
    await turn();
    const second = codeOfRejection(authenticate(token));
    queries[0]?.fail(new Error('connection lost'));
    expect(await first).toBe('STORE_UNAVAILABLE');
    await turn();
    queries[1]?.answer();
    expect(await second).toBe('accepted');
  });

  test('a query that throws at once is a failing query', async () => {
    const readPrincipals = () => {
      throw new Error('pool is gone');
    };
    expect(await answerAtOnce([], mintToken(), { readPrincipals })).toBe('STORE_UNAVAILABLE');
  });

  test('one forged row harms only its own requests', async () => {
    const [good, bad] = [mintToken(), mintToken()];
    const rows = [rowOf(good), rowOf(bad, { forged: true })];
    const verifyPrincipal = (row: Row) => {
      if (row.forged) throw new ServiceError('KEY_RECORD_TAMPERED');
    };
    const { authenticate } = createAuthenticator<Row>({
      ...options,
      verifyPrincipal,
      readPrincipals: async () => rows,
    });
    const codes = await Promise.all([bad, good].map((token) => codeOfRejection(authenticate(token))));
    expect(codes).toEqual(['KEY_RECORD_TAMPERED', 'accepted']);
  });
});

describe('bounds', () => {
  test('more requests than may wait are refused, and room comes back', async () => {
    const token = mintToken();
    const { queries, readPrincipals } = store([rowOf(token)]);
    const { authenticate } = createAuthenticator({ ...options, readPrincipals, maxPending: 2 });
    const waiting = [authenticate(token), authenticate(token)];
    expect(await codeOfRejection(authenticate(token))).toBe('OVERLOADED');
    await turn();
    queries[0]?.answer();
    await Promise.all(waiting);
    const next = authenticate(token);
    await turn();
    queries[1]?.answer();
    expect((await next).id).toBe(token.principalId);
  });

  test('a query that was given up does not, when it answers late, let two others run at once', async () => {
    const token = mintToken();
    const { queries, readPrincipals } = store([rowOf(token)]);
    const { authenticate } = createAuthenticator({ ...options, readPrincipals, deadlineMs: 300 });
    expect(await codeOfRejection(authenticate(token))).toBe('DEADLINE_EXCEEDED');
    const second = authenticate(token);
    await turn();
    const third = authenticate(token);
    queries[0]?.answer();
    await turn();
    await turn();
    expect(queries).toHaveLength(2);
    queries[1]?.answer();
    await second;
    await turn();
    queries[2]?.answer();
    await third;
  });

  test('a query that never answers is given up at the deadline, and its late answer serves nobody', async () => {
    const token = mintToken();
    const { table, queries, readPrincipals } = store([rowOf(token)]);
    const { authenticate } = createAuthenticator({ ...options, readPrincipals, deadlineMs: 300 });
    expect(await codeOfRejection(authenticate(token))).toBe('DEADLINE_EXCEEDED');
    table.set(token.principalId, rowOf(token, { state: 'revoked' }));
    const second = codeOfRejection(authenticate(token));
    queries[0]?.answer();
    await turn();
    queries[1]?.answer();
    expect(await second).toBe('UNAUTHENTICATED');
  });
});
