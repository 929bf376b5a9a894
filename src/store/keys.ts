/**
 * Bindings, key records and heads of one tenant. Objects go in and out as the exact bytes that their authenticators
 * cover; nothing is verified here. Replacement is only ever by compare-and-swap.
 */
import type { Transaction } from './db.ts';
import { bytesArray } from './values.ts';

export interface BindingRow {
  /** 16 bytes. */
  readonly bindingId: Uint8Array;
  readonly version: number;
  /** The authenticated object. */
  readonly object: Uint8Array;
}

export interface KeyRecordRow {
  /** 16 bytes. */
  readonly keyId: Uint8Array;
  readonly scope: string;
  /** Empty for a root. */
  readonly purpose: string;
  readonly kind: 'root' | 'data';
  readonly keyVersion: number;
  readonly generation: number;
  /** Messages sealed under the key so far. */
  readonly sealedCount: number;
  /** Binding ids of a root, the root's key id of a data key: what the mutable part names, for finding rows. */
  readonly wrapperIds: readonly Uint8Array[];
  readonly immutable: Uint8Array;
  readonly mutable: Uint8Array;
}

export interface HeadRow {
  readonly scope: string;
  /** Empty for the scope's root head. */
  readonly purpose: string;
  /** 16 bytes; zero while there is none. */
  readonly currentKey: Uint8Array;
  readonly generation: number;
  readonly object: Uint8Array;
}

/** Throws CONFLICT when the id is taken. */
export async function insertBinding(tx: Transaction, binding: BindingRow): Promise<void> {
  await tx.query(
    'INSERT INTO keytether.binding (tenant_id, binding_id, version, object) VALUES ($1, $2, $3, $4)',
    [tx.tenant, binding.bindingId, binding.version, binding.object],
  );
}

/** Replaces the binding if it still has `expectVersion`; false when it has not. */
export async function replaceBinding(
  tx: Transaction,
  binding: BindingRow,
  expectVersion: number,
): Promise<boolean> {
  const rows = await tx.query(
    `UPDATE keytether.binding SET version = $3, object = $4
     WHERE tenant_id = $1 AND binding_id = $2 AND version = $5 RETURNING version`,
    [tx.tenant, binding.bindingId, binding.version, binding.object, expectVersion],
  );
  return rows.length === 1;
}

/** The bindings of these ids, or all of the tenant; unknown ids are left out. In order of id. */
export async function readBindings(tx: Transaction, ids?: readonly Uint8Array[]): Promise<BindingRow[]> {
  const rows = await tx.query<{ binding_id: Uint8Array; version: number; object: Uint8Array }>(
    `SELECT binding_id, version, object FROM keytether.binding
     WHERE tenant_id = $1 AND ($2::bytea[] IS NULL OR binding_id = ANY ($2::bytea[])) ORDER BY binding_id`,
    [tx.tenant, ids === undefined ? null : bytesArray(ids)],
  );
  return rows.map((row) => ({ bindingId: row.binding_id, version: row.version, object: row.object }));
}

