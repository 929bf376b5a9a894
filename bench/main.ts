/** `npm run bench`: measures and prints one table. Everything runs on this machine, on loopback. */
import { availableParallelism, cpus, release } from 'node:os';
import { floorRow, type Pace } from './floor-row.ts';
import { fastest, type Row } from './row.ts';
import { cpuRatio, type Ratio, rateRatio, render } from './table.ts';
import { vaultRows } from './vault.ts';

const PACE: Pace = { warmupMs: 1_500, durationMs: 4_000 };
const CONNECTIONS = [16, 64, 256, 1000] as const;

const EXCLUDED = [
  'TLS, and any network: client and servers share the processors of one machine over loopback.',
  'Queueing before a request is sent: each connection waits for its answer before it asks again (closed loop).',
  'Vault: no fsync of its audit file, and no call to anybody else: its key is in its own memory.',
  'Floors: no authorization, no cryptography, no KMS, no log.',
] as const;

async function floors(): Promise<{ rows: readonly Row[]; ratios: readonly Ratio[] }> {
  const rows: Row[] = [];
  for (const connections of CONNECTIONS) {
    rows.push(await floorRow('bare node:http, same answer', 'http', connections, PACE));
    rows.push(await floorRow('Express 5, same answer', 'express', connections, PACE));
  }
  const bare = rows.filter((row) => row.name.startsWith('bare'));
  const express = rows.filter((row) => row.name.startsWith('Express'));
  const ratios = [
    rateRatio('Express / bare http, answers per second', fastest(express), fastest(bare)),
    cpuRatio('Express / bare http, CPU', fastest(express), fastest(bare)),
  ];
  return { rows, ratios };
}

async function main(): Promise<void> {
  const floor = await floors();
  const vault = await vaultRows(CONNECTIONS, PACE);
  const peers = 'rows' in vault ? vault.rows : [];
  const best = peers.length === 0 ? undefined : fastest(peers);
  const express = floor.rows.filter((row) => row.name.startsWith('Express'));
  process.stdout.write(
    render({
      heading: [
        `Keytether benchmark, ${new Date().toISOString().slice(0, 10)}`,
        `${availableParallelism()} × ${cpus()[0]?.model ?? 'unknown processor'}, ${process.platform} ${release()}, Node ${process.version}`,
      ],
      ratios: [
        ...floor.ratios,
        rateRatio('Vault / Express floor, answers per second', best, fastest(express)),
        cpuRatio('Vault / Express floor, CPU', best, fastest(express)),
      ],
      rows: [...floor.rows, ...peers],
      skipped: 'skipped' in vault ? [`Vault transit decrypt: ${vault.skipped}`] : [],
      excluded: EXCLUDED,
    }),
  );
}

await main();
