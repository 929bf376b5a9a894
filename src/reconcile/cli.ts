/**
 * `npm run reconcile -- --ours FILE|FOLDER --theirs VENDOR:FILE|FOLDER … [options]`: compares an export of our log with the
 * customer's own KMS log. Exit status 0 clean, 1 findings, 2 usage or unreadable input.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { TheirLog } from './coverage.ts';
import { type Parsed, VENDORS, type Vendor } from './event.ts';
import { type Interval, readOurs } from './ours.ts';
import { type ReconcileOptions, type Reconciliation, reconcile } from './reconcile.ts';
import { momentOf } from './records.ts';
import { reportOf } from './report.ts';
import { type InputFile, summaryOf } from './summary.ts';
import { VENDOR_LOGS } from './vendors.ts';

const USAGE = `usage: npm run reconcile -- --ours FILE|FOLDER --theirs VENDOR:FILE|FOLDER … [options]
       npm run reconcile -- --demo [NAME]

  --ours            leaves of our log: one leaf's JSON text a line, or pages of GET /v1/tenants/{tenant}/log
  --theirs          their log; VENDOR is one of ${VENDORS.join(', ')}; files may be gzip
  --from, --until   judge only this time (RFC 3339, UTC)
  --ours-until      when our leaves were read; now, unless told
  --theirs-from, --theirs-until
                    what their files cover; unless told, from the first record to the last, of a log
                    that is written before each answer (vault, local) to now
  --gap FROM/UNTIL  when their logging was off or left the key out; may be repeated
  --principal NAME  who may use the key in our name, as their log writes it, a final * for any rest; may be repeated
  --lag MINUTES     how long their records may take, instead of the vendor's figure
  --json            the whole result; its "summary" is the body for POST …/log/reconciliations

Exit status: 0 clean, 1 findings, 2 usage or unreadable input.`;

const OPTIONS = {
  ours: { type: 'string', multiple: true },
  theirs: { type: 'string', multiple: true },
  from: { type: 'string' },
  until: { type: 'string' },
  'ours-until': { type: 'string' },
  'theirs-from': { type: 'string' },
  'theirs-until': { type: 'string' },
  gap: { type: 'string', multiple: true },
  principal: { type: 'string', multiple: true },
  lag: { type: 'string' },
  json: { type: 'boolean' },
  demo: { type: 'boolean' },
  help: { type: 'boolean' },
} as const;

interface File {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** Runs one command line and returns its exit status. `say` gets the text that belongs on standard output. */
export async function main(
  args: readonly string[],
  say: (text: string) => void,
  complain: (text: string) => void,
  now: number = Date.now(),
): Promise<number> {
  try {
    const { values, positionals } = parseArgs({ args: [...args], options: OPTIONS, allowPositionals: true });
    if (values.help) {
      say(USAGE);
      return 0;
    }
    if (values.demo) {
      const { runDemo } = await import('./demo.ts');
      return await runDemo(positionals[0] ?? 'local', say);
    }
    if (positionals.length > 0 || !values.ours || !values.theirs) throw new Error('say --ours and --theirs');
    const { result, inputs } = compare(values.ours, values.theirs, {
      now,
      window: windowOf(moment('from', values.from), moment('until', values.until)),
      oursUntil: moment('ours-until', values['ours-until']),
      theirsFrom: moment('theirs-from', values['theirs-from']),
      theirsUntil: moment('theirs-until', values['theirs-until']),
      gaps: (values.gap ?? []).map(gapOf),
      principals: values.principal,
      lagMs: minutes(values.lag),
    });
    say(values.json ? jsonOf(result, inputs) : reportOf(result));
    return result.clean ? 0 : 1;
  } catch (error) {
    complain(`reconcile: ${error instanceof Error ? error.message : String(error)}\n\n${USAGE}`);
    return 2;
  }
}

