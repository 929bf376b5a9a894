/** Every KMS that this build can reach, by the provider name that a binding stores. A new adapter adds a line here. */
import type { KmsDriver } from '../src/kms/driver.ts';
import { createAwsKms } from './kms/aws.ts';
import { createLocalKms } from './kms/local.ts';
import { createVaultKms } from './kms/vault.ts';

/** Without `localFolder` there is no local KMS; in production it refuses every key. */
export function createDrivers(options: {
  readonly production: boolean;
  readonly localFolder?: string | undefined;
}): Map<string, KmsDriver> {
  const { production, localFolder: folder } = options;
  const drivers: readonly KmsDriver[] = [
    createAwsKms(),
    createVaultKms(),
    ...(folder === undefined ? [] : [createLocalKms({ folder, production })]),
  ];
  return new Map(drivers.map((driver) => [driver.provider, driver]));
}
