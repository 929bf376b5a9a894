import { expect, test } from '@jest/globals';
import { readConfig, readSignerConfig } from '../src/config.ts';

const PRODUCTION = {
  DATABASE_URL: 'postgresql://app@db.test/keytether',
  KEYTETHER_RECORD_KEYS_FILE: '/s/record-keys',
  KEYTETHER_OPERATOR_TOKEN_FILE: '/s/operator-token',
};
const KEY = { KEYTETHER_LOG_KEY_FILE: '/s/log-key' };
const FOLDER = { KEYTETHER_SIGNER_FOLDER: '/s/signer' };
const SOCKET = { KEYTETHER_SIGNER_SOCKET: '/run/signer.sock' };
const own = { keyFile: '/s/log-key', folder: '/s/signer' };

test.each([
  ['development', { KEYTETHER_FOLDER: '/k' }, { keyFile: '/k/log-key', folder: '/k/signer' }],
  [
    'development with a signer elsewhere',
    { KEYTETHER_FOLDER: '/k', ...SOCKET },
    { socket: '/run/signer.sock' },
  ],
  ['production that signs itself', { ...PRODUCTION, ...KEY, ...FOLDER }, own],
  ['production with a signer elsewhere', { ...PRODUCTION, ...SOCKET }, { socket: '/run/signer.sock' }],
  ['production that leaves it to another replica', PRODUCTION, undefined],
])('who signs in %s', (_name, env, signer) => {
  expect(readConfig(env).signer).toEqual(signer);
});

test('a key without a folder for the memory is refused by name', () => {
  expect(() => readConfig({ ...PRODUCTION, ...KEY })).toThrow('KEYTETHER_SIGNER_FOLDER');
});

test('a signer of its own needs key, folder and socket', () => {
  expect(readSignerConfig({ ...KEY, ...FOLDER, ...SOCKET })).toEqual({ ...own, socket: '/run/signer.sock' });
  expect(() => readSignerConfig({ ...KEY, ...FOLDER })).toThrow('KEYTETHER_SIGNER_SOCKET');
  expect(() => readSignerConfig({ ...FOLDER, ...SOCKET })).toThrow('KEYTETHER_LOG_KEY_FILE');
  expect(() => readSignerConfig({ ...KEY, ...SOCKET })).toThrow('KEYTETHER_SIGNER_FOLDER');
});
