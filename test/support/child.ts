/** Child processes that speak in lines: start one, wait for a line that says that it is ready, stop it by its pid. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

export interface ChildOptions {
  readonly command: string;
  readonly args: readonly string[];
  /** Added to the environment of this process. */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Hears every line of standard output, before whoever waits for one. */
  readonly onLine?: (line: string) => void;
}

interface Waiter {
  /** True when the line was the one that it waits for. */
  offer(line: string): boolean;
  fail(error: Error): void;
}

const STDERR_TAIL = 4_000;
const STOP_PATIENCE_MS = 10_000;
/** Lines that nobody has asked for yet; older ones are dropped. */
const KEPT_LINES = 1_000;

/** A started process. Standard input is a pipe; a child that ends with it cannot outlive this process. */
export class Child {
  readonly #name: string;
  readonly #process: ChildProcess;
  readonly #lines: string[] = [];
  readonly #waiters = new Set<Waiter>();
  #stderr = '';
  #ended: Error | undefined;
  /** Settles when the process has ended, however it did. */
  readonly exited: Promise<void>;

  constructor(options: ChildOptions) {
    this.#name = options.command;
    this.#process = spawn(options.command, options.args, {
      env: { ...process.env, ...options.env },
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    this.#process.stdin?.on('error', () => undefined);
    if (this.#process.stdout !== null) {
      createInterface({ input: this.#process.stdout }).on('line', (line) => {
        options.onLine?.(line);
        this.#heard(line);
      });
    }
    this.#process.stderr?.on('data', (chunk: Buffer) => {
      this.#stderr = (this.#stderr + chunk.toString('utf8')).slice(-STDERR_TAIL);
    });
    this.exited = new Promise((resolve) => {
      this.#process.once('error', (error) => {
        this.#end(error);
        resolve();
      });
      this.#process.once('close', (code, signal) => {
        this.#end(new Error(`${this.#name} ended with ${signal ?? code}: ${this.#stderr.trim()}`));
        resolve();
      });
    });
  }

  /** @throws Error when the process could not be started. */
  get pid(): number {
    const { pid } = this.#process;
    if (pid === undefined) throw new Error(`${this.#name} did not start`);
    return pid;
  }

  /** Writes one line to the child's standard input. */
  tell(line: string): void {
    this.#process.stdin?.write(`${line}\n`);
  }

  /**
   * The first line not yet taken for which `parse` returns a value; lines before it are passed over.
   * @throws Error with the end of the child's standard error when it ends first or `timeoutMs` passes; what `parse` throws.
   */
  line<T>(parse: (line: string) => T | undefined, timeoutMs: number): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const waiter: Waiter = {
        offer: (line) => {
          const value = parse(line);
          if (value === undefined) return false;
          done();
          resolve(value);
          return true;
        },
        fail: (error) => {
          done();
          reject(error);
        },
      };
      const timer = setTimeout(
        () =>
          waiter.fail(new Error(`${this.#name} said nothing fit in ${timeoutMs} ms: ${this.#stderr.trim()}`)),
        timeoutMs,
      );
      const done = (): void => {
        clearTimeout(timer);
        this.#waiters.delete(waiter);
      };
      this.#waiters.add(waiter);
      for (let line = this.#lines.shift(); line !== undefined; line = this.#lines.shift()) {
        if (this.#offer(waiter, line)) return;
      }
      if (this.#ended !== undefined) waiter.fail(this.#ended);
    });
  }

  /** Ends the process: SIGTERM, then SIGKILL after 10 s. Settles when it is gone; does nothing when it already is. */
  async stop(): Promise<void> {
    if (this.#ended !== undefined) return;
    this.#process.stdin?.end();
    this.#process.kill('SIGTERM');
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), STOP_PATIENCE_MS);
    await this.exited;
    clearTimeout(timer);
  }

  #heard(line: string): void {
    for (const waiter of this.#waiters) {
      if (this.#offer(waiter, line)) return;
    }
    if (this.#waiters.size > 0) return;
    this.#lines.push(line);
    if (this.#lines.length > KEPT_LINES) this.#lines.shift();
  }

  /** @returns true when the line is used up. */
  #offer(waiter: Waiter, line: string): boolean {
    try {
      return waiter.offer(line);
    } catch (error) {
      waiter.fail(error instanceof Error ? error : new Error(String(error)));
      return true;
    }
  }

  #end(error: Error): void {
    this.#ended ??= error;
    for (const waiter of [...this.#waiters]) waiter.fail(this.#ended);
  }
}
