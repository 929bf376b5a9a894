/** Rules that no compiler checks: who may import what, and that the pages say what the code does. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { SETTINGS } from '../src/config.ts';
import { ERRORS } from '../src/errors.ts';

interface Module {
  readonly name: string;
  readonly text: string;
  /** What it imports, types included: paths from the top of the tree, or names of packages. */
  readonly imports: readonly string[];
}

const IMPORT = /(?:\bfrom |\bimport\()'([^']+)'/g;

function modulesOf(folder: string): Module[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.m?[tj]s$/.test(name))
    .map((file) => {
      const name = join(folder, file);
      const text = readFileSync(name, 'utf8');
      const imports = [...text.matchAll(IMPORT)].map(([, from = '']) =>
        from.startsWith('.') ? normalize(join(dirname(name), from)) : from,
      );
      return { name, text, imports };
    });
}

const src = modulesOf('src');
const adapters = modulesOf('adapters');
const shipped = [...src, ...adapters];
const core = src.filter(({ name }) => name.startsWith('src/crypto/'));
const readme = readFileSync('README.md', 'utf8');

/** The folder below `src`, or the file where it lies in `src` itself. */
function partOf(path: string): string {
  const [, part = ''] = path.split('/');
  return part;
}

/** A part may import itself and what stands above it here. Whatever is in no row stands below all others. */
const ROWS: readonly (readonly string[])[] = [
  ['receipt.ts'],
  ['brand.ts', 'errors.ts', 'secret-bytes.ts'],
  ['crypto', 'reconcile'],
  ['kms', 'store'],
  ['audit'],
  ['keyring'],
  ['service'],
  ['http'],
];
const TOP = [
  'config.ts',
  'journal.ts',
  'api-client.ts',
  'onboard.ts',
  'tour.ts',
  'assemble.ts',
  'workers.ts',
  'main.ts',
];

/** Programs inside a part that put things together like `main.ts`. */
const PROGRAMS = ['src/reconcile/demo.ts'];

function rowOf(part: string): number {
  const row = ROWS.findIndex((parts) => parts.includes(part));
  return row === -1 ? ROWS.length : row;
}

