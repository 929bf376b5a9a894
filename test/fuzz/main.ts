/** `npm run fuzz [-- inputs [seed]]`: a million damaged inputs, the histogram of refusals, exit 1 unless all were refused. */
import { complaints, fuzz } from './fuzz.ts';

const inputs = Number(process.argv[2] ?? 1_000_000);
const seed = Number(process.argv[3] ?? Date.now() % 2 ** 32);
console.log(`seed ${seed}`);
const started = process.cpuUsage();
const report = fuzz(seed, inputs);
const { user, system } = process.cpuUsage(started);
const sum = (counts: Iterable<number>) => [...counts].reduce((total, count) => total + count, 0);

for (const [refusal, count] of [...report.refusals].sort((a, b) => b[1] - a[1])) {
  console.log(`${String(count).padStart(9)}  ${refusal}`);
}
console.log(`inputs tried            ${report.tried}`);
console.log(`accepted                ${sum(report.accepted.values())}`);
console.log(`unexpected error types  ${report.unexpected.size}`);
console.log(`past the header         ${(100 * report.pastHeader).toFixed(1)} %`);
console.log(`past the commitment     ${(100 * report.pastCommitment).toFixed(1)} %`);
console.log(`CPU time                ${((user + system) / 1e6).toFixed(0)} s`);
const wrong = complaints(report, Math.min(1000, Math.floor(inputs / 1000)));
for (const complaint of wrong) console.log(`FAILED: ${complaint}`);
process.exitCode = wrong.length === 0 ? 0 : 1;
