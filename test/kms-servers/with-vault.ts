/**
 * Runs a command that needs HashiCorp Vault, after building it (minutes the first time, then from the user's cache).
 *
 *     node test/kms-servers/with-vault.ts [--may-skip] -- <command>
 *
 * Where Go is missing it says so and fails; with `--may-skip` it says so and succeeds.
 */
import { spawn } from 'node:child_process';
import { parseArgs } from 'node:util';
import { goVersion, vaultProgram } from './vault.ts';

const { values, positionals } = parseArgs({
  options: { 'may-skip': { type: 'boolean', default: false } },
  allowPositionals: true,
});
const [command = 'true', ...args] = positionals;

if ((await goVersion()) === undefined) {
  process.stderr.write('unproven here: the KMS contract with HashiCorp Vault 1.13.1 (Go is not installed)\n');
  process.exitCode = values['may-skip'] ? 0 : 1;
} else {
  await vaultProgram();
  const child = spawn(command, args, { stdio: 'inherit' });
  process.exitCode = await new Promise<number>((resolve) => child.once('exit', (code) => resolve(code ?? 1)));
}
