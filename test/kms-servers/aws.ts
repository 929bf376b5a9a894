/**
 * An AWS KMS and STS on loopback, for the contract suite, the fault matrix and the benchmark. It checks who calls (access key
 * id, session token, region of the credential scope) but not the signature itself.
 *
 * Follows: AWS KMS API reference (operations, "Common errors"), the AWS JSON 1.1 protocol (target header, content type,
 * `__type`), AWS STS API reference, IAM user guide "Signature Version 4" (shape of the Authorization header).
 *
 * As a process of its own:
 *     node test/kms-servers/aws.ts --port 0 --keys 4 --latency-ms 20 --rate 500 --rate-by key|account --log-limit 0 --announce
 * prints one JSON line: {"url", "region", "accessKeyId", "secretAccessKey", "keys": [ARN], "role": {"arn", "externalId"}}.
 * Keys are then made, disabled, enabled and so on by the KMS operations themselves. With `--announce` it prints one more line
 * for each successful answer, right after it was handed to the socket: `answered <milliseconds of the machine's monotonic clock> <operation>
 * <user agent>`.
 */
import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { parseArgs } from 'node:util';
import { AwsError, createKeys, type Keys } from './aws-keys.ts';
import { type Caller, runOperation } from './aws-operations.ts';
import { createSts, type Sts, stsError } from './aws-sts.ts';

/** What goes wrong from now on. Written by tests between calls. */
export interface AwsFaults {
  latencyMs: number;
  /** In place of `latencyMs`, for each KMS call: milliseconds before the key's state is read, and from there to the answer. */
  delays: ((operation: string) => { readonly before: number; readonly after: number }) | undefined;
  /** Calls per second before ThrottlingException; undefined is no limit. */
  rate: number | undefined;
  rateBy: 'key' | 'account';
  /** For how long a changed key state does not show yet. */
  propagationMs: number;
  /** An error of this type instead of every KMS answer. */
  error: { type: string; message: string; status: number } | undefined;
  /** black-hole: no answer; reset: the connection breaks within the answer; html: a proxy's 502 page. */
  wire: 'black-hole' | 'reset' | 'html' | undefined;
  /** Instead of the AssumeRole answers only. */
  sts: 'black-hole' | 'throttled' | undefined;
  /** Rewrites a successful answer before it is sent. */
  rewrite: ((operation: string, output: Record<string, unknown>) => unknown) | undefined;
}

export interface AwsLogLine {
  readonly time: string;
  readonly requestId: string;
  readonly userAgent: string;
  readonly operation: string;
  readonly keyId: string;
  readonly encryptionContext: unknown;
  readonly principal: string;
  readonly errorCode: string;
}

export interface AwsServer {
  readonly url: string;
  readonly region: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly keys: Keys;
  readonly sts: Sts;
  readonly faults: AwsFaults;
  /** Newest last, bounded. */
  readonly log: AwsLogLine[];
  /** Calls of KMS operations, those that were throttled included. */
  readonly calls: { count: number };
  close(): Promise<void>;
}

const ACCOUNT = '111122223333';
const AUTHORIZATION =
  /^AWS4-HMAC-SHA256 Credential=([A-Z0-9]{16,128})\/\d{8}\/([a-z0-9-]+)\/(kms|sts)\/aws4_request, ?SignedHeaders=([a-z0-9;-]+), ?Signature=[0-9a-f]{64}$/;

