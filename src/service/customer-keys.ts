/** The tenant's customer keys: registered, proved to work and to refuse, made to wrap a scope's root, switched off. */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { ID_PREFIX } from '../brand.ts';
import { decodeId, newId, ownBytes, sameBytes } from '../crypto/encoding.ts';
import { createKey, openRecordKey } from '../crypto/keys.ts';
import { tampered } from '../crypto/record-auth.ts';
import {
  authenticateBinding,
  authenticateHead,
  authenticateKeyRecord,
  type Binding,
  type KeyRecord,
  parseKeyRecord,
  type StoredBinding,
  type StoredHead,
  verifyBinding,
  verifyHead,
  verifyKeyRecord,
} from '../crypto/records.ts';
import { type ErrorCode, ServiceError } from '../errors.ts';
import {
  bindingIdText,
  decodeAccess,
  encodeAccess,
  keyIdText,
  targetOf,
  wrapEntryName,
} from '../keyring/binding.ts';
import type { KmsAnswer } from '../kms/caller.ts';
import type { KeyDescription } from '../kms/driver.ts';
import type { Transaction } from '../store/db.ts';
import {
  insertBinding,
  insertHead,
  insertKeyRecord,
  listHeads,
  listKeyRecords,
  readBindings,
  replaceBinding,
} from '../store/keys.ts';
import type { Principal } from './authorize.ts';
import {
  actorOf,
  answered,
  type ChangeRecord,
  type Core,
  change,
  loggedCall,
  reading,
  recordNow,
} from './core.ts';

interface AdminCall {
  readonly principal: Principal;
  readonly tenant: string;
  readonly requestId: string;
}

export interface CustomerKeyView {
  readonly id: string;
  readonly provider: string;
  readonly keyRef: string;
  readonly access: Readonly<Record<string, unknown>>;
  readonly state: StoredBinding['state'];
  readonly scopes: readonly string[];
  readonly version: number;
}

/** What the customer's KMS says of the key now. */
export type LiveState =
  | { readonly state: KeyDescription['state']; readonly keyVersion: string; readonly bindsContext: boolean }
  | { readonly state: 'unknown'; readonly code: ErrorCode };

interface Check {
  readonly check: string;
  readonly ok: boolean;
  readonly action: string;
}

