/**
 * One run against two replicas over HTTP (`node run.ts <policy>`): services decrypt without pause while customers switch their
 * keys off and on in their own KMS, which answers late and out of order. Prints the verdict as one JSON line. A process of
 * its own, because the load would starve a test runner. The run's PostgreSQL must be in the environment.
 */
import { randomInt } from 'node:crypto';
import { expectStatus } from '../../src/api-client.ts';
import { Gate } from '../../src/keyring/gate.ts';
import { mutateGate } from '../keyring/mutate.ts';
import { type Customer, type Platform, startPlatform } from '../support/platform.ts';
import { type Act, check, type Decrypt, type KeyState } from './checker.ts';
import { POLICIES } from './policies.ts';

export interface RunResult {
  readonly policy: string;
  readonly seconds: number;
  readonly decrypts: number;
  readonly ok: number;
  readonly denied: number;
  readonly none: number;
  /** Codes of what was neither, with their counts. */
  readonly others: Readonly<Record<string, number>>;
  readonly switches: number;
  readonly kmsCalls: number;
  /** KMS answers that were overtaken by the answer to a later call for the same key. */
  readonly overtaken: number;
  readonly staleDecrypts: number;
  readonly staleDenials: number;
  /** Milliseconds from the end of the last revocation to the arrival of the stale decrypt that came latest after it. */
  readonly worstMs: number;
}

/** Every other one is served by both replicas, the rest by one: a refusal that the other replica logs would fence a stale answer. */
const TENANTS = 24;
const CLIENTS = 4;
const DECRYPTS = 3_000;
const SWITCHES = 60;
/** A policy that looked stale so often need not run on. Acts that have not ended yet can make it look worse than it is. */
const ENOUGH = 8;
const BOUND_MS = 60_000;
const PLAINTEXT = Buffer.from('a value of the customer').toString('base64');

interface Traffic {
  readonly decrypts: Decrypt[];
  readonly acts: Act[];
  readonly others: Record<string, number>;
  over: boolean;
}

async function pause(ms: number): Promise<void> {
  await new Promise((resume) => setTimeout(resume, ms));
}

/** One caller of one tenant, who asks these replicas in turn and one request at a time. */
async function decryptForever(
  customer: Customer,
  urls: readonly string[],
  envelope: string,
  traffic: Traffic,
): Promise<void> {
  const { tenant, path, serviceToken } = customer;
  const headers = { authorization: `Bearer ${serviceToken}`, 'content-type': 'application/json' };
  const body = JSON.stringify({ envelope, purpose: 'invoices' });
  for (let turn = 0; !traffic.over; turn += 1) {
    const url = `${urls[turn % urls.length]}${path}/decrypt`;
    const invoke = performance.now();
    const response = await fetch(url, { method: 'POST', headers, body });
    const answer = (await response.json()) as { plaintext?: string; code?: string };
    const complete = performance.now();
    const ok = response.status === 200 && answer.plaintext === PLAINTEXT;
    const denied = response.status === 424 && answer.code === 'KMS_KEY_DISABLED';
    const result = ok ? 'ok' : denied ? 'denied' : 'none';
    traffic.decrypts.push({ tenant, invoke, complete, result });
    if (result === 'none') {
      const code = answer.code ?? String(response.status);
      traffic.others[code] = (traffic.others[code] ?? 0) + 1;
    }
  }
}

/** The customer, in his own KMS: off and on, one after the other. */
async function switchForever(customer: Customer, platform: Platform, traffic: Traffic): Promise<void> {
  const { url, region, accessKeyId } = platform.aws;
  const authorization = `AWS4-HMAC-SHA256 Credential=${accessKeyId}/20260101/${region}/kms/aws4_request, SignedHeaders=host;x-amz-date, Signature=${'0'.repeat(64)}`;
  for (let state: KeyState = 'revoked'; !traffic.over; state = state === 'revoked' ? 'enabled' : 'revoked') {
    await pause(randomInt(400, 900));
    const invoke = performance.now();
    const response = await fetch(url, {
      method: 'POST',
      headers: {
        authorization,
        'content-type': 'application/x-amz-json-1.1',
        'x-amz-date': '20260101T000000Z',
        'x-amz-target': `TrentService.${state === 'revoked' ? 'DisableKey' : 'EnableKey'}`,
      },
      body: JSON.stringify({ KeyId: customer.keyRef }),
    });
    await response.text();
    if (!response.ok) throw new Error(`the switch failed: ${response.status}`);
    traffic.acts.push({ tenant: customer.tenant, invoke, complete: performance.now(), state });
  }
}

