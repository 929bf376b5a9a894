import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLocalKms, openLocalKeystore } from '../../adapters/kms/local.ts';
import { describeKmsContract } from './kms.ts';

describeKmsContract({
  name: 'local development KMS',
  cannot: {},
  hostile: [
    'local:alias',
    'local-kms://keys/',
    'local-kms://keys/A',
    'local-kms://keys/a/b',
    'arn:aws:kms:x',
  ],
  sources: ['adapters/kms/local.ts', 'adapters/kms/local/keystore.ts'],
  secrets: [],
  async start() {
    const folder = mkdtempSync(join(tmpdir(), 'keytether-local-kms-'));
    const keystore = openLocalKeystore(folder);
    const first = keystore.createKey('first');
    const second = keystore.createKey('second');
    const enter = {
      disabled: () => keystore.disable(first),
      'pending-deletion': () => keystore.scheduleDeletion(first),
      denied: () => keystore.deny(first, 'keytether'),
      throttled: () => keystore.setSwitches({ callsPerSecond: 0 }),
      slow: () => keystore.setSwitches({ latencyMs: 60_000 }),
      rotated: () => keystore.rotate(first),
    };
    const leave = {
      disabled: () => keystore.enable(first),
      'pending-deletion': () => {
        keystore.cancelDeletion(first);
        keystore.enable(first);
      },
      denied: () => keystore.allow(first, 'keytether'),
      throttled: () => keystore.setSwitches({ callsPerSecond: null }),
      slow: () => keystore.setSwitches({ latencyMs: 0 }),
      rotated: () => {},
    };
    return {
      driver: createLocalKms({ folder, production: false }),
      host: {
        secret: () => Promise.reject(new Error('no secrets here')),
        endpointAllowed: () => false,
      },
      access: {},
      keyRefs: [first, second],
      unknownKeyRef: 'local-kms://keys/nobody',
      async unreachable() {
        keystore.setSwitches({ reachable: false });
        return { access: {}, restore: async () => keystore.setSwitches({ reachable: true }) };
      },
      async enter(condition) {
        enter[condition]();
        return async () => leave[condition]();
      },
      calls: () => keystore.usage().length,
      async close() {
        rmSync(folder, { recursive: true });
      },
    };
  },
});