export async function startAwsServer(
  options: {
    port?: number;
    region?: string;
    logLimit?: number;
    /** Called in the tick of each successful answer of the KMS, after it was handed to the socket. */
    answered?: (operation: string, userAgent: string) => void;
  } = {},
): Promise<AwsServer> {
  const { port = 0, region = 'eu-central-1', logLimit = 10_000, answered } = options;
  const faults: AwsFaults = {
    latencyMs: 0,
    delays: undefined,
    rate: undefined,
    rateBy: 'account',
    propagationMs: 0,
    error: undefined,
    wire: undefined,
    sts: undefined,
    rewrite: undefined,
  };
  const keys = createKeys(ACCOUNT, () => faults.propagationMs);
  const sts = createSts(ACCOUNT);
  const log: AwsLogLine[] = [];
  const calls = { count: 0 };
  const accessKeyId = 'AKIAKEYTETHERTEST001';
  const admits = createRateLimit(faults);

  const authenticate = (request: IncomingMessage): Caller => {
    const header = request.headers.authorization;
    if (header === undefined)
      throw new AwsError('MissingAuthenticationTokenException', 'Missing Authentication Token');
    const match = AUTHORIZATION.exec(header);
    const signed = match?.[4]?.split(';') ?? [];
    if (!match || !signed.includes('host') || !signed.includes('x-amz-date')) {
      throw new AwsError('IncompleteSignatureException', 'Authorization header is not complete');
    }
    if (!/^\d{8}T\d{6}Z$/.test(String(request.headers['x-amz-date']))) {
      throw new AwsError('IncompleteSignatureException', 'X-Amz-Date is missing');
    }
    const [, id = '', scopeRegion = ''] = match;
    if (id === accessKeyId) {
      return { region: scopeRegion, accessKeyId, principal: `arn:aws:iam::${ACCOUNT}:user/keytether` };
    }
    const session = sts.session(id);
    if (!session || request.headers['x-amz-security-token'] !== session.sessionToken) {
      throw new AwsError(
        'UnrecognizedClientException',
        'The security token included in the request is invalid.',
      );
    }
    if (session.expiresMs <= Date.now()) {
      throw new AwsError('ExpiredTokenException', 'The security token included in the request is expired');
    }
    return { region: scopeRegion, accessKeyId: id, principal: session.principal };
  };

  const answerKms = (
    request: IncomingMessage,
    body: Buffer,
    response: ServerResponse,
    afterMs: number,
  ): void => {
    calls.count += 1;
    const requestId = randomUUID();
    const operation = operationOf(request);
    let input: Record<string, unknown> = {};
    let caller: Caller | undefined;
    const finish = (status: number, output: object, errorCode: string, keyId: string): void => {
      if (logLimit > 0) {
        if (log.length >= logLimit) log.shift();
        log.push({
          time: new Date().toISOString(),
          requestId,
          userAgent: request.headers['user-agent'] ?? '',
          operation,
          keyId,
          encryptionContext: input.EncryptionContext,
          principal: caller?.principal ?? '',
          errorCode,
        });
      }
      const text = JSON.stringify(output);
      const answer = () => {
        send(response, status, 'application/x-amz-json-1.1', text, requestId, faults.wire === 'reset');
        if (status === 200) answered?.(operation, request.headers['user-agent'] ?? '');
      };
      if (afterMs > 0) setTimeout(answer, afterMs);
      else answer();
    };
    try {
      caller = authenticate(request);
      if (request.headers['content-type'] !== 'application/x-amz-json-1.1') {
        throw new AwsError('UnsupportedMediaTypeException', '', 415);
      }
      input = parseInput(body);
      if (faults.error) throw new AwsError(faults.error.type, faults.error.message, faults.error.status);
      if (!admits(String(input.KeyId))) throw new AwsError('ThrottlingException', 'Rate exceeded');
      const { key, output } = runOperation(operation, input, caller, keys);
      finish(200, (faults.rewrite?.(operation, { ...output }) ?? output) as object, '', key?.arn ?? '');
    } catch (error) {
      const known = error instanceof AwsError ? error : new AwsError('KMSInternalException', '', 500);
      finish(
        known.status,
        { __type: known.type, message: known.message },
        known.type,
        String(input.KeyId ?? ''),
      );
    }
  };

  const answerSts = (request: IncomingMessage, body: Buffer, response: ServerResponse): void => {
    sts.requests.count += 1;
    if (faults.sts === 'black-hole') return;
    const requestId = randomUUID();
    try {
      authenticate(request);
      if (faults.sts === 'throttled') throw new AwsError('Throttling', 'Rate exceeded', 400);
      const xml = sts.assumeRole(new URLSearchParams(body.toString('utf8')), requestId);
      send(response, 200, 'text/xml', xml, requestId, false);
    } catch (error) {
      const known = error instanceof AwsError ? error : new AwsError('InternalFailure', '', 500);
      send(response, known.status, 'text/xml', stsError(known, requestId), requestId, false);
    }
  };

  const answer = (
    request: IncomingMessage,
    body: Buffer,
    response: ServerResponse,
    afterMs: number,
  ): void => {
    if (request.method !== 'POST' || request.url !== '/') response.writeHead(404).end();
    else if (request.headers['x-amz-target'] === undefined) answerSts(request, body, response);
    else if (faults.wire === 'html') {
      send(response, 502, 'text/html', '<html><body><h1>502 Bad Gateway</h1></body></html>', '', false);
    } else if (faults.wire !== 'black-hole') answerKms(request, body, response, afterMs);
  };

  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const body = chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks);
      const { before, after } = faults.delays?.(operationOf(request)) ?? {
        before: faults.latencyMs,
        after: 0,
      };
      if (before > 0) setTimeout(answer, before, request, body, response, after);
      else answer(request, body, response, after);
    });
  });
  const sockets = new Set<Socket>();
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => socket.destroy());
  });
  server.keepAliveTimeout = 60_000;
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  const { port: bound } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${bound}`,
    region,
    accessKeyId,
    secretAccessKey: 'keytether/test/secret/access/key/0000001',
    keys,
    sts,
    faults,
    log,
    calls,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}

/** Empty for a call to STS. */
function operationOf(request: IncomingMessage): string {
  return String(request.headers['x-amz-target'] ?? '').replace(/^TrentService\./, '');
}

function send(
  response: ServerResponse,
  status: number,
  contentType: string,
  body: string,
  requestId: string,
  reset: boolean,
): void {
  response.writeHead(status, {
    'Content-Type': contentType,
    'Content-Length': Buffer.byteLength(body),
    'x-amzn-RequestId': requestId,
    'Cache-Control': 'no-cache, no-store, must-revalidate, private',
  });
  if (!reset) response.end(body);
  else response.write(body.slice(0, body.length / 2), () => response.socket?.destroy());
}

function parseInput(body: Buffer): Record<string, unknown> {
  try {
    const input: unknown = JSON.parse(body.toString('utf8'));
    if (typeof input === 'object' && input !== null && !Array.isArray(input)) return { ...input };
  } catch {
    // Reported below, as any other body that is no JSON object.
  }
  throw new AwsError('SerializationException', '');
}

/** Counts calls in each second of the clock, by key or for the account. */
function createRateLimit(faults: AwsFaults): (keyId: string) => boolean {
  let second = 0;
  let counts = new Map<string, number>();
  return (keyId) => {
    if (faults.rate === undefined) return true;
    const current = Math.floor(Date.now() / 1000);
    if (current !== second) {
      second = current;
      counts = new Map();
    }
    const bucket = faults.rateBy === 'key' ? keyId : '';
    const count = (counts.get(bucket) ?? 0) + 1;
    counts.set(bucket, count);
    return count <= faults.rate;
  };
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      port: { type: 'string', default: '0' },
      region: { type: 'string', default: 'eu-central-1' },
      keys: { type: 'string', default: '1' },
      'latency-ms': { type: 'string', default: '0' },
      rate: { type: 'string' },
      'rate-by': { type: 'string', default: 'account' },
      'propagation-ms': { type: 'string', default: '0' },
      'log-limit': { type: 'string', default: '10000' },
      announce: { type: 'boolean', default: false },
    },
  });
  const announce = (operation: string, userAgent: string) => {
    process.stdout.write(`answered ${Number(process.hrtime.bigint()) / 1e6} ${operation} ${userAgent}\n`);
  };
  const server = await startAwsServer({
    port: Number(values.port),
    region: values.region,
    logLimit: Number(values['log-limit']),
    ...(values.announce ? { answered: announce } : {}),
  });
  server.faults.latencyMs = Number(values['latency-ms']);
  server.faults.rate = values.rate === undefined ? undefined : Number(values.rate);
  server.faults.rateBy = values['rate-by'] === 'key' ? 'key' : 'account';
  server.faults.propagationMs = Number(values['propagation-ms']);
  const arns = Array.from({ length: Number(values.keys) }, () => server.keys.create(server.region).arn);
  const { arn, externalId } = server.sts.addRole('keytether', randomUUID());
  const { url, region, accessKeyId, secretAccessKey } = server;
  const role = { arn, externalId };
  console.log(JSON.stringify({ url, region, accessKeyId, secretAccessKey, keys: arns, role }));
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => void server.close());
}

if (import.meta.main) await main();
