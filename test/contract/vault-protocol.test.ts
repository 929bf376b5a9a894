import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createVaultKms } from '../../adapters/kms/vault.ts';
import { allowKey, startVaultServer } from '../kms-servers/vault-protocol.ts';
import { describeKmsContract } from './kms.ts';
import { HOSTILE_VAULT_KEYS, VAULT_SOURCES } from './vault-harness.ts';

const SECRET_ID = '6b0f-marker-secret-id-of-the-role';

describeKmsContract({
  name: 'Vault, protocol server',
  cannot: { 'pending-deletion': 'neither Vault nor OpenBao has that state' },
  hostile: HOSTILE_VAULT_KEYS,
  sources: VAULT_SOURCES,
  secrets: [SECRET_ID],
  async start() {
    const server = await startVaultServer();
    const space = server.namespace();
    const { transit, logins, policies } = space;
    const first = transit.create('first');
    transit.create('second');
    for (const name of ['first', 'second', 'unknown']) allowKey(space, 'use', name);
    logins.appRoles.set('role', { policies: ['use'], ttlSeconds: 900, secretIds: new Set([SECRET_ID]) });
    const closedPort = await unusedPort();
    const access = { auth: { type: 'approle', roleId: 'role', secretId: 'vault' } };
    const swap = (change: () => void, undo: () => void) => {
      change();
      return async () => undo();
    };
    const keyRef = server.keyRef('first');
    return {
      driver: createVaultKms(),
      host: {
        secret: async () => new TextEncoder().encode(`${SECRET_ID}\n`),
        endpointAllowed: (address) => address === server.url || address === closedPort,
      },
      access,
      keyRefs: [keyRef, server.keyRef('second')],
      unknownKeyRef: server.keyRef('unknown'),
      unreachable: async () => ({
        access,
        keyRef: keyRef.replace(server.url, closedPort),
        restore: async () => {},
      }),
      async enter(condition) {
        const allowed = policies.get('use') ?? new Map();
        if (condition === 'disabled') {
          return swap(
            () => Object.assign(first, { softDeleted: true }),
            () => Object.assign(first, { softDeleted: false }),
          );
        }
        if (condition === 'denied') {
          return swap(
            () => policies.set('use', new Map()),
            () => policies.set('use', allowed),
          );
        }
        if (condition === 'throttled') {
          const errors = ['request path "transit/decrypt/first": rate limit quota exceeded'];
          return swap(
            () => Object.assign(server.faults, { answer: { status: 429, errors } }),
            () => Object.assign(server.faults, { answer: undefined }),
          );
        }
        if (condition === 'slow') {
          return swap(
            () => Object.assign(server.faults, { latencyMs: 60_000 }),
            () => Object.assign(server.faults, { latencyMs: 0 }),
          );
        }
        if (condition === 'rotated') {
          first.versions.push(crypto.getRandomValues(new Uint8Array(32)));
          return async () => {};
        }
        throw new Error(`the harness cannot bring about: ${condition}`);
      },
      calls: () => server.log.length,
      close: () => server.close(),
    };
  },
});

async function unusedPort(): Promise<string> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return `http://127.0.0.1:${port}`;
}
