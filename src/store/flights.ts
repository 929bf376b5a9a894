/** Calls to customers' KMSs whose end is not in the log, and forgetting those that ended. */
import type { Executor } from './db.ts';

export interface OpenFlight {
  readonly tenant: string;
  /** Event id of the intent, 16 bytes. */
  readonly intent: Uint8Array;
  readonly intentIndex: number;
  /** 32 bytes. */
  readonly entry: Uint8Array;
  /** 16 bytes. */
  readonly writer: Uint8Array;
  readonly openedMs: number;
}

/** Flights of every tenant that have been open for longer than `olderThanMs`, oldest first. */
export async function readOpenFlights(
  executor: Executor,
  olderThanMs: number,
  limit: number,
): Promise<OpenFlight[]> {
  const rows = await executor.query<{
    tenant_id: string;
    intent: Uint8Array;
    intent_index: number;
    entry: Uint8Array;
    writer: Uint8Array;
    opened_ms: number;
  }>(
    `SELECT tenant_id, uuid_send(intent_eid) AS intent, intent_index, entry, uuid_send(writer) AS writer, opened_ms
     FROM keytether.flight_dangling($1, $2)`,
    [olderThanMs, limit],
  );
  return rows.map((row) => ({
    tenant: row.tenant_id,
    intent: row.intent,
    intentIndex: row.intent_index,
    entry: row.entry,
    writer: row.writer,
    openedMs: row.opened_ms,
  }));
}

/** Forgets flights that ended and began more than `olderThanMs` ago; nothing can be released on them afterwards. */
export async function pruneFlights(executor: Executor, olderThanMs: number): Promise<number> {
  const [row] = await executor.query<{ pruned: number }>('SELECT keytether.flight_prune($1) AS pruned', [
    olderThanMs,
  ]);
  return row?.pruned ?? 0;
}
