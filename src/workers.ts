/**
 * One replica for each processor behind one port. The workers share nothing but the listening socket: to the database, the log
 * and the customers' KMSs each is a replica of its own.
 */
import cluster, { type Worker } from 'node:cluster';
import { journal } from './journal.ts';

/** Milliseconds before a worker that died is replaced, so that one that cannot start does not spin. */
const RESPAWN_MS = 1_000;

/** Whether this process is one of {@link superviseWorkers}'s. */
export function isWorker(): boolean {
  return cluster.isWorker;
}

/**
 * Starts the workers, replaces those that die, and hands SIGTERM and SIGINT on. Resolves with the exit code when all have
 * ended after a signal, or with 1 when one ends before it has listened: then all are stopped.
 */
export function superviseWorkers(count: number): Promise<number> {
  return new Promise((resolve) => {
    const listening = new Set<Worker>();
    let stopping: { code: number } | undefined;
    const stop = (code: number) => {
      stopping ??= { code };
      for (const worker of Object.values(cluster.workers ?? {})) worker?.process.kill('SIGTERM');
    };
    cluster.on('listening', (worker) => listening.add(worker));
    cluster.on('exit', (worker, code) => {
      if (stopping === undefined && !listening.delete(worker)) stop(1);
      if (stopping === undefined) {
        journal({ event: 'worker-died', detail: String(code) });
        setTimeout(() => stopping === undefined && cluster.fork(), RESPAWN_MS);
      } else if (Object.keys(cluster.workers ?? {}).length === 0) {
        resolve(stopping.code);
      }
    });
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => stop(0));
    for (let started = 0; started < count; started += 1) cluster.fork();
  });
}
