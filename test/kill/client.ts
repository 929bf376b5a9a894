/**
 * A client process: encrypts and decrypts over HTTP without a pause, and prints what became of each request as one line of JSON
 * when the whole answer has arrived or the connection is broken. First line of its standard input: {@link Orders}. The next line
 * ends the traffic, and the one after that has every envelope that was released opened again.
 */
import { createHash, randomBytes } from 'node:crypto';
import { Agent, request } from 'node:http';
import { createInterface } from 'node:readline';
import { machineMs } from './clock.ts';

export interface Orders {
  readonly url: string;
  readonly tenants: readonly { readonly id: string; readonly token: string }[];
  /** Requests of one tenant at a time. */
  readonly lanes: number;
}

/** One request. `status` 0: no whole answer. */
export interface Told {
  readonly kind: 'request';
  readonly tenant: string;
  readonly operation: 'encrypt' | 'decrypt';
  readonly from: number;
  readonly to: number;
  readonly status: number;
  readonly code?: string | undefined;
  readonly requestId?: string | undefined;
  readonly receipt?: { readonly origin: string; readonly index: number; readonly leafHash: string };
  readonly envelope?: string;
  /** Whether a decrypt gave back what was encrypted. */
  readonly same?: boolean;
}

/** Every request has ended and was told. */
export interface Stopped {
  readonly kind: 'stopped';
}

/** The end: envelopes that open to what was encrypted, and those that do not. */
export interface Verified {
  readonly kind: 'verified';
  readonly opened: number;
  readonly unopened: number;
}

export type Line = Told | Stopped | Verified;

interface Held {
  readonly envelope: string;
  readonly plaintext: string;
  readonly purpose: string;
}

interface Answer {
  readonly status: number;
  readonly requestId?: string | undefined;
  readonly body?: Record<string, unknown>;
}

/** Twice the deadline of a request: one that takes longer hangs. */
const PATIENCE_MS = 8_000;
/** Messages under one purpose, so that data keys are made all the time. */
const PER_PURPOSE = 50;
/** So that clients leave the processors to those who restart. */
const AFTER_FAILURE_MS = 30;
const BATCH = 256;
const TRIES = 20;

const agent = new Agent({ keepAlive: true });
const tell = (line: Line) => void process.stdout.write(`${JSON.stringify(line)}\n`);
const pause = (ms: number) => new Promise((resume) => setTimeout(resume, ms));
const digest = (base64: string) =>
  createHash('sha256').update(Buffer.from(base64, 'base64')).digest('base64');
let stopping = false;

function post(url: string, token: string, body: object): Promise<Answer> {
  const text = JSON.stringify(body);
  return new Promise((resolve) => {
    const sent = request(url, {
      method: 'POST',
      agent,
      headers: {
        authorization: `Bearer ${token}`,
        'content-type': 'application/json',
        'content-length': Buffer.byteLength(text),
      },
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    const broken = () => resolve({ status: 0 });
    sent.on('error', broken);
    sent.on('response', (response) => {
      const chunks: Buffer[] = [];
      response.on('error', broken);
      response.on('close', broken);
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => {
        if (!response.complete) return broken();
        const requestId = response.headers['keytether-request-id'];
        resolve({
          status: response.statusCode ?? 0,
          requestId: typeof requestId === 'string' ? requestId : undefined,
          body: JSON.parse(Buffer.concat(chunks).toString('utf8')),
        });
      });
    });
    sent.end(text);
  });
}

class Tenant {
  readonly held: Held[] = [];
  readonly #id: string;
  readonly #token: string;
  readonly #path: string;

  constructor(url: string, { id, token }: Orders['tenants'][number]) {
    this.#id = id;
    this.#token = token;
    this.#path = `${url}/v1/tenants/${id}`;
  }

  async run(): Promise<void> {
    for (let turn = 0; !stopping; turn += 1) {
      const known = this.held[Math.floor(Math.random() * this.held.length)];
      const status =
        turn % 2 === 0 || known === undefined ? await this.#encrypt() : await this.#decrypt(known);
      if (status !== 200) await pause(AFTER_FAILURE_MS);
    }
  }

  async #encrypt(): Promise<number> {
    const plaintext = randomBytes(64).toString('base64');
    const purpose = `kill-${Math.floor(this.held.length / PER_PURPOSE)}`;
    const from = machineMs();
    const answer = await post(`${this.#path}/encrypt`, this.#token, { plaintext, purpose });
    const envelope = answer.status === 200 ? String(answer.body?.envelope) : undefined;
    if (envelope !== undefined) this.held.push({ envelope, plaintext, purpose });
    this.#tell('encrypt', from, answer, envelope);
    return answer.status;
  }

  async #decrypt({ envelope, plaintext, purpose }: Held): Promise<number> {
    const from = machineMs();
    const answer = await post(`${this.#path}/decrypt`, this.#token, { envelope, purpose });
    const same = answer.status === 200 ? answer.body?.plaintext === plaintext : undefined;
    this.#tell('decrypt', from, answer, envelope, same);
    return answer.status;
  }

  #tell(
    operation: Told['operation'],
    from: number,
    { status, requestId, body }: Answer,
    envelope?: string,
    same?: boolean,
  ): void {
    const common = { kind: 'request', tenant: this.#id, operation, from, to: machineMs(), status } as const;
    if (status !== 200 || envelope === undefined) {
      tell({ ...common, code: typeof body?.code === 'string' ? body.code : undefined });
      return;
    }
    const receipt = body?.receipt as NonNullable<Told['receipt']>;
    const end = same === undefined ? {} : { same };
    tell({ ...common, requestId, receipt, envelope: digest(envelope), ...end });
  }

  /** How many of the envelopes open to what was encrypted. */
  async verify(): Promise<number> {
    let opened = 0;
    for (let at = 0; at < this.held.length; at += BATCH) {
      const part = this.held.slice(at, at + BATCH);
      const items = part.map(({ envelope, purpose }, i) => ({ reference: String(i), envelope, purpose }));
      const answered = await this.#batch(items);
      opened += part.filter(({ plaintext }, i) => answered[i]?.plaintext === plaintext).length;
    }
    return opened;
  }

  async #batch(items: readonly object[]): Promise<{ plaintext?: string }[]> {
    for (let tries = 0; tries < TRIES; tries += 1) {
      const answer = await post(`${this.#path}/decrypt/batch`, this.#token, { items });
      if (answer.status === 200) return answer.body?.items as { plaintext?: string }[];
      await pause(250);
    }
    return [];
  }
}

async function main(): Promise<void> {
  const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  const orders: Orders = JSON.parse((await lines.next()).value ?? '{}');
  const tenants = orders.tenants.map((tenant) => new Tenant(orders.url, tenant));
  const running = tenants.flatMap((tenant) => Array.from({ length: orders.lanes }, () => tenant.run()));
  await order(lines);
  stopping = true;
  await Promise.all(running);
  tell({ kind: 'stopped' });
  await order(lines);
  const opened = (await Promise.all(tenants.map((tenant) => tenant.verify()))).reduce((a, b) => a + b, 0);
  const held = tenants.reduce((total, tenant) => total + tenant.held.length, 0);
  tell({ kind: 'verified', opened, unopened: held - opened });
  await order(lines);
}

/** Waits for the next line; the process ends with its standard input. */
async function order(lines: AsyncIterator<string>): Promise<void> {
  if ((await lines.next()).done === true) process.exit();
}

if (import.meta.main) await main();