describe('imports', () => {
  test('the parts of src are those that the rules know', () => {
    const parts = new Set(src.map(({ name }) => partOf(name)));
    parts.delete('start.mjs');
    expect([...parts].sort()).toEqual([...ROWS.flat(), ...TOP].sort());
  });

  test('go from a part to itself and to parts below it', () => {
    const parts = src.filter(({ name }) => !PROGRAMS.includes(name));
    const wrong = parts.flatMap(({ name, imports }) =>
      imports
        .filter((to) => to.startsWith('src/') && partOf(to) !== partOf(name))
        .filter((to) => rowOf(partOf(name)) < ROWS.length && rowOf(partOf(to)) >= rowOf(partOf(name)))
        .map((to) => `${name} → ${to}`),
    );
    expect(wrong).toEqual([]);
  });

  test('of adapters by src: only where the program is put together', () => {
    const found = src.filter(({ imports }) => imports.some((to) => to.startsWith('adapters/')));
    expect(found.map(({ name }) => name).sort()).toEqual(['src/assemble.ts', 'src/main.ts', ...PROGRAMS]);
  });

  test('of src by adapters: the driver contract and what it needs', () => {
    const allowed = ['kms/driver.ts', 'kms/context.ts', 'errors.ts', 'secret-bytes.ts', 'brand.ts'];
    const wrong = adapters.flatMap(({ name, imports }) =>
      imports
        .filter((to) => to.startsWith('src/') && !allowed.includes(to.slice('src/'.length)))
        .map((to) => `${name} → ${to}`),
    );
    expect(wrong).toEqual([]);
  });

  test.each([
    ['express', /^express$/, /^src\/http\//],
    ['pg', /^pg$/, /^src\/store\//],
    ['PGlite', /^@electric-sql\//, /^src\/store\//],
    ["a vendor's SDK", /^(@aws-sdk|@smithy|@google-cloud|@azure|node-vault)/, /^adapters\//],
    ['node:http', /^node:https?$/, /^(src\/http\/|adapters\/|src\/audit\/signer-process\.ts$)/],
    ['node:child_process', /^node:child_process$/, /^$/],
  ])('of %s stay in one place', (_, what, where) => {
    const wrong = shipped.filter(
      ({ name, imports }) => imports.some((to) => what.test(to)) && !where.test(name),
    );
    expect(wrong.map(({ name }) => name)).toEqual([]);
  });
});

describe('one place for', () => {
  test.each([
    ['the environment', /\bprocess\.env\b/, ['src/main.ts']],
    ['calls to other services by fetch', /(?<![.\w])fetch\((?!\))/, ['src/api-client.ts']],
    [
      'proofs that a record is durable',
      /\bdurableRecord\b/,
      ['src/audit/sealed.ts', 'src/audit/usage-log.ts'],
    ],
    ['sealing with a given salt', /\b(sealForVectors|wrapDataKeyForVectors)\b/, ['src/crypto/message.ts']],
  ])('%s', (_, what, where) => {
    expect(shipped.filter(({ text }) => what.test(text)).map(({ name }) => name)).toEqual(where);
  });
});

describe('the crypto core', () => {
  test('imports node:crypto, the brand, the errors and itself, and nothing else', () => {
    expect(core.length).toBeGreaterThan(10);
    const allowed = /^(node:crypto|src\/(brand|errors)\.ts|src\/crypto\/[a-z-]+\.ts)$/;
    const wrong = core.flatMap(({ name, imports }) =>
      imports.filter((to) => !allowed.test(to)).map((to) => `${name} → ${to}`),
    );
    expect(wrong).toEqual([]);
  });

  test.each([
    ['a clock, input or output', /\b(Date|performance|process|console|setTimeout|import\()\b/],
    [
      'anything that is known to leave copies of keys',
      /\b(hkdfSync|createSecretKey|KeyObject\(|Buffer\.concat|Buffer\.alloc\b)/,
    ],
  ])('is free of %s', (_, what) => {
    const wrong = core.map(({ name, text }) => [name, what.exec(text)?.[0]]).filter(([, found]) => found);
    expect(wrong).toEqual([]);
  });
});

/** The cells of every row of the README's table whose first cell is in code style. */
function tableAfter(heading: string): string[][] {
  const [, section = ''] = readme.split(`\n### ${heading}\n`);
  return (section.split(/\n#/)[0] ?? '')
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
}

describe('the README', () => {
  test('lists every error of the table as it is, and no other', () => {
    const expected = Object.entries(ERRORS).map(([code, { status, retryable, fault, title }]) => [
      `\`${code}\``,
      String(status),
      retryable ? 'yes' : 'no',
      fault,
      title,
    ]);
    expect(tableAfter('Errors').sort()).toEqual(expected.sort());
  });

  test('explains every setting, and no other', () => {
    const names = tableAfter('Settings').map(([name = '']) => name.replaceAll('`', ''));
    expect(names.sort()).toEqual([...SETTINGS].sort());
  });

  test('names scripts that exist', () => {
    const { scripts } = JSON.parse(readFileSync('package.json', 'utf8')) as { scripts: object };
    const named = [...readme.matchAll(/npm run ([a-z][a-z:]*)/g)].map(([, script = '']) => script);
    expect(named.filter((script) => !Object.hasOwn(scripts, script))).toEqual([]);
  });

  test('gives every promise a proof', () => {
    const [, section = ''] = readme.split('\n## Promises\n');
    const rows = (section.split('\n## ')[0] ?? '').split('\n').filter((line) => line.startsWith('| **'));
    expect(rows).toHaveLength(8);
    for (const row of rows) expect(row).toMatch(/\]\(test\/[^)]+\)/);
  });

  test.each([
    'README.md',
    'adapters/README.md',
    'src/DESIGN.md',
    '.github/SECURITY.md',
    '.github/CONTRIBUTING.md',
  ])('%s links to files that exist', (page) => {
    const links = [...readFileSync(page, 'utf8').matchAll(/\]\((?!https?:|#)([^)#]+)/g)];
    const missing = links.filter(([, to = '']) => !existsSync(join(dirname(page), to)));
    expect(missing.map(([, to]) => to)).toEqual([]);
  });
});

test('src/DESIGN.md gives every dependency a reason', () => {
  const { dependencies, devDependencies, optionalDependencies } = JSON.parse(
    readFileSync('package.json', 'utf8'),
  ) as Record<string, Record<string, string>>;
  const page = readFileSync('src/DESIGN.md', 'utf8');
  const names = Object.keys({ ...dependencies, ...devDependencies, ...optionalDependencies });
  expect(names.filter((name) => !page.includes(`\`${name}\``))).toEqual([]);
});

test('versions of dependencies are exact, and the lock file has every platform’s packages', () => {
  const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8')) as {
    packages: Record<string, Record<string, Record<string, string>>>;
  };
  const root = packages[''];
  const ranges = Object.values({
    ...root?.dependencies,
    ...root?.devDependencies,
    ...root?.optionalDependencies,
  }).filter((version) => !/^\d+\.\d+\.\d+(-[\w.]+)?$/.test(version));
  expect(ranges).toEqual([]);
  const missing = Object.entries(packages).flatMap(([path, { optionalDependencies = {} }]) =>
    Object.keys(optionalDependencies).filter(
      (name) =>
        packages[`node_modules/${name}`] === undefined &&
        packages[`${path}/node_modules/${name}`] === undefined,
    ),
  );
  expect(missing).toEqual([]);
});

describe('tracked files', () => {
  const tracked = execFileSync('git', ['ls-files', '-z'], { encoding: 'utf8' })
    .split('\0')
    .filter((name) => name !== '' && existsSync(name));

  test('have names that say what is in them', () => {
    expect(
      tracked.filter((name) => /(^|[/.-])(utils?|helpers?|common|managers?)([/.-]|$)/i.test(name)),
    ).toEqual([]);
  });

  test('name no path of one machine', () => {
    const path = new RegExp(`(^|[\\s"'\`(=])/(${['work', 'root', 'home'].join('|')}|tmp/h)/`, 'm');
    const wrong = tracked
      .filter((name) => !name.startsWith('test/vectors/'))
      .filter((name) => path.test(readFileSync(name, 'utf8')));
    expect(wrong).toEqual([]);
  });
});