/** Jitter before the KMS looks at the key and after it did, and a count of answers that overtake each other. */
function jitter({ aws }: Platform): { overtaken: number; calls: number } {
  const seen = { overtaken: 0, calls: 0 };
  let lastAnswerAt = 0;
  aws.faults.delays = (operation) => {
    if (operation !== 'Decrypt') return { before: 0, after: 0 };
    // One answer in three is late: long enough for a customer to switch his key and for a service to ask meanwhile.
    const after = randomInt(3) === 0 ? randomInt(150, 500) : randomInt(0, 20);
    const delay = { before: randomInt(0, 12), after };
    const answerAt = performance.now() + delay.before + delay.after;
    seen.calls += 1;
    if (answerAt < lastAnswerAt) seen.overtaken += 1;
    lastAnswerAt = Math.max(lastAnswerAt, answerAt);
    return delay;
  };
  return seen;
}

async function run(policy: keyof typeof POLICIES): Promise<RunResult> {
  const edits = POLICIES[policy];
  const parts = { Gate: edits.length === 0 ? Gate : mutateGate<typeof Gate>(edits) };
  const platform = await startPlatform();
  try {
    const replicas = [await platform.start({}, parts), await platform.start({}, parts)] as const;
    const urls = replicas.map(({ url }) => url);
    const traffic: Traffic = { decrypts: [], acts: [], others: {}, over: false };
    const names = Array.from({ length: TENANTS }, (_, i) => `tenant ${i}`);
    const customers = await Promise.all(names.map((name) => platform.onboard(replicas[0], name)));
    const started: (() => Promise<void>)[] = [];
    for (const [i, customer] of customers.entries()) {
      const near = i % 2 === 0 ? urls : urls.slice(i % 4 === 1 ? 0 : 1, i % 4 === 1 ? 1 : 2);
      const sealed = await customer.service.post(`${customer.path}/encrypt`, {
        plaintext: PLAINTEXT,
        purpose: 'invoices',
      });
      const { envelope } = expectStatus(sealed, 200);
      for (let n = 0; n < CLIENTS; n += 1)
        started.push(() => decryptForever(customer, near, envelope, traffic));
      started.push(() => switchForever(customer, platform, traffic));
    }
    const kms = jitter(platform);
    const from = performance.now();
    const work = Promise.all(started.map((start) => start()));
    while (performance.now() - from < BOUND_MS) {
      await Promise.race([pause(100), work]);
      if (traffic.decrypts.length >= DECRYPTS && traffic.acts.length >= SWITCHES) break;
      if (check(traffic.decrypts, traffic.acts).staleDecrypts.length >= ENOUGH) break;
    }
    traffic.over = true;
    await work;
    const { staleDecrypts, staleDenials, ...counts } = check(traffic.decrypts, traffic.acts);
    const age = (stale: Decrypt): number => {
      const ended = traffic.acts.filter((act) => act.tenant === stale.tenant && act.complete < stale.invoke);
      return stale.invoke - (ended.at(-1)?.complete ?? stale.invoke);
    };
    return {
      policy,
      seconds: (performance.now() - from) / 1_000,
      decrypts: traffic.decrypts.length,
      ...counts,
      others: traffic.others,
      switches: traffic.acts.length,
      kmsCalls: kms.calls,
      overtaken: kms.overtaken,
      staleDecrypts: staleDecrypts.length,
      staleDenials: staleDenials.length,
      worstMs: Math.max(0, ...staleDecrypts.map(age)),
    };
  } finally {
    await platform.stop();
  }
}

const policy = process.argv[2];
if (policy === undefined || !Object.hasOwn(POLICIES, policy)) throw new Error('no such policy');
process.stdout.write(`${JSON.stringify(await run(policy as keyof typeof POLICIES))}\n`);
