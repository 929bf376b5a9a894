/** `npm run bench [-- --short]`: measures and prints one table. Everything runs on this machine, on loopback. */
import { availableParallelism, cpus, release } from 'node:os';
import { parseArgs } from 'node:util';
import { floorRow, type Pace } from './floor-row.ts';
import { fastest, type Row } from './row.ts';
import { CALLS_PER_SECOND, type ServiceRows, serviceRows } from './service-rows.ts';
import { cpuRatio, type Ratio, rateRatio, render, target } from './table.ts';
import { vaultRows } from './vault.ts';

interface Scale {
  readonly pace: Pace;
  readonly tenants: number;
  readonly connections: readonly number[];
  readonly vaultConnections: readonly number[];
}

const FULL: Scale = {
  pace: { warmupMs: 4_000, durationMs: 4_000 },
  tenants: 1_000,
  connections: [64, 256, 1_000, 2_000],
  vaultConnections: [16, 64, 256, 1_000],
};
const SHORT: Scale = {
  pace: { warmupMs: 1_000, durationMs: 2_000 },
  tenants: 50,
  connections: [1_000],
  vaultConnections: [64],
};

const EXCLUDED = [
  'TLS, and any network: client and servers share the processors of one machine over loopback.',
  'Queueing before a request is sent: each connection waits for its answer before it asks again (closed loop).',
  `KMS: an AWS KMS of our own on loopback, 20 ms for each call, ${CALLS_PER_SECOND} calls/s for each customer's key.`,
  'Vault: no fsync of its audit file, and no call to anybody else: its key is in its own memory.',
  'Floors: no authorization, no cryptography, no KMS, no log; seven headers fewer in the answer.',
] as const;

interface Floors {
  readonly bare: readonly Row[];
  readonly express: readonly Row[];
}

async function floorRows({ connections, pace }: Scale): Promise<Floors> {
  const bare: Row[] = [];
  const express: Row[] = [];
  for (const each of connections) {
    bare.push(await floorRow('bare node:http, same body and answer', 'http', each, pace));
    express.push(await floorRow('Express 5, same body and answer', 'express', each, pace));
  }
  return { bare, express };
}

/** The targets first, then what puts them into proportion. */
function ratiosOf(floors: Floors, ours: ServiceRows, vault: readonly Row[]): readonly Ratio[] {
  const one = fastest(ours.one);
  const ten = fastest(ours.ten);
  const peer = vault.length === 0 ? undefined : fastest(vault);
  const sameConnections = (row: Row): Row | undefined =>
    floors.express.find(({ load }) => load.connections === row.load.connections);
  const oneCallEach = {
    name: `decrypt, 1 tenant / all that ${CALLS_PER_SECOND} KMS calls/s allow with a call for each`,
    value: one.load.perSecond / CALLS_PER_SECOND,
    disturbed: false,
  };
  return [
    target(1, rateRatio('decrypt, 1 tenant / Vault transit, best of each', one, peer)),
    target(1, rateRatio('decrypt, 10 tenants / Vault transit, best of each', ten, peer)),
    target(15, rateRatio('decrypt, 1 tenant / the same with a KMS call for each', one, ours.perUse)),
    target(15, oneCallEach),
    target(0.5, rateRatio('decrypt, 1 tenant / Express, same connections', one, sameConnections(one))),
    target(0.5, rateRatio('decrypt, 10 tenants / Express, same connections', ten, sameConnections(ten))),
    target(4, rateRatio('batch items / single decrypts, 1 tenant', ours.batch, one)),
    cpuRatio('CPU of a batch item / of a single decrypt', ours.batch, one),
    cpuRatio('CPU of a decrypt, 1 tenant / Vault', one, peer),
    cpuRatio('CPU of a decrypt, 1 tenant / Express', one, sameConnections(one)),
    rateRatio('Express / bare http', fastest(floors.express), fastest(floors.bare)),
  ];
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { short: { type: 'boolean', default: false } } });
  const scale = values.short ? SHORT : FULL;
  const started = performance.now();
  const floors = await floorRows(scale);
  const vault = await vaultRows(scale.vaultConnections, scale.pace);
  const peers = 'rows' in vault ? vault.rows : [];
  const ours = await serviceRows(scale);
  const { one, ten, many, shared, perUse, encrypt, batch } = ours;
  const seconds = Math.round((performance.now() - started) / 1000);
  process.stdout.write(
    render({
      heading: [
        `Keytether benchmark, ${new Date().toISOString().slice(0, 10)}, ${seconds} s${values.short ? ', short' : ''}`,
        `${availableParallelism()} × ${cpus()[0]?.model ?? 'unknown processor'}, ${process.platform} ${release()}, Node ${process.version}`,
      ],
      ratios: ratiosOf(floors, ours, peers),
      rows: [
        ...one,
        ...ten,
        many,
        shared,
        perUse,
        encrypt,
        batch,
        ...floors.express,
        ...floors.bare,
        ...peers,
      ],
      skipped: 'skipped' in vault ? [`Vault transit decrypt: ${vault.skipped}`] : [],
      excluded: EXCLUDED,
    }),
  );
}

await main();
