/** The report: ratios first, then every run, then what the figures leave out. Plain text, at most 80 rows. */
import { LOAD, type Row } from './row.ts';

export interface Ratio {
  readonly name: string;
  /** Undefined where one side was not measured. */
  readonly value: number | undefined;
  /** What was promised of it, where something was. */
  readonly atLeast?: number;
  /** True when others were using the machine during one of the two runs. */
  readonly disturbed: boolean;
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

function isDisturbed(row: Row): boolean {
  return row.othersCores > DISTURBED_CORES;
}

function ratio(
  name: string,
  a: Row | undefined,
  b: Row | undefined,
  of: (row: Row) => number | undefined,
): Ratio {
  const above = a && of(a);
  const below = b && of(b);
  return {
    name,
    value: above === undefined || !below ? undefined : above / below,
    disturbed: [a, b].some((row) => row !== undefined && isDisturbed(row)),
  };
}

/** How many times the items per second of `b` are done in `a`. */
export function rateRatio(name: string, a: Row | undefined, b: Row | undefined): Ratio {
  return ratio(name, a, b, (row) => row.load.perSecond * row.itemsPerRequest);
}

/** How many times the CPU for one item of `b` is spent in `a`, the load generator left out. */
export function cpuRatio(name: string, a: Row | undefined, b: Row | undefined): Ratio {
  return ratio(name, a, b, (row) => {
    const costs = Object.entries(row.cpu).filter(([process]) => process !== LOAD);
    if (costs.length === 0) return undefined;
    return costs.reduce((sum, [, cost]) => sum + cost, 0) / row.itemsPerRequest;
  });
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
  return [...names].sort((a, b) => Number(a === LOAD) - Number(b === LOAD));
}

function cells(row: Row, processes: readonly string[]): string[] {
  const { load } = row;
  const failed = load.errorCount + load.unanswered;
  return [
    `${row.name}${isDisturbed(row) ? ' *' : ''}`,
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

function verdict({ value, atLeast }: Ratio): string {
  if (atLeast === undefined) return '';
  const target = `target at least ${atLeast} ×`;
  return value === undefined ? `${target}: not measured` : `${target}: ${value < atLeast ? 'MISSED' : 'met'}`;
}

/** A ratio with a target, which the report says was met or missed. */
export function target(atLeast: number, ratio: Ratio): Ratio {
  return { ...ratio, atLeast };
}

/** The whole report as text, ending with a line break. */
export function render(report: Report): string {
  const processes = processesOf(report.rows);
  const header = ['', 'connections', 'per s', 'p50 ms', 'p99 ms', 'errors', 'KMS calls/s'];
  const ratios = report.ratios.map((ratio) => [
    `  ${ratio.name}${ratio.disturbed ? ' *' : ''}`,
    ratio.value === undefined ? 'not measured' : `${short(ratio.value)} ×`,
    verdict(ratio),
  ]);
  const table = align([
    [...header, ...processes.map((name) => `CPU ${name}`)],
    ...report.rows.map((row) => cells(row, processes)),
  ]);
  const disturbed = report.rows.filter(isDisturbed);
  const most = Math.max(0, ...disturbed.map((row) => row.othersCores));
  const notes =
    disturbed.length === 0
      ? []
      : [`* others kept up to ${most.toFixed(1)} processors busy meanwhile; trust CPU more than rates.`];
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
