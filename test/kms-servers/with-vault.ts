/**
 * Runs a command that needs HashiCorp Vault, after building it (minutes the first time, then from the user's cache).
 *
 *     node test/kms-servers/with-vault.ts <command> [arguments]
 *
 * Where Go is missing it says so and fails; with `MAY_SKIP=vault` in the environment it says so and succeeds.
 */
import { spawn } from 'node:child_process';
import { goVersion } from '../support/go-program.ts';
import { vaultProgram } from './vault.ts';

const [command = 'true', ...args] = process.argv.slice(2);

if ((await goVersion()) === undefined) {
  process.stderr.write('unproven here: the KMS contract with HashiCorp Vault 1.13.1 (Go is not installed)\n');
  process.exitCode = process.env.MAY_SKIP === 'vault' ? 0 : 1;
} else {
  await vaultProgram();
  const child = spawn(command, args, { stdio: 'inherit' });
  process.exitCode = await new Promise<number>((resolve) => child.once('exit', (code) => resolve(code ?? 1)));
}
