/**
 * `npm run test:kill [-- --kills 200 --control-kills 8 --seed N --no-controls]`: kills the service, PostgreSQL or both again and
 * again while clients encrypt and decrypt, then holds every answer that was released against the log. Exit 1 on any violation,
 * and when a planted fault is not found.
 */
import { parseArgs } from 'node:util';
import { COMMITS_DO_NOT_WAIT, GATE_ALONE, GATE_AND_SEAL, plant } from './controls.ts';
import { type RunOptions, type RunReport, run, type Victim } from './run.ts';

const ALL: readonly Victim[] = ['service', 'postgres', 'both'];
/** How often a control that finds nothing is run again. */
const CONTROL_TRIES = 3;
const GATE_ALONE_MS = 1_500;

const { values } = parseArgs({
  options: {
    kills: { type: 'string', default: '200' },
    'control-kills': { type: 'string', default: '8' },
    seed: { type: 'string', default: String(Date.now() % 2 ** 32) },
    controls: { type: 'boolean', default: true },
  },
  allowNegative: true,
});
const kills = atLeast('kills', 1);
const controlKills = atLeast('control-kills', 1);
const seed = atLeast('seed', 0);
const say = (line: string) => void process.stdout.write(`${line}\n`);
const line = (name: string, value: string | number) => say(`${name.padEnd(36)} ${value}`);

function atLeast(name: 'kills' | 'control-kills' | 'seed', least: number): number {
  const number = Number(values[name]);
  if (!Number.isInteger(number) || number < least)
    throw new Error(`--${name}: a whole number from ${least} on`);
  return number;
}

function violations(report: RunReport): string[] {
  const { findings, kills: by } = report;
  const all = by.service + by.postgres + by.both;
  return [
    ...(findings.released === 0 ? ['nothing was released'] : []),
    ...(findings.lost > 0 ? ['records are lost'] : []),
    ...(findings.withoutRecord > 0 ? ['answers were released without a record'] : []),
    ...(findings.treeErrors > 0 ? ['a tree is wrong'] : []),
    ...(findings.allowedTwice > 0 ? ['a request is allowed by two records'] : []),
    ...(report.inWindow * 2 < all ? ['fewer than half of the kills fell between KMS answer and reveal'] : []),
    ...(report.hung > 0 ? ['requests hung past their deadline'] : []),
    ...(report.unexplained > 0 ? ['answers that no kill explains'] : []),
    ...(report.different > 0 ? ['a decrypt gave something else than was encrypted'] : []),
    ...(report.unopened > 0 ? ['released envelopes do not open'] : []),
    ...report.ended,
  ];
}

function show(report: RunReport): void {
  const { findings, kills: by } = report;
  const all = by.service + by.postgres + by.both;
  const share = all === 0 ? 0 : (100 * report.inWindow) / all;
  for (const [answer, times] of [...report.answers].sort((a, b) => b[1] - a[1])) line(`  ${answer}`, times);
  line('longest request', `${report.longestMs.toFixed(0)} ms`);
  line('requests past their deadline', report.hung);
  line('answers that no kill explains', report.unexplained);
  line('decrypts of something else', report.different);
  line('released envelopes that open', `${report.opened} of ${report.opened + report.unopened}`);
  line('leaves', findings.leaves);
  line('duration', `${report.seconds.toFixed(0)} s, ${report.cycleMs.toFixed(0)} ms from kill to kill`);
  say('');
  line('kills', `${all} (service ${by.service}, PostgreSQL ${by.postgres}, both ${by.both})`);
  line('between KMS answer and reveal', `${report.inWindow} (${share.toFixed(0)} %)`);
  line('released', findings.released);
  line('lost records', findings.lost);
  line('released without record', findings.withoutRecord);
  line('tree errors', findings.treeErrors);
  line('over-reported', `${findings.overReported} (${findings.overReportedAndSaid} of them the log says so)`);
  for (const example of findings.examples) say(`  ${example}`);
}

/** Losses that a planted fault brings about; tries again a few times when there are none. */
async function control(
  name: string,
  fault: Partial<RunOptions>,
  losses: (report: RunReport) => number,
): Promise<number> {
  let [found, tries, killed] = [0, 0, 0];
  while (found === 0 && tries < CONTROL_TRIES) {
    const report = await run({
      kills: controlKills,
      seed: seed + tries,
      victims: ALL,
      verify: false,
      ...fault,
    });
    found += losses(report);
    killed += controlKills;
    tries += 1;
  }
  line(`control: ${name}`, `${found} lost in ${killed} kills`);
  return found;
}

async function controls(): Promise<string[]> {
  const wrong: string[] = [];
  const missing = (report: RunReport) => report.findings.withoutRecord;
  const late = await control(
    'commits that do not wait',
    { victims: ['postgres', 'both'], sabotage: COMMITS_DO_NOT_WAIT },
    missing,
  );
  if (late === 0) wrong.push('commits that do not wait for the disk were not found');
  const alone = plant(GATE_ALONE);
  const mutant = plant(GATE_AND_SEAL);
  try {
    const quiet = { kills: 0, seed, victims: [], verify: false };
    const sealed = await run({ ...quiet, tree: alone.tree, trafficMs: GATE_ALONE_MS });
    const refused = sealed.answers.get('500 INTERNAL') ?? 0;
    line('the same fault in the gate alone', `${sealed.findings.released} released, ${refused} failed`);
    if (refused === 0) wrong.push('the fault in the gate alone was not reached');
    if (sealed.findings.released > 0) wrong.push('a sealed value opened without the proof of the log');
    const first = await control(
      'reveal before the commit',
      { victims: ['service', 'both'], tree: mutant.tree },
      missing,
    );
    if (first === 0) wrong.push('a reveal before the commit was not found');
  } finally {
    alone.remove();
    mutant.remove();
  }
  return wrong;
}

async function main(): Promise<void> {
  say(`seed ${seed}`);
  const report = await run({ kills, seed, victims: ALL, verify: true, say });
  show(report);
  const wrong = violations(report);
  if (values.controls) wrong.push(...(await controls()));
  for (const each of wrong) say(`FAILED: ${each}`);
  process.exitCode = wrong.length === 0 ? 0 : 1;
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));
await main();
