import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from '@jest/globals';
import { readConfig, readMigrateUrl } from '../src/config.ts';

const folder = mkdtempSync(join(tmpdir(), 'keytether-config-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const PLAIN = 'postgresql://service@db.internal/keytether';
const WITH_PASSWORD = 'postgresql://service:hunter2@db.internal/keytether';
const file = join(folder, 'database-url');
writeFileSync(file, `${WITH_PASSWORD}\n`);
const SECRETS = { KEYTETHER_RECORD_KEYS_FILE: '/run/a', KEYTETHER_OPERATOR_TOKEN_FILE: '/run/b' };

function refusal(read: () => unknown): string {
  try {
    read();
  } catch (error) {
    return (error as Error).message;
  }
  return 'accepted';
}

describe('without a database address', () => {
  test('it is development: the embedded engine, on the loopback address', () => {
    const config = readConfig({});
    expect(config).toMatchObject({
      production: false,
      databaseUrl: undefined,
      host: '127.0.0.1',
      port: 8700,
    });
  });

  test('development listens nowhere else', () => {
    expect(refusal(() => readConfig({ KEYTETHER_HOST: '0.0.0.0' }))).toMatch(/^KEYTETHER_HOST: /);
  });

  test('production is refused', () => {
    expect(refusal(() => readConfig({ KEYTETHER_MODE: 'production', ...SECRETS }))).toMatch(
      /^DATABASE_URL: /,
    );
  });
});

describe('with a database address', () => {
  test('it is production', () => {
    expect(readConfig({ DATABASE_URL: PLAIN, ...SECRETS })).toMatchObject({
      production: true,
      databaseUrl: PLAIN,
      host: '0.0.0.0',
    });
  });

  test('production takes a password from a file and never from the environment', () => {
    expect(readConfig({ DATABASE_URL_FILE: file, ...SECRETS }).databaseUrl).toBe(WITH_PASSWORD);
    const refused = refusal(() => readConfig({ DATABASE_URL: WITH_PASSWORD, ...SECRETS }));
    expect(refused).toMatch(/^DATABASE_URL: .*DATABASE_URL_FILE/);
    expect(refused).not.toContain('hunter2');
  });

  test.each(['KEYTETHER_RECORD_KEYS_FILE', 'KEYTETHER_OPERATOR_TOKEN_FILE'] as const)(
    'production without %s is refused',
    (name) => {
      const { [name]: _, ...rest } = SECRETS;
      expect(refusal(() => readConfig({ DATABASE_URL: PLAIN, ...rest }))).toMatch(new RegExp(`^${name}: `));
    },
  );

  test('production refuses NODE_OPTIONS', () => {
    const env = { DATABASE_URL: PLAIN, ...SECRETS, NODE_OPTIONS: '--inspect' };
    expect(refusal(() => readConfig(env))).toMatch(/^NODE_OPTIONS: /);
  });
});

describe('migrating', () => {
  test('needs the address of the owner and nothing else, in production too', () => {
    expect(readMigrateUrl({ KEYTETHER_MODE: 'production', MIGRATE_DATABASE_URL_FILE: file })).toBe(
      WITH_PASSWORD,
    );
  });

  test('falls back to the address of the service', () => {
    expect(readMigrateUrl({ DATABASE_URL: PLAIN })).toBe(PLAIN);
  });

  test('without any address is refused', () => {
    expect(refusal(() => readMigrateUrl({}))).toMatch(/^MIGRATE_DATABASE_URL: /);
  });
});

test('a value out of range is refused by the name of its setting', () => {
  expect(refusal(() => readConfig({ KEYTETHER_PORT: '70000' }))).toMatch(/^KEYTETHER_PORT: /);
});
