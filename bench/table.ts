/** The report: ratios first, then every run, then what the figures leave out. Plain text, at most 80 rows. */
import type { Row } from './row.ts';

export interface Ratio {
  readonly name: string;
  /** Undefined where one side was not measured. */
  readonly value: number | undefined;
}

export interface Report {
  /** One line each: machine, runtime, date. */
  readonly heading: readonly string[];
  readonly ratios: readonly Ratio[];
  readonly rows: readonly Row[];
  /** What was not run, by name and with the reason. */
  readonly skipped: readonly string[];
  /** What the figures do not include. */
  readonly excluded: readonly string[];
}

/** Above this share of one processor a run was disturbed, and its row says so. */
const DISTURBED_CORES = 0.15;

/** `a / b`, for work done in a second or for CPU; undefined where either is missing or zero. */
export function ratio(name: string, a: number | undefined, b: number | undefined): Ratio {
  return { name, value: a === undefined || b === undefined || b === 0 ? undefined : a / b };
}

function whole(value: number): string {
  return Math.round(value)
    .toString()
    .replace(/\B(?=(\d{3})+$)/g, ',');
}

function short(value: number): string {
  return value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : whole(value);
}

/** Pads each column to its widest cell: the first to the right of its text, the others to the left. */
function align(lines: readonly (readonly string[])[]): string[] {
  const widths: number[] = [];
  for (const line of lines) {
    for (const [i, cell] of line.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length);
  }
  return lines.map((line) =>
    line
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)))
      .join('  ')
      .trimEnd(),
  );
}

/** Processes in the order in which rows first name them, the load generator last. */
function processesOf(rows: readonly Row[]): string[] {
  const names = new Set(rows.flatMap((row) => Object.keys(row.cpu)));
  return [...names].sort((a, b) => Number(a === 'load') - Number(b === 'load'));
}

function cells(row: Row, processes: readonly string[]): string[] {
  const { load } = row;
  const failed = load.errorCount + load.unanswered;
  return [
    `${row.name}${row.othersCores > DISTURBED_CORES ? ' *' : ''}`,
    whole(load.connections),
    whole(load.perSecond * row.itemsPerRequest),
    short(load.p50Ms),
    short(load.p99Ms),
    failed === 0 ? '0' : whole(failed),
    row.kmsCallsPerSecond === undefined ? '' : whole(row.kmsCallsPerSecond),
    ...processes.map((name) => (row.cpu[name] === undefined ? '' : short(row.cpu[name]))),
  ];
}

function failures(row: Row): string[] {
  const { errors, unanswered, reconnects } = row.load;
  const parts = Object.entries(errors).map(([what, count]) => `${what} × ${whole(count)}`);
  if (unanswered > 0) parts.push(`no answer × ${whole(unanswered)}`);
  if (reconnects > 0) parts.push(`reconnects × ${whole(reconnects)}`);
  return parts.length === 0 ? [] : [`  ${row.name}: ${parts.join(', ')}`];
}

function section(title: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : ['', title, ...lines];
}

/** The whole report as text, ending with a line break. */
export function render(report: Report): string {
  const processes = processesOf(report.rows);
  const header = ['', 'connections', 'per s', 'p50 ms', 'p99 ms', 'errors', 'KMS calls/s'];
  const ratios = report.ratios.map(({ name, value }) => [
    `  ${name}`,
    value === undefined ? 'not measured' : `${short(value)} ×`,
  ]);
  const table = align([
    [...header, ...processes.map((name) => `CPU ${name}`)],
    ...report.rows.map((row) => cells(row, processes)),
  ]);
  const disturbed = report.rows.filter((row) => row.othersCores > DISTURBED_CORES);
  const most = Math.max(0, ...disturbed.map((row) => row.othersCores));
  const notes =
    disturbed.length === 0
      ? []
      : [
          `* others kept up to ${most.toFixed(1)} processors busy meanwhile; trust the CPU columns more than the rates.`,
        ];
  return [
    ...report.heading,
    ...section('Ratios', align(ratios)),
    ...section('Runs (CPU in milliseconds for 1,000 requests)', [...table, ...notes]),
    ...section('Errors', report.rows.flatMap(failures)),
    ...section(
      'Not run',
      report.skipped.map((line) => `  ${line}`),
    ),
    ...section(
      'Not included',
      report.excluded.map((line) => `  ${line}`),
    ),
    '',
  ].join('\n');
}
