/**
 * Open handles, one per (tenant, provider, key reference, access), bounded by least recent use. Handles of two tenants
 * are never shared, even for the same key and access: a session of one must not serve another.
 */
import type { CustomerKeyHandle, Deployment, DriverHost, KmsDriver } from './driver.ts';
import { KmsFailure } from './driver.ts';

/** The customer key that a call is for, as the authenticated binding has it. */
export interface KmsTarget {
  readonly tenant: string;
  readonly bindingId: string;
  readonly version: number;
  readonly provider: string;
  /** As `checkTarget` returned it. */
  readonly keyRef: string;
  /** The JSON text that `checkTarget` returned. Holds no secrets, only their ids. */
  readonly access: string;
}

export interface Lease {
  readonly handle: Promise<CustomerKeyHandle>;
  /** Ends the use. `abandon` forgets a handle that never opened, so that the next call opens another. */
  release(abandon: boolean): void;
}

export interface Handles {
  lease(target: KmsTarget): Lease;
  /** Closes all handles, each as soon as no call is in flight on it. Resolves when all are closed. */
  close(): Promise<void>;
}

interface Entry {
  readonly opening: Promise<CustomerKeyHandle>;
  opened: boolean;
  uses: number;
  /** Out of the map: nobody leases it again, and it closes with its last use. */
  retired: boolean;
  readonly closed: PromiseWithResolvers<void>;
}

export function createHandles(options: {
  readonly drivers: ReadonlyMap<string, KmsDriver>;
  readonly host: Deployment;
  readonly maxHandles: number;
}): Handles {
  const entries = new Map<string, Entry>();
  const live = new Set<Entry>();

  const open = async (target: KmsTarget): Promise<CustomerKeyHandle> => {
    const driver = options.drivers.get(target.provider);
    if (!driver) throw new KmsFailure('misconfigured', 'KMS_MISCONFIGURED', { detail: 'unknown-provider' });
    if (driver.parseKeyRef(target.keyRef) !== target.keyRef) {
      throw new KmsFailure('misconfigured', 'KMS_MISCONFIGURED', { detail: 'key-ref' });
    }
    const access = driver.access.safeParse(JSON.parse(target.access));
    if (!access.success) throw new KmsFailure('misconfigured', 'KMS_MISCONFIGURED', { detail: 'access' });
    const host: DriverHost = {
      secret: (id, use) => options.host.secret(id, use, target.tenant),
      endpointAllowed: (url) => options.host.endpointAllowed(url),
    };
    return driver.open(target.keyRef, access.data, host);
  };

  // A handle that fails to open or to close leaves nothing that a caller could do about it.
  const closeHandle = (entry: Entry): void => {
    const done = () => {
      live.delete(entry);
      entry.closed.resolve();
    };
    entry.opening.then((handle) => handle.close()).then(done, done);
  };

  const retire = (key: string, entry: Entry): void => {
    if (entry.retired) return;
    entry.retired = true;
    if (entries.get(key) === entry) entries.delete(key);
    if (entry.uses === 0) closeHandle(entry);
  };

  const enter = (key: string, target: KmsTarget): Entry => {
    const entry: Entry = {
      opening: open(target),
      opened: false,
      uses: 0,
      retired: false,
      closed: Promise.withResolvers<void>(),
    };
    live.add(entry);
    entry.opening.then(
      () => {
        entry.opened = true;
      },
      () => retire(key, entry),
    );
    return entry;
  };

  return {
    lease(target) {
      const key = JSON.stringify([target.tenant, target.provider, target.keyRef, target.access]);
      const entry = entries.get(key) ?? enter(key, target);
      entry.uses += 1;
      entries.delete(key);
      entries.set(key, entry);
      const oldest = entries.size > options.maxHandles ? entries.entries().next().value : undefined;
      if (oldest) retire(...oldest);
      return {
        handle: entry.opening,
        release(abandon) {
          entry.uses -= 1;
          if (abandon && !entry.opened) retire(key, entry);
          else if (entry.retired && entry.uses === 0) closeHandle(entry);
        },
      };
    },
    async close() {
      for (const [key, entry] of [...entries]) retire(key, entry);
      await Promise.all([...live].map((entry) => entry.closed.promise));
    },
  };
}
