/** The development KMS from a terminal: throw a switch and watch the service obey. `npm run kms` prints the verbs. */
import { type LocalKeystore, openLocalKeystore } from './keystore.ts';

const USAGE = `npm run kms -- [--folder <folder>] <verb>

  list                           keys and their states
  create <name>                  a new key; prints its key reference
  enable|disable <key>
  schedule-deletion <key> [days]
  cancel-deletion <key>          leaves the key disabled
  deny|allow <key> <principal>   * is every principal
  rotate <key>
  switches                       latency, throttle, reachability
  latency <ms>
  throttle <calls per second>|off
  unreachable | reachable
  log                            the key-usage log

<key> is a key reference or its name. The folder is .keytether/kms unless named.`;

function run(keystore: LocalKeystore, [verb = '', first = '', second = '']: readonly string[]): unknown {
  const key = first.includes('/') ? first : `local-kms://keys/${first}`;
  const verbs: Record<string, () => unknown> = {
    list: () => keystore.listKeys().map((ref) => summary(keystore, ref)),
    create: () => keystore.createKey(first),
    enable: () => keystore.enable(key),
    disable: () => keystore.disable(key),
    'schedule-deletion': () => keystore.scheduleDeletion(key, second === '' ? 30 : Number(second)),
    'cancel-deletion': () => keystore.cancelDeletion(key),
    deny: () => keystore.deny(key, second),
    allow: () => keystore.allow(key, second),
    rotate: () => keystore.rotate(key),
    switches: () => keystore.switches(),
    latency: () => keystore.setSwitches({ latencyMs: Number(first) }),
    throttle: () => keystore.setSwitches({ callsPerSecond: first === 'off' ? null : Number(first) }),
    unreachable: () => keystore.setSwitches({ reachable: false }),
    reachable: () => keystore.setSwitches({ reachable: true }),
    log: () => keystore.usage(),
  };
  const act = Object.hasOwn(verbs, verb) ? verbs[verb] : undefined;
  return act ? (act() ?? 'done') : USAGE;
}

function summary(keystore: LocalKeystore, keyRef: string): object {
  const key = keystore.readKey(keyRef);
  if (!key) return { key: keyRef, state: 'deleted' };
  const { enabled, deletionMs, denied, versions } = key;
  const deletion = deletionMs === null ? null : new Date(deletionMs).toISOString();
  return { key: keyRef, enabled, deletion, denied, version: versions.length };
}

function print(result: unknown): void {
  if (typeof result === 'string') console.log(result);
  else if (Array.isArray(result)) for (const line of result) console.log(JSON.stringify(line));
  else console.log(JSON.stringify(result));
}

const args = process.argv.slice(2);
const folder = args[0] === '--folder' ? args.splice(0, 2)[1] : undefined;
try {
  print(run(openLocalKeystore(folder ?? '.keytether/kms'), args));
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
}
