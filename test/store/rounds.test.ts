import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import {
  deleteKeyRecord,
  insertBinding,
  insertHead,
  insertKeyRecord,
  replaceBinding,
  replaceHead,
  replaceKeyRecord,
} from '../../src/store/keys.ts';
import { insertPrincipal, readPrincipals, setPrincipalState } from '../../src/store/principals.ts';
import { type Round, readRound } from '../../src/store/rounds.ts';
import { createTenant, setTenantState } from '../../src/store/tenants.ts';
import { hex } from '../../src/store/values.ts';
import { ENGINES, type TestDatabase } from '../support/database.ts';
import { bytes } from '../support/log-units.ts';

const ID = {
  binding1: bytes(16, 0x01),
  binding2: bytes(16, 0x02),
  spareBinding: bytes(16, 0x03),
  oldRoot: bytes(16, 0x11),
  root: bytes(16, 0x12),
  oldData: bytes(16, 0x21),
  data: bytes(16, 0x22),
  otherScopeData: bytes(16, 0x23),
  foreign: bytes(16, 0x31),
};

describe.each(ENGINES)('reading on $engine', ({ open }) => {
  let opened: TestDatabase;

  beforeAll(async () => {
    opened = await open();
    await opened.database.transaction('a', async (tx) => {
      await createTenant(tx, 'a');
      for (const bindingId of [ID.binding1, ID.binding2, ID.spareBinding]) {
        await insertBinding(tx, { bindingId, version: 1, object: bindingId });
      }
      const common = { scope: 'default', generation: 3, immutable: bytes(5, 5), mutable: bytes(6, 6) };
      const root = { ...common, purpose: '', kind: 'root' } as const;
      const data = { ...common, purpose: 'notes', kind: 'data' } as const;
      await insertKeyRecord(tx, { ...root, keyId: ID.oldRoot, keyVersion: 1, wrapperIds: [ID.binding1] });
      await insertKeyRecord(tx, {
        ...root,
        keyId: ID.root,
        keyVersion: 2,
        wrapperIds: [ID.binding1, ID.binding2],
      });
      await insertKeyRecord(tx, { ...data, keyId: ID.oldData, keyVersion: 1, wrapperIds: [ID.oldRoot] });
      await insertKeyRecord(tx, { ...data, keyId: ID.data, keyVersion: 2, wrapperIds: [ID.root] });
      const elsewhere = {
        ...data,
        scope: 'eu',
        keyId: ID.otherScopeData,
        keyVersion: 1,
        wrapperIds: [ID.root],
      };
      await insertKeyRecord(tx, elsewhere);
      await insertHead(tx, {
        scope: 'default',
        purpose: '',
        currentKey: ID.root,
        generation: 2,
        object: bytes(7, 7),
      });
      await insertHead(tx, {
        scope: 'default',
        purpose: 'notes',
        currentKey: ID.data,
        generation: 2,
        object: bytes(8, 8),
      });
      await insertHead(tx, {
        scope: 'eu',
        purpose: '',
        currentKey: bytes(16, 0),
        generation: 1,
        object: bytes(9, 9),
      });
    });
    await opened.database.transaction('b', async (tx) => {
      await createTenant(tx, 'b');
      await insertKeyRecord(tx, {
        scope: 'default',
        generation: 1,
        immutable: bytes(5),
        mutable: bytes(6),
        purpose: '',
        kind: 'root',
        keyId: ID.foreign,
        keyVersion: 1,
        wrapperIds: [ID.binding1],
      });
    });
  });
  afterAll(() => opened?.drop());

  async function round(question: Partial<Parameters<typeof readRound>[2]>): Promise<Round> {
    const found = await readRound(opened.database, 'a', { scopes: [], heads: [], keyIds: [], ...question });
    if (found === undefined) throw new Error('no tenant');
    return found;
  }
  const ids = (map: ReadonlyMap<string, unknown>) => [...map.keys()].sort();

  test('encrypting: the head leads to its key, its root and their bindings', async () => {
    const found = await round({ scopes: ['default'], heads: [['default', 'notes']] });
    expect(found).toMatchObject({ state: 'active', stateVersion: 1 });
    expect(found.rootHeads).toEqual([
      { scope: 'default', purpose: '', currentKey: ID.root, generation: 2, object: bytes(7, 7) },
    ]);
    expect(found.heads).toEqual([
      { scope: 'default', purpose: 'notes', currentKey: ID.data, generation: 2, object: bytes(8, 8) },
    ]);
    expect(ids(found.records)).toEqual([ID.root, ID.data].map(hex));
    expect(ids(found.bindings)).toEqual([ID.binding1, ID.binding2].map(hex));
    expect(found.records.get(hex(ID.root))).toEqual({
      keyId: ID.root,
      scope: 'default',
      purpose: '',
      kind: 'root',
      keyVersion: 2,
      generation: 3,
      sealedCount: 0,
      wrapperIds: [ID.binding1, ID.binding2],
      immutable: bytes(5, 5),
      mutable: bytes(6, 6),
    });
    expect(found.bindings.get(hex(ID.binding1))).toEqual({
      bindingId: ID.binding1,
      version: 1,
      object: ID.binding1,
    });
  });

  test('decrypting: an old key id leads to the root that wraps it, not to the current one', async () => {
    const found = await round({ keyIds: [ID.oldData] });
    expect(ids(found.records)).toEqual([ID.oldRoot, ID.oldData].map(hex));
    expect(ids(found.bindings)).toEqual([hex(ID.binding1)]);
    expect([found.heads, found.rootHeads]).toEqual([[], []]);
  });

  test('what does not exist, and what belongs to another tenant, is left out', async () => {
    const found = await round({
      scopes: ['eu', 'nowhere'],
      heads: [
        ['default', 'nothing'],
        ['eu', 'notes'],
      ],
      keyIds: [ID.foreign, bytes(16)],
    });
    expect(found.rootHeads.map((head) => head.scope)).toEqual(['eu']);
    expect(found.heads).toEqual([]);
    expect([found.records.size, found.bindings.size]).toEqual([0, 0]);
  });

  test('a head and scope are matched as a pair', async () => {
    const found = await round({
      heads: [
        ['eu', 'notes'],
        ['default', 'mail'],
      ],
    });
    expect(found.heads).toEqual([]);
  });

  test('an unknown tenant is undefined, and the setting does not outlive the statement', async () => {
    expect(
      await readRound(opened.database, 'nobody', { scopes: ['default'], heads: [], keyIds: [] }),
    ).toBeUndefined();
    await round({ scopes: ['default'] });
    expect(await opened.database.query('SELECT 1 FROM keytether.tenant')).toEqual([]);
  });

  test('objects are replaced only by the one who read the newest', async () => {
    const outcomes = await opened.database.transaction('a', async (tx) => {
      const binding = { bindingId: ID.spareBinding, version: 2, object: bytes(1) };
      const record = { keyId: ID.otherScopeData, generation: 4, wrapperIds: [ID.oldRoot], mutable: bytes(2) };
      const head = { scope: 'eu', purpose: '', currentKey: ID.root, generation: 2, object: bytes(3) };
      return [
        await replaceBinding(tx, binding, 1),
        await replaceBinding(tx, binding, 1),
        await replaceKeyRecord(tx, record, 3),
        await replaceKeyRecord(tx, record, 3),
        await replaceHead(tx, head, 1),
        await replaceHead(tx, head, 1),
        await deleteKeyRecord(tx, ID.otherScopeData, 3),
        await deleteKeyRecord(tx, ID.otherScopeData, 4),
      ];
    });
    expect(outcomes).toEqual([true, false, true, false, true, false, false, true]);
  });

  test('callers are read across tenants, with the state of their tenant', async () => {
    const row = {
      principal: 'prn_1',
      role: 'service',
      name: 'one',
      scopes: ['default'],
      purposes: ['notes'],
      expiresMs: 1_800_000_000_000,
      state: 'active',
      secretSha256: bytes(32),
      authId: 'k1',
      mac: bytes(32),
      createdMs: 1,
    };
    await opened.database.transaction('a', (tx) => insertPrincipal(tx, row));
    await opened.database.transaction('b', async (tx) => {
      await insertPrincipal(tx, { ...row, principal: 'prn_2', expiresMs: null });
      await setTenantState(tx, 'suspended');
    });
    const found = await readPrincipals(opened.database, ['prn_2', 'prn_1', 'prn_none']);
    expect(found.sort((x, y) => x.principal.localeCompare(y.principal))).toEqual([
      { ...row, tenant: 'a', tenantState: 'active', stateVersion: 1 },
      { ...row, principal: 'prn_2', expiresMs: null, tenant: 'b', tenantState: 'suspended', stateVersion: 2 },
    ]);
    const change = { principal: 'prn_1', state: 'revoked', authId: 'k2', mac: bytes(32, 4) };
    const revoke = () => opened.database.transaction('a', (tx) => setPrincipalState(tx, change, 'active'));
    expect([await revoke(), await revoke()]).toEqual([true, false]);
    expect(await readPrincipals(opened.database, ['prn_1'])).toMatchObject([change]);
  });
});
