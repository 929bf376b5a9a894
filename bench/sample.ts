/** One decrypt as it looks on the wire, for servers that answer it without doing it. */
import { randomBytes } from 'node:crypto';

/** 64 bytes of plaintext make an envelope of 160 bytes. */
const PLAINTEXT = randomBytes(64).toString('base64');
const ENVELOPE = randomBytes(160).toString('base64');

export const SAMPLE_PATH = '/v1/tenants/ten_mfrggzdfmztwq2lknnwg23tpoa/decrypt';

export const SAMPLE_HEADERS: Readonly<Record<string, string>> = {
  Authorization: `Bearer ktt_${'a'.repeat(52)}`,
  'Content-Type': 'application/json',
};

/** About 350 bytes. */
export const SAMPLE_REQUEST = JSON.stringify({
  scope: 'default',
  purpose: 'customer-data',
  resource_id: 'invoice/2026/000042',
  context: { table: 'invoices', column: 'iban' },
  envelope: ENVELOPE,
});

/** About 150 bytes. */
export const SAMPLE_ANSWER = {
  plaintext: PLAINTEXT,
  key_id: 'key_mfrggzdfmztwq2lknnwg23tpoa',
  key_version: 1,
} as const;
