/** What a round of requests of one tenant reads: one statement, one round trip, one snapshot. */
import type { Executor } from './db.ts';
import type { BindingRow, HeadRow, KeyRecordRow } from './keys.ts';
import type { TenantState } from './tenants.ts';
import { bytesArray, hex, textArray } from './values.ts';

export interface RoundQuestion {
  /** Scopes whose root head is wanted. */
  readonly scopes: readonly string[];
  /** Scope and purpose of data-key heads. */
  readonly heads: readonly (readonly [scope: string, purpose: string])[];
  /** Key ids of 16 bytes that callers named. */
  readonly keyIds: readonly Uint8Array[];
}

export interface Round {
  readonly state: TenantState;
  readonly stateVersion: number;
  readonly rootHeads: readonly HeadRow[];
  readonly heads: readonly HeadRow[];
  /** The asked keys, those that the heads name, and the roots which wrap them, by hex of the key id. */
  readonly records: ReadonlyMap<string, KeyRecordRow>;
  /** The bindings that wrap those roots, by hex of the binding id. */
  readonly bindings: ReadonlyMap<string, BindingRow>;
}

interface RoundColumns extends Readonly<Record<string, unknown>> {
  readonly what: 'tenant' | 'head' | 'record' | 'binding';
  readonly scope: string;
  readonly purpose: string;
  readonly id: Uint8Array;
  readonly kind: number;
  readonly version: number;
  readonly generation: number;
  readonly sealed_count: number;
  readonly wrapper_ids: Uint8Array[];
  readonly object: Uint8Array;
  readonly mutable: Uint8Array;
}

/**
 * Reads a tenant's state and the rows that the question leads to; what does not exist is left out. Undefined when there
 * is no such tenant. Authenticators are not checked here, and `wrapperIds` is only how rows were found: a caller compares it
 * with what the authenticated bytes say.
 */
export async function readRound(
  executor: Executor,
  tenant: string,
  question: RoundQuestion,
): Promise<Round | undefined> {
  const rows = await executor.query<RoundColumns>(
    `SELECT what, scope, purpose, id, kind, version, generation, sealed_count, wrapper_ids, object, mutable
     FROM keytether.round_read($1, $2, $3, $4, $5)`,
    [
      tenant,
      textArray(question.scopes),
      textArray(question.heads.map(([scope]) => scope)),
      textArray(question.heads.map(([, purpose]) => purpose)),
      bytesArray(question.keyIds),
    ],
    'round_read',
  );
  const own = rows.find((row) => row.what === 'tenant');
  if (own === undefined) return undefined;
  const heads = rows.filter((row) => row.what === 'head').map(headOf);
  return {
    state: own.scope as TenantState,
    stateVersion: own.version,
    rootHeads: heads.filter((head) => head.purpose === ''),
    heads: heads.filter((head) => head.purpose !== ''),
    records: new Map(rows.filter((row) => row.what === 'record').map((row) => [hex(row.id), recordOf(row)])),
    bindings: new Map(
      rows.filter((row) => row.what === 'binding').map((row) => [hex(row.id), bindingOf(row)]),
    ),
  };
}

function headOf(row: RoundColumns): HeadRow {
  return {
    scope: row.scope,
    purpose: row.purpose,
    currentKey: row.id,
    generation: row.generation,
    object: row.object,
  };
}

function recordOf(row: RoundColumns): KeyRecordRow {
  return {
    keyId: row.id,
    scope: row.scope,
    purpose: row.purpose,
    kind: row.kind === 1 ? 'root' : 'data',
    keyVersion: row.version,
    generation: row.generation,
    sealedCount: row.sealed_count,
    wrapperIds: row.wrapper_ids,
    immutable: row.object,
    mutable: row.mutable,
  };
}

function bindingOf(row: RoundColumns): BindingRow {
  return { bindingId: row.id, version: row.version, object: row.object };
}
