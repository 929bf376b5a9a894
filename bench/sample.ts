/** One decrypt as it looks on the wire: what tenants send to the service, and what the floors answer without doing it. */
import { randomBytes } from 'node:crypto';

/** 64 bytes of plaintext make an envelope of 160 bytes. */
const PLAINTEXT = randomBytes(64).toString('base64');

/** What binds each message. */
const BINDING = {
  purpose: 'customer-data',
  resourceId: 'invoice/2026/000042',
  context: { table: 'invoices', column: 'iban' },
} as const;

export const SAMPLE_PATH = '/v1/tenants/ten_mfrggzdfmztwq2lknnwg23tpoa/decrypt';

export function headersOf(token: string): Readonly<Record<string, string>> {
  return { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' };
}

export const SAMPLE_HEADERS = headersOf(`ktt_${'a'.repeat(86)}`);

export function encryptBody(scope: string) {
  return { scope, ...BINDING, plaintext: PLAINTEXT };
}

/** About 350 bytes as JSON. */
export function decryptBody(scope: string, envelope: string) {
  return { scope, ...BINDING, envelope };
}

export const SAMPLE_REQUEST = JSON.stringify(decryptBody('default', randomBytes(160).toString('base64')));

/** Of the same size as the service's answer, which has seven headers more. */
export const SAMPLE_ANSWER = {
  plaintext: PLAINTEXT,
  receipt: {
    origin: 'keytether.local/log/ten_mfrggzdfmztwq2lknnwg23tpoa',
    index: 123_456,
    leafHash: randomBytes(32).toString('base64'),
    durability: 'durable',
  },
} as const;
