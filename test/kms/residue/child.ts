/**
 * Unwraps one key many times through a driver and stays still for its memory to be read. Prints the key XOR 0xA7 in hex, so
 * that neither this process nor its parent holds it in the encodings that are searched for.
 *
 *     node child.ts <json: {provider, key, access, secret, allowed}> <unwrap|wrap|fail|leak> <times>
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { createDrivers } from '../../../adapters/index.ts';
import { createKmsCaller } from '../../../src/kms/caller.ts';

/** How to reach the key. `secret` answers every platform secret; `allowed` is the one address that may be called. */
export interface ResidueTarget {
  readonly provider: string;
  readonly key: string;
  readonly access: unknown;
  readonly secret: string;
  readonly allowed: string;
}

const [targetText = '', mode = '', times = ''] = process.argv.slice(2);
const { provider, key: keyRef, access, secret, allowed } = JSON.parse(targetText) as ResidueTarget;
const caller = createKmsCaller({
  drivers: createDrivers({ production: false }),
  host: {
    secret: async () => new TextEncoder().encode(secret),
    endpointAllowed: (address) => address === allowed,
  },
});
const target = {
  tenant: 'ten_a',
  bindingId: 'ckey_a',
  version: 1,
  provider,
  ...caller.checkTarget(provider, keyRef, access),
};
const context = { tenant: 'ten_a', scope: 'default', key: 'key_a' };
const call = { correlationId: 'cid', workedBefore: true };

const key = new Uint8Array(32);
crypto.getRandomValues(key);
const masked = Array.from(key, (byte) => (byte ^ 0xa7).toString(16).padStart(2, '0')).join('');
const first = await caller.wrap(target, key, context, call);
if (first.outcome !== 'ok') throw new Error(first.code);
const { wrapped } = first.value;

const kept: string[] = [];
for (let i = 0; i < Number(times); i += 1) {
  if (mode === 'wrap') await caller.wrap(target, key, context, call);
  if (mode === 'fail') await caller.unwrap(target, wrapped, { ...context, scope: 'other' }, call);
  if (mode === 'unwrap' || mode === 'leak') {
    const answer = await caller.unwrap(target, wrapped, context, call);
    if (answer.outcome !== 'ok') throw new Error(answer.code);
    if (mode === 'leak') kept.push(Buffer.from(answer.value.key).toString('base64'));
    answer.value.key.fill(0);
  }
}
key.fill(0);
console.log(JSON.stringify({ masked, phase: 'before' }));
process.stdin.once('data', () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  collect();
  collect();
  console.log(JSON.stringify({ masked, phase: 'after', kept: kept.length }));
});