export function createCustomerKeys(core: Core) {
  const { kms, recordKeys } = core;

  async function find(tx: Transaction, id: string): Promise<StoredBinding> {
    const bindingId = decodeId(ID_PREFIX.customerKey, id);
    const [row] = bindingId === undefined ? [] : await readBindings(tx, [bindingId]);
    if (row === undefined) throw new ServiceError('NOT_FOUND');
    return check(row.object, tx.tenant, row.bindingId);
  }

  function check(object: Uint8Array, tenant: string, bindingId: Uint8Array): StoredBinding {
    const binding = verifyBinding(object, recordKeys);
    if (binding.tenant !== tenant || !sameBytes(binding.bindingId, bindingId))
      throw tampered('binding-moved');
    return binding;
  }

  async function rootHeads(tx: Transaction): Promise<StoredHead[]> {
    const rows = (await listHeads(tx)).filter((row) => row.purpose === '');
    return rows.map((row) => {
      const head = verifyHead(row.object, recordKeys);
      if (head.tenant !== tx.tenant || head.scope !== row.scope || head.purpose !== '')
        throw tampered('head-moved');
      return head;
    });
  }

  function view(binding: StoredBinding | Binding, heads: readonly StoredHead[]): CustomerKeyView {
    const { bindingId, provider, keyRef, state, version } = binding;
    return {
      id: bindingIdText(bindingId),
      provider,
      keyRef,
      access: JSON.parse(decodeAccess(binding.access).access),
      state,
      scopes: heads
        .filter((head) => head.bindingId !== undefined && sameBytes(head.bindingId, bindingId))
        .map((head) => head.scope),
      version,
    };
  }

  function read(call: AdminCall, id: string): Promise<{ binding: StoredBinding; heads: StoredHead[] }> {
    return reading(core, call.tenant, async (tx) => ({
      binding: await find(tx, id),
      heads: await rootHeads(tx),
    }));
  }

  function recordOf(
    call: AdminCall,
    op: string,
    object: Uint8Array,
    binding: Binding,
    scope?: string,
  ): ChangeRecord {
    return {
      typ: 'admin.change',
      op,
      act: actorOf(call.principal),
      req: call.requestId,
      sc: scope,
      obj: { typ: 'customer-key', id: bindingIdText(binding.bindingId), h: sha256(object) },
    };
  }

  /** Replaces a binding that is still the one that was read, with its record, and what `also` does in the same commit. */
  async function replace(
    call: AdminCall,
    op: string,
    before: StoredBinding,
    next: Partial<Pick<Binding, 'state' | 'access'>>,
    also: { scope?: string; work?: (tx: Transaction) => Promise<readonly ChangeRecord[]> } = {},
  ): Promise<Binding> {
    const binding: Binding = { ...before, ...next, version: before.version + 1 };
    const object = authenticateBinding(binding, recordKeys);
    await change(core, call.tenant, async (tx) => {
      const row = { bindingId: binding.bindingId, version: binding.version, object };
      if (!(await replaceBinding(tx, row, before.version)))
        throw new ServiceError('CONFLICT', { detail: 'changed-meanwhile' });
      const more = (await also.work?.(tx)) ?? [];
      return [...more, recordOf(call, op, object, binding, also.scope)];
    });
    return binding;
  }

  function describe(binding: StoredBinding): Promise<KmsAnswer<KeyDescription>> {
    const target = targetOf(binding);
    const about = { op: 'describe', entry: probeEntry(binding) } as const;
    return loggedCall(core, target, about, (correlationId) =>
      kms.describe(target, { correlationId, workedBefore: works(binding) }),
    );
  }

  /** Wraps 32 random bytes, wants them back, and wants them refused under another wrap context. */
  async function prove(binding: StoredBinding): Promise<Check[]> {
    const target = targetOf(binding);
    const workedBefore = works(binding);
    const entry = probeEntry(binding);
    const context = { tenant: binding.tenant, scope: 'default', key: keyIdText(newId()) };
    const other = { ...context, key: keyIdText(newId()) };
    const secret = ownBytes(32);
    secret.set(randomBytes(32));
    try {
      const wrapped = await loggedCall(core, target, { op: 'wrap', entry }, (correlationId) =>
        kms.wrap(target, secret, context, { correlationId, workedBefore }),
      );
      if (wrapped.outcome !== 'ok') return [failedCheck('wrap', wrapped)];
      const bytes = wrapped.value.wrapped;
      const unwrapped = await loggedCall(core, target, { op: 'unwrap', entry }, (correlationId) =>
        kms.unwrap(target, bytes, context, { correlationId, workedBefore }),
      );
      if (unwrapped.outcome !== 'ok') return [passed('wrap'), failedCheck('unwrap', unwrapped)];
      const same = timingSafeEqual(unwrapped.value.key, secret);
      unwrapped.value.key.fill(0);
      const wrong = await loggedCall(core, target, { op: 'unwrap', entry }, (correlationId) =>
        kms.unwrap(target, bytes, other, { correlationId, workedBefore }),
      );
      if (wrong.outcome === 'ok') wrong.value.key.fill(0);
      return [
        passed('wrap'),
        {
          check: 'unwrap',
          ok: same,
          action: same ? '' : 'The KMS returned other bytes than it was given; check the key reference.',
        },
        wrong.outcome === 'integrity'
          ? passed('refuses-wrong-context')
          : wrong.outcome === 'ok'
            ? {
                check: 'refuses-wrong-context',
                ok: false,
                action: 'The KMS opened a key under another wrap context; use a symmetric key.',
              }
            : failedCheck('refuses-wrong-context', wrong),
      ];
    } finally {
      secret.fill(0);
    }
  }

  /** A fresh call that unwraps this root, and the proof that it is the one that was wrapped. */
  async function proveRoot(binding: StoredBinding, root: KeyRecord): Promise<void> {
    const target = targetOf(binding);
    const wrap = root.wraps[0];
    if (wrap === undefined) throw tampered('root-wrap');
    const key = { id: keyIdText(root.keyId), ver: root.keyVersion };
    const context = { tenant: root.tenant, scope: root.scope, key: key.id };
    const about = { op: 'unwrap', entry: wrapEntryName(root.keyId, wrap), key, scope: root.scope } as const;
    const answer = await loggedCall(core, target, about, (correlationId) =>
      kms.unwrap(target, wrap.wrapped, context, { correlationId, workedBefore: true }),
    );
    const { key: secret } = answered(answer);
    try {
      openRecordKey(secret, root).fill(0);
    } finally {
      secret.fill(0);
    }
  }

  /** A scope's first root: made here, wrapped by the customer key, unwrapped again before anything relies on it. */
  async function createRoot(binding: StoredBinding, tenant: string, scope: string) {
    const target = targetOf(binding);
    const fresh = createKey({
      kind: 'root',
      keyVersion: 1,
      createdMs: Date.now(),
      tenant,
      scope,
      purpose: '',
    });
    const { keyId, immutable, secret } = fresh;
    const key = { id: keyIdText(keyId), ver: 1 };
    try {
      const context = { tenant, scope, key: key.id };
      const about = { op: 'wrap', entry: probeEntry(binding), key, scope } as const;
      const wrapped = answered(
        await loggedCall(core, target, about, (correlationId) =>
          kms.wrap(target, secret, context, { correlationId, workedBefore: works(binding) }),
        ),
      );
      const wrap = {
        wrapperId: binding.bindingId,
        kmsKeyVersion: wrapped.keyVersion,
        wrapAlg: wrapped.algorithm,
        wrapped: wrapped.wrapped,
      };
      const wrapping = { generation: 1, state: 'active', mode: 'one', wraps: [wrap] } as const;
      const object = authenticateKeyRecord(immutable, wrapping, recordKeys);
      await proveRoot(binding, parseKeyRecord(object));
      const current = {
        tenant,
        scope,
        purpose: '',
        keyId,
        keyVersion: 1,
        bindingId: binding.bindingId,
        generation: 1,
      };
      return { key, keyId, immutable, object, head: authenticateHead(current, recordKeys) };
    } finally {
      secret.fill(0);
    }
  }

  async function rootOf(tx: Transaction, head: StoredHead): Promise<KeyRecord> {
    const rows = await listKeyRecords(tx, 1_000, { scope: head.scope });
    const row = rows.find(({ keyId }) => head.keyId !== undefined && sameBytes(keyId, head.keyId));
    if (row === undefined) throw tampered('record-missing');
    const root = verifyKeyRecord(new Uint8Array(Buffer.concat([row.immutable, row.mutable])), recordKeys);
    if (root.kind !== 'root' || root.tenant !== tx.tenant || root.scope !== head.scope)
      throw tampered('root');
    return root;
  }

  return {
    async register(
      call: AdminCall,
      input: { provider: string; keyRef: string; access: Readonly<Record<string, unknown>> },
    ) {
      const { keyRef, access } = kms.checkTarget(input.provider, input.keyRef, input.access);
      const binding: Binding = {
        bindingId: newId(),
        version: 1,
        state: 'registered',
        tenant: call.tenant,
        provider: input.provider,
        keyRef,
        access: encodeAccess({ access, perUse: [] }),
      };
      const object = authenticateBinding(binding, recordKeys);
      await change(core, call.tenant, async (tx) => {
        await insertBinding(tx, { bindingId: binding.bindingId, version: 1, object });
        return [recordOf(call, 'customer-key.register', object, binding)];
      });
      return view(binding, []);
    },

    async list(call: AdminCall): Promise<CustomerKeyView[]> {
      return reading(core, call.tenant, async (tx) => {
        const heads = await rootHeads(tx);
        const rows = await readBindings(tx);
        return rows.map((row) => view(check(row.object, tx.tenant, row.bindingId), heads));
      });
    },

    /** The stored state, and what the KMS itself says now. */
    async describe(call: AdminCall, id: string): Promise<CustomerKeyView & { kms: LiveState }> {
      const { binding, heads } = await read(call, id);
      const live = await describe(binding);
      if (live.outcome !== 'ok')
        return { ...view(binding, heads), kms: { state: 'unknown', code: live.code } };
      const { state, keyVersion, bindsContext } = live.value;
      return { ...view(binding, heads), kms: { state, keyVersion, bindsContext } };
    },

    async verify(
      call: AdminCall,
      id: string,
    ): Promise<{ state: StoredBinding['state']; checks: readonly Check[] }> {
      const { binding } = await read(call, id);
      const target = targetOf(binding);
      const described = await describe(binding);
      const enabled = described.outcome === 'ok' && described.value.state === 'enabled';
      const setup = await loggedCall(
        core,
        target,
        { op: 'check-setup', entry: probeEntry(binding) },
        (correlationId) => kms.checkSetup(target, { correlationId, workedBefore: works(binding) }),
      );
      const checks: Check[] = [
        described.outcome !== 'ok'
          ? failedCheck('describe', described)
          : { check: 'describe', ok: enabled, action: enabled ? '' : 'Enable the key in the KMS.' },
        ...(await prove(binding)),
        ...(setup.outcome === 'ok' ? setup.value : [failedCheck('setup', setup)]),
      ];
      const good = checks.every(({ ok }) => ok);
      if (good && binding.state === 'registered') {
        await replace(call, 'customer-key.verify', binding, { state: 'verified' });
        return { state: 'verified', checks };
      }
      await recordNow(core, call.tenant, {
        typ: 'admin.change',
        op: 'customer-key.verify',
        act: actorOf(call.principal),
        req: call.requestId,
        obj: { typ: 'customer-key', id },
        dtl: good
          ? 'passed'
          : `failed: ${checks
              .filter(({ ok }) => !ok)
              .map((each) => each.check)
              .join(' ')}`,
      });
      return { state: binding.state, checks };
    },

    /** Lets the key wrap a scope: makes the scope's root when it has none, and proves the present one when it has. */
    async activate(
      call: AdminCall,
      id: string,
      input: { scope: string; oneFlightPerUse: boolean },
    ): Promise<CustomerKeyView> {
      const { scope } = input;
      const { binding, heads } = await read(call, id);
      if (binding.state === 'registered') throw new ServiceError('CONFLICT', { detail: 'not-verified' });
      const head = heads.find((each) => each.scope === scope);
      if (head?.bindingId !== undefined && !sameBytes(head.bindingId, binding.bindingId)) {
        throw new ServiceError('CONFLICT', { detail: 'scope-has-another-key' });
      }
      const stored = decodeAccess(binding.access);
      const others = stored.perUse.filter((each) => each !== scope);
      const access = encodeAccess({
        access: stored.access,
        perUse: input.oneFlightPerUse ? [...others, scope] : others,
      });
      if (head !== undefined) {
        await proveRoot(binding, await reading(core, call.tenant, (tx) => rootOf(tx, head)));
        await replace(call, 'customer-key.activate', binding, { state: 'active', access }, { scope });
      } else {
        const keys = await reading(core, call.tenant, (tx) => listKeyRecords(tx, 1, { scope }));
        if (keys.length > 0) throw tampered('head-missing');
        const root = await createRoot(binding, call.tenant, scope);
        await replace(
          call,
          'customer-key.activate',
          binding,
          { state: 'active', access },
          { scope, work: (tx) => storeRoot(tx, call, binding, scope, root) },
        );
      }
      const now = await read(call, id);
      return view(now.binding, now.heads);
    },

    async disable(call: AdminCall, id: string): Promise<CustomerKeyView> {
      const { binding, heads } = await read(call, id);
      if (binding.state === 'disabled') return view(binding, heads);
      return view(await replace(call, 'customer-key.disable', binding, { state: 'disabled' }), heads);
    },
  };

  async function storeRoot(
    tx: Transaction,
    call: AdminCall,
    binding: StoredBinding,
    scope: string,
    root: Awaited<ReturnType<typeof createRoot>>,
  ): Promise<readonly ChangeRecord[]> {
    const { key, keyId, immutable, object, head } = root;
    await insertKeyRecord(tx, {
      keyId,
      scope,
      purpose: '',
      kind: 'root',
      keyVersion: 1,
      generation: 1,
      wrapperIds: [binding.bindingId],
      immutable,
      mutable: object.subarray(immutable.length),
    });
    await insertHead(tx, { scope, purpose: '', currentKey: keyId, generation: 1, object: head });
    const made = (op: string, typ: string, bytes: Uint8Array): ChangeRecord => ({
      typ: 'admin.change',
      op,
      act: actorOf(call.principal),
      req: call.requestId,
      sc: scope,
      obj: { typ, id: key.id, h: sha256(bytes) },
    });
    return [made('key.create', 'root', object), made('key.current', 'head', head)];
  }
}

/** Whether a denial of this key is a refusal: it has been seen to work. */
function works(binding: StoredBinding): boolean {
  return binding.state === 'active' || binding.state === 'disabled';
}

/** Calls about the customer key itself, not about a wrap entry, have a name of their own to fence. */
function probeEntry(binding: Binding): Uint8Array {
  return createHash('sha256').update('probe').update(binding.bindingId).digest();
}

function passed(check: string): Check {
  return { check, ok: true, action: '' };
}

function failedCheck(check: string, answer: Exclude<KmsAnswer<unknown>, { outcome: 'ok' }>): Check {
  const { code, detail } = answer;
  const specific = detail.startsWith('KMS_') ? (detail as ErrorCode) : code;
  return { check, ok: false, action: new ServiceError(specific).message };
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('base64');
}
