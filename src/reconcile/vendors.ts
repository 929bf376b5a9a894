/** The logs that can be read, by the name that the command line uses. */
import { awsLog } from './aws.ts';
import { azureLog } from './azure.ts';
import type { Vendor, VendorLog } from './event.ts';
import { gcpLog } from './gcp.ts';
import { localLog } from './local.ts';
import { vaultLog } from './vault.ts';

export const VENDOR_LOGS: Readonly<Record<Vendor, VendorLog>> = {
  aws: awsLog,
  gcp: gcpLog,
  azure: azureLog,
  vault: vaultLog,
  local: localLog,
};