function compare(
  ours: readonly string[],
  theirs: readonly string[],
  options: ReconcileOptions & { theirsFrom: number | undefined; theirsUntil: number | undefined },
): { result: Reconciliation; inputs: InputFile[] } {
  const inputs: InputFile[] = [];
  const read = (side: InputFile['side'], path: string): File[] =>
    filesOf(path).map((name) => {
      const bytes = readFileSync(name);
      const sha256 = createHash('sha256').update(bytes).digest('base64');
      inputs.push({ side, sha256, bytes: bytes.length });
      return { name, bytes };
    });
  const ourLog = named('--ours', () => readOurs(ours.flatMap((path) => read('ours', path))));
  const parsed = theirs.flatMap((argument) => {
    const [vendor, path] = vendorOf(argument);
    return read('theirs', path).map(({ name, bytes }) => ({
      vendor,
      parsed: named(name, () => VENDOR_LOGS[vendor].parse(name, bytes)),
    }));
  });
  const logs = [...Map.groupBy(parsed, ({ vendor }) => vendor)].map(([vendor, files]): TheirLog => {
    const all = <Field extends 'events' | 'logging'>(field: Field): Parsed[Field][number][] =>
      files.flatMap((file) => [...file.parsed[field]]);
    const stated = { from: options.theirsFrom, until: options.theirsUntil };
    return { log: VENDOR_LOGS[vendor], events: all('events'), logging: all('logging'), ...stated };
  });
  const malformed = parsed.flatMap((file) => file.parsed.malformed);
  return { result: reconcile(ourLog, logs, malformed, options), inputs };
}

/** A file, or the files of a folder and those below it, by name. */
function filesOf(path: string): string[] {
  if (!statSync(path).isDirectory()) return [path];
  const files = readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
  if (files.length === 0) throw new Error(`${path}: holds no file`);
  return files;
}

function vendorOf(argument: string): [Vendor, string] {
  const colon = argument.indexOf(':');
  const vendor = VENDORS.find((name) => name === argument.slice(0, colon));
  if (vendor === undefined || colon === argument.length - 1)
    throw new Error(`--theirs ${argument}: say VENDOR:FILE, with VENDOR one of ${VENDORS.join(', ')}`);
  return [vendor, argument.slice(colon + 1)];
}

function moment(option: string, text: string | undefined): number | undefined {
  const at = text === undefined ? undefined : momentOf(text);
  if (text !== undefined && at === undefined)
    throw new Error(`--${option} ${text}: not a time such as 2026-01-02T03:04:05Z`);
  return at;
}

function windowOf(from: number | undefined, until: number | undefined): ReconcileOptions['window'] {
  if (from === undefined && until === undefined) return undefined;
  return { from: from ?? Number.NEGATIVE_INFINITY, until: until ?? Number.POSITIVE_INFINITY };
}

function gapOf(text: string): Interval {
  const [first, last, ...rest] = text.split('/').map((part) => moment('gap', part));
  if (first === undefined || last === undefined || rest.length > 0 || first > last)
    throw new Error(`--gap ${text}: say FROM/UNTIL`);
  return { from: first, until: last, reason: 'stated: their logging was off' };
}

function minutes(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (!/^\d{1,6}$/.test(text)) throw new Error(`--lag ${text}: say whole minutes`);
  return Number(text) * 60_000;
}

function named<T>(name: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw new Error(`${name} ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

function jsonOf(result: Reconciliation, inputs: readonly InputFile[]): string {
  const coverage = result.coverage.map(({ log, ...rest }) => ({ vendor: log.vendor, ...rest }));
  const summary = summaryOf(result, inputs) ?? null;
  return JSON.stringify({ ...result, coverage, summary }, null, 2);
}

if (import.meta.main) {
  process.exitCode = await main(
    process.argv.slice(2),
    (text) => void process.stdout.write(`${text}\n`),
    (text) => void process.stderr.write(`${text}\n`),
  );
}
