/**
 * Unwraps one key many times through the AWS driver and stays still for its memory to be read. Prints the key XOR 0xA7 in
 * hex, so that neither this process nor its parent holds it in the encodings that are searched for.
 *
 *     node child.ts <json: {url, region, accessKeyId, secretAccessKey, key}> <unwrap|wrap|fail|leak> <times>
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { createAwsKms } from '../../../adapters/kms/aws.ts';
import { createKmsCaller } from '../../../src/kms/caller.ts';

const [serverText = '', mode = '', times = ''] = process.argv.slice(2);
const server = JSON.parse(serverText) as Record<
  'url' | 'region' | 'accessKeyId' | 'secretAccessKey' | 'key',
  string
>;
const { url, region, accessKeyId, secretAccessKey } = server;
const caller = createKmsCaller({
  drivers: new Map([['aws-kms', createAwsKms()]]),
  host: {
    secret: async () => new TextEncoder().encode(JSON.stringify({ accessKeyId, secretAccessKey })),
    endpointAllowed: (address) => address === url,
  },
});
const access = { region, endpoint: url, credentials: { type: 'static', secretId: 'aws' } };
const target = {
  tenant: 'ten_a',
  bindingId: 'ckey_a',
  version: 1,
  provider: 'aws-kms',
  ...caller.checkTarget('aws-kms', server.key, access),
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