/** Throws CONFLICT when the id, or the version of a data key, is taken. */
export async function insertKeyRecord(
  tx: Transaction,
  record: Omit<KeyRecordRow, 'sealedCount'>,
): Promise<void> {
  await tx.query(
    `INSERT INTO keytether.key_record
       (tenant_id, key_id, scope, purpose, kind, key_version, generation, wrapper_ids, immutable, mutable)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
    [
      tx.tenant,
      record.keyId,
      record.scope,
      record.purpose,
      record.kind === 'root' ? 1 : 2,
      record.keyVersion,
      record.generation,
      bytesArray(record.wrapperIds),
      record.immutable,
      record.mutable,
    ],
  );
}

/** Replaces the mutable part if the record still has `expectGeneration`; false when it has not. */
export async function replaceKeyRecord(
  tx: Transaction,
  record: Pick<KeyRecordRow, 'keyId' | 'generation' | 'wrapperIds' | 'mutable'>,
  expectGeneration: number,
): Promise<boolean> {
  const rows = await tx.query(
    `UPDATE keytether.key_record SET generation = $3, wrapper_ids = $4, mutable = $5
     WHERE tenant_id = $1 AND key_id = $2 AND generation = $6 RETURNING generation`,
    [
      tx.tenant,
      record.keyId,
      record.generation,
      bytesArray(record.wrapperIds),
      record.mutable,
      expectGeneration,
    ],
  );
  return rows.length === 1;
}

/** Deletes the record, and with it every wrapped copy of the key, if it still has `expectGeneration`. */
export async function deleteKeyRecord(
  tx: Transaction,
  keyId: Uint8Array,
  expectGeneration: number,
): Promise<boolean> {
  const rows = await tx.query(
    `DELETE FROM keytether.key_record WHERE tenant_id = $1 AND key_id = $2 AND generation = $3 RETURNING generation`,
    [tx.tenant, keyId, expectGeneration],
  );
  return rows.length === 1;
}

interface RecordColumns extends Readonly<Record<string, unknown>> {
  readonly key_id: Uint8Array;
  readonly scope: string;
  readonly purpose: string;
  readonly kind: number;
  readonly key_version: number;
  readonly generation: number;
  readonly sealed_count: number;
  readonly wrapper_ids: Uint8Array[];
  readonly immutable: Uint8Array;
  readonly mutable: Uint8Array;
}

/**
 * At most `limit` key records of the tenant in order of id, beginning after `after` (absent: from the first). `scope` and
 * `wrapper` narrow them: rewraps walk all keys of one wrapper.
 */
export async function listKeyRecords(
  tx: Transaction,
  limit: number,
  filter: { readonly after?: Uint8Array; readonly scope?: string; readonly wrapper?: Uint8Array } = {},
): Promise<KeyRecordRow[]> {
  const rows = await tx.query<RecordColumns>(
    `SELECT key_id, scope, purpose, kind, key_version, generation, sealed_count, wrapper_ids, immutable, mutable
     FROM keytether.key_record
     WHERE tenant_id = $1 AND ($3::bytea IS NULL OR key_id > $3) AND ($4::text IS NULL OR scope = $4)
       AND ($5::bytea IS NULL OR $5 = ANY (wrapper_ids))
     ORDER BY key_id LIMIT $2`,
    [tx.tenant, limit, filter.after ?? null, filter.scope ?? null, filter.wrapper ?? null],
  );
  return rows.map((row) => ({
    keyId: row.key_id,
    scope: row.scope,
    purpose: row.purpose,
    kind: row.kind === 1 ? 'root' : 'data',
    keyVersion: row.key_version,
    generation: row.generation,
    sealedCount: row.sealed_count,
    wrapperIds: row.wrapper_ids,
    immutable: row.immutable,
    mutable: row.mutable,
  }));
}

/** Throws CONFLICT when the scope and purpose have a head. */
export async function insertHead(tx: Transaction, head: HeadRow): Promise<void> {
  await tx.query(
    `INSERT INTO keytether.head (tenant_id, scope, purpose, current_key, generation, object)
     VALUES ($1, $2, $3, $4, $5, $6)`,
    [tx.tenant, head.scope, head.purpose, head.currentKey, head.generation, head.object],
  );
}

/** Replaces the head if it still has `expectGeneration`; false when it has not. */
export async function replaceHead(
  tx: Transaction,
  head: HeadRow,
  expectGeneration: number,
): Promise<boolean> {
  const rows = await tx.query(
    `UPDATE keytether.head SET current_key = $4, generation = $5, object = $6
     WHERE tenant_id = $1 AND scope = $2 AND purpose = $3 AND generation = $7 RETURNING generation`,
    [tx.tenant, head.scope, head.purpose, head.currentKey, head.generation, head.object, expectGeneration],
  );
  return rows.length === 1;
}

/** Every head of the tenant, ordered by scope and purpose: root heads are those without a purpose. */
export async function listHeads(tx: Transaction): Promise<HeadRow[]> {
  const rows = await tx.query<{
    scope: string;
    purpose: string;
    current_key: Uint8Array;
    generation: number;
    object: Uint8Array;
  }>(
    `SELECT scope, purpose, current_key, generation, object FROM keytether.head
     WHERE tenant_id = $1 ORDER BY scope, purpose`,
    [tx.tenant],
  );
  return rows.map((row) => ({
    scope: row.scope,
    purpose: row.purpose,
    currentKey: row.current_key,
    generation: row.generation,
    object: row.object,
  }));
}
