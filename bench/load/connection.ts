/** One kept connection in a closed loop: it sends, waits for the whole answer, and sends the next. */
import { connect, type Socket } from 'node:net';
import type { PreparedRequest } from './plan.ts';
import { describeFailure, type Head, readHead } from './response.ts';

/** What a run knows that its connections do not. All times in milliseconds of `performance.now()`. */
export interface Course {
  /** True when no request may be sent any more. */
  readonly over: boolean;
  /** Counts one request that is about to be sent; false when it may not be. */
  take(): boolean;
  right(sentAt: number, now: number): void;
  /** @param what status with problem code, an error code of the socket, or a word of ours. */
  wrong(what: string, sentAt: number, now: number): void;
  reconnected(): void;
}

export interface ConnectionOptions {
  readonly host: string;
  readonly port: number;
  /** Sent in turn, beginning with `first`. */
  readonly requests: readonly PreparedRequest[];
  readonly first: number;
  readonly pauseAfterErrorMs: number;
  /** Where answers are read to. One buffer serves all connections: each answer is used up or copied before the next read. */
  readonly readBuffer: Uint8Array;
}

/** So that a server that closes at once does not turn the run into a loop of connects. */
const RECONNECT_PAUSE_MS = 20;

export class Connection {
  readonly #options: ConnectionOptions;
  readonly #course: Course;
  #socket: Socket | undefined;
  #next: number;
  #expect: Uint8Array | undefined;
  #sentAt = 0;
  #inFlight = false;
  #closed = false;
  /** The part of an answer that came before its rest. */
  #partial: Buffer | undefined;

  constructor(options: ConnectionOptions, course: Course) {
    this.#options = options;
    this.#course = course;
    this.#next = options.first;
  }

  get inFlight(): boolean {
    return this.#inFlight;
  }

  /** Settles once connected. @throws the socket's error. */
  open(): Promise<void> {
    return new Promise((resolve, reject) => {
      const socket = connect({
        host: this.#options.host,
        port: this.#options.port,
        noDelay: true,
        onread: {
          buffer: this.#options.readBuffer,
          callback: (count, buffer) => {
            this.#received(buffer, count);
            return true;
          },
        },
      });
      this.#socket = socket;
      socket.once('connect', resolve);
      socket.on('error', (error) => {
        reject(error);
        this.#lost(socket, (error as NodeJS.ErrnoException).code ?? 'socket error');
      });
      socket.on('end', () => this.#lost(socket, 'closed by the server'));
      socket.on('close', () => this.#lost(socket, 'closed by the server'));
    });
  }

  /** Sends the next request of the set unless the run is over. */
  send(): void {
    const socket = this.#socket;
    if (this.#closed || socket === undefined || !this.#course.take()) return;
    const { requests } = this.#options;
    const request = requests[this.#next % requests.length];
    if (request === undefined) return;
    this.#next += 1;
    this.#expect = request.expect;
    this.#inFlight = true;
    this.#sentAt = performance.now();
    socket.write(request.bytes);
  }

  close(): void {
    this.#closed = true;
    this.#socket?.destroy();
  }

  #received(buffer: Uint8Array, count: number): void {
    const chunk = Buffer.from(buffer.buffer, buffer.byteOffset, count);
    const bytes = this.#partial === undefined ? chunk : Buffer.concat([this.#partial, chunk]);
    let head: Head | undefined;
    try {
      head = readHead(bytes, bytes.length);
    } catch {
      this.#broken('answer without Content-Length');
      return;
    }
    if (head === undefined || head.end > bytes.length) {
      this.#partial = Buffer.from(bytes);
      return;
    }
    this.#partial = undefined;
    if (head.end < bytes.length || !this.#inFlight) {
      this.#broken('bytes after the answer');
      return;
    }
    this.#answered(bytes, head);
  }

  #answered(bytes: Buffer, head: Head): void {
    const now = performance.now();
    this.#inFlight = false;
    if (head.status < 200 || head.status > 299) {
      this.#course.wrong(describeFailure(head.status, bytes.subarray(head.bodyStart)), this.#sentAt, now);
      this.#sendAfter(this.#options.pauseAfterErrorMs);
      return;
    }
    if (this.#expect !== undefined && bytes.indexOf(this.#expect, head.bodyStart) === -1) {
      this.#course.wrong('wrong body', this.#sentAt, now);
      this.#sendAfter(this.#options.pauseAfterErrorMs);
      return;
    }
    this.#course.right(this.#sentAt, now);
    this.send();
  }

  #sendAfter(ms: number): void {
    if (ms === 0) this.send();
    else setTimeout(() => this.send(), ms);
  }

  #broken(why: string): void {
    const socket = this.#socket;
    if (socket !== undefined) this.#lost(socket, why);
  }

  #lost(socket: Socket, why: string): void {
    if (this.#closed || socket !== this.#socket) return;
    this.#socket = undefined;
    this.#partial = undefined;
    socket.destroy();
    if (this.#inFlight) this.#course.wrong(why, this.#sentAt, performance.now());
    this.#inFlight = false;
    setTimeout(() => this.#reopen(), RECONNECT_PAUSE_MS);
  }

  #reopen(): void {
    if (this.#closed || this.#course.over) return;
    this.#course.reconnected();
    this.open().then(
      () => this.send(),
      () => undefined,
    );
  }
}
