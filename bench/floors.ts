/**
 * Servers that answer a decrypt-like request with a fixed value: what HTTP alone costs on this machine.
 * Run as `node bench/floors.ts <name>`; prints `{"port":…}` and ends with its standard input.
 */
import { createServer, type IncomingMessage, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import express from 'express';
import { SAMPLE_ANSWER, SAMPLE_PATH } from './sample.ts';

/** The service's limit on a body. */
const BODY_LIMIT = 1024 * 1024;

function readBody(request: IncomingMessage, done: (body: Uint8Array) => void): void {
  const chunks: Uint8Array[] = [];
  request.on('data', (chunk: Uint8Array) => chunks.push(chunk));
  request.on('end', () => done(chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks)));
}

/** The least that answers: the body is read and thrown away. */
function bare(): RequestListener {
  const text = JSON.stringify(SAMPLE_ANSWER);
  const headers = { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text) };
  return (request, response) => {
    readBody(request, () => response.writeHead(200, headers).end(text));
  };
}

/** What a hand-written route in front of Express does: fatal UTF-8, JSON both ways, two headers. */
function bareJson(): RequestListener {
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  return (request, response) => {
    readBody(request, (body) => {
      const asked: unknown = JSON.parse(decoder.decode(body));
      const text = JSON.stringify(asked === null ? {} : SAMPLE_ANSWER);
      response
        .writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text) })
        .end(text);
    });
  };
}

const PATTERN = SAMPLE_PATH.replace(/ten_[a-z2-7]+/, ':tenant');

/** Express with its own body parser and `res.json`. */
function expressJson(): RequestListener {
  const app = express();
  app.disable('x-powered-by');
  app.disable('etag');
  app.use(express.json({ limit: BODY_LIMIT }));
  app.post(PATTERN, (request, response) => {
    response.json(request.body === null ? {} : SAMPLE_ANSWER);
  });
  return app;
}

/** Express as a router only: `bareJson` behind one route. */
function expressRoute(): RequestListener {
  const app = express();
  app.disable('x-powered-by');
  const answer = bareJson();
  app.post(PATTERN, (request, response) => answer(request, response));
  return app;
}

/** `bareJson` for the hot path, Express for every other. */
function inFront(): RequestListener {
  const hot = bareJson();
  const rest = expressJson();
  const path = /^\/v1\/tenants\/(ten_[a-z2-7]{26})\/decrypt$/;
  return (request, response) => {
    const isHot = request.method === 'POST' && path.test(request.url ?? '');
    return isHot ? hot(request, response) : rest(request, response);
  };
}

const FLOORS = {
  http: bare,
  'http-json': bareJson,
  'in-front': inFront,
  'express-route': expressRoute,
  express: expressJson,
} as const;

export type FloorName = keyof typeof FLOORS;

function isFloor(name: string | undefined): name is FloorName {
  return name !== undefined && Object.hasOwn(FLOORS, name);
}

function listen(name: FloorName): Server {
  const server = createServer(FLOORS[name]());
  server.listen(0, '127.0.0.1', 4096, () => {
    const { port } = server.address() as AddressInfo;
    process.stdout.write(`${JSON.stringify({ port })}\n`);
  });
  return server;
}

const name = process.argv[2];
if (!isFloor(name)) throw new Error(`name one of ${Object.keys(FLOORS).join(', ')}`);
listen(name);
process.stdin.resume();
process.stdin.once('end', () => process.exit(0));
