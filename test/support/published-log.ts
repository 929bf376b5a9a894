/** A tenant's log with real leaves, and a checkpointer whose rounds the test makes. */
import { createPrivateKey, type KeyObject } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type CheckpointEvent, type Checkpointer, startCheckpointer } from '../../src/audit/checkpointer.ts';
import { encodeLeaf } from '../../src/audit/leaf.ts';
import { openSigner, type Signer } from '../../src/audit/signer.ts';
import { newLogKeyFile } from '../../src/audit/signer-keys.ts';
import { createSignerMemory } from '../../src/audit/signer-memory.ts';
import { createUsageLog } from '../../src/audit/usage-log.ts';
import type { Core } from '../../src/service/core.ts';
import type { Database } from '../../src/store/db.ts';
import { appendUnits } from '../../src/store/log.ts';
import { createTenant } from '../../src/store/tenants.ts';

const WRITER = { id: new Uint8Array(16).fill(3), build: 'test' };
export const LOG_HOST = 'log.test';

export function newLogKey(): KeyObject {
  return createPrivateKey(newLogKeyFile());
}

export function originOf(tenant: string): string {
  return `${LOG_HOST}/log/${tenant}`;
}

/** The part of the core that reading a log needs. */
export function readingCore(db: Database): Core {
  return { db, logHost: LOG_HOST } as Core;
}

export async function newTenant(db: Database, tenant: string, leaves: number): Promise<void> {
  await db.transaction(tenant, (tx) => createTenant(tx, tenant), { logs: [] });
  await grow(db, tenant, leaves);
}

/** Appends records of refusals; `mark` makes them another history's. */
export async function grow(db: Database, tenant: string, leaves: number, mark = 'a'): Promise<void> {
  for (let left = leaves; left > 0; left -= 500) {
    const rows = Array.from({ length: Math.min(left, 500) }, (_, i) => {
      const actor = { id: `prn_${(i % 2 === 0 ? 'a' : 'b').repeat(26)}`, role: 'service' };
      const { eid, bytes } = encodeLeaf(WRITER, tenant, {
        typ: 'access.denied',
        op: mark,
        act: actor,
        req: undefined,
        n: 1,
        rsn: 'FORBIDDEN',
      });
      return { eid, leaf: bytes, guarded: false };
    });
    await appendUnits(db, WRITER.id, [{ kind: 'plain', tenant, rows }]);
  }
}

export interface SignerFolder {
  readonly folder: string;
  open(keys: readonly KeyObject[]): Promise<Signer>;
  remove(): void;
}

export function newSignerFolder(): SignerFolder {
  const folder = mkdtempSync(join(tmpdir(), 'keytether-signer-'));
  createSignerMemory(folder);
  return {
    folder,
    open: (keys) => openSigner({ folder, keys }),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

export type TestCheckpointer = Checkpointer & { readonly events: CheckpointEvent[] };

/** Rounds are the test's to make. */
export function newCheckpointer(db: Database, open: () => Promise<Signer>): TestCheckpointer {
  const events: CheckpointEvent[] = [];
  const checkpointer = startCheckpointer({
    db,
    log: createUsageLog({ append: (units) => appendUnits(db, WRITER.id, units) }),
    writer: WRITER,
    openSigner: open,
    originOf,
    report: (event) => events.push(event),
    everyMs: 0,
  });
  return Object.defineProperty(checkpointer, 'events', { value: events }) as TestCheckpointer;
}
