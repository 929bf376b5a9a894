/**
 * Runs the search over all scenarios (`node explore.ts shipped`; `long` for those that take minutes) or over all mutants (`node explore.ts mutants`) and prints
 * one JSON line for each. A process of its own, because the search is several times faster outside a test runner.
 */
import { Gate } from '../../src/keyring/gate.ts';
import { explore, type GateClass, type Scenario } from './explorer.ts';
import { MUTANTS } from './gate-mutants.ts';
import { mutateGate } from './mutate.ts';

const SCENARIOS: readonly Scenario[] = [
  {
    name: 'two requests, one slot',
    requests: [{ replica: 0 }, { replica: 0 }],
    flightsPerTenant: 1,
    revokes: 1,
    enables: 1,
  },
  {
    name: 'one request, no answers',
    requests: [{ replica: 0 }],
    flightsPerTenant: 1,
    unknowns: 1,
    timers: 4,
  },
  {
    name: 'unknown and silent answers are asked again',
    requests: [{ replica: 0 }, { replica: 0 }],
    flightsPerTenant: 2,
    revokes: 1,
    unknowns: 2,
  },
  {
    name: 'a request that fails beside one that does not',
    requests: [{ replica: 0 }, { replica: 0, poisoned: true }],
    flightsPerTenant: 1,
    revokes: 1,
    suspends: 1,
  },
  {
    name: 'a driver that throws',
    requests: [{ replica: 0 }, { replica: 0 }],
    flightsPerTenant: 1,
    revokes: 1,
    throws: 1,
  },
  {
    name: 'two scopes',
    requests: [
      { replica: 0, scope: 0 },
      { replica: 0, scope: 0 },
      { replica: 0, scope: 1 },
    ],
    flightsPerTenant: 1,
    revokes: 1,
    timers: 1,
  },
  {
    name: 'stalls and suspensions',
    requests: [{ replica: 0 }, { replica: 0 }],
    flightsPerTenant: 2,
    stalls: 2,
    suspends: 1,
  },
  {
    name: 'unknown answers and early timers',
    requests: [{ replica: 0 }, { replica: 0 }],
    flightsPerTenant: 2,
    revokes: 1,
    unknowns: 1,
    timers: 1,
  },
  {
    name: 'lost commits',
    requests: [{ replica: 0 }, { replica: 0 }],
    flightsPerTenant: 2,
    revokes: 1,
    lostCommits: 1,
    timers: 1,
  },
  {
    name: 'two replicas and an administrator',
    requests: [{ replica: 0 }, { replica: 1 }],
    flightsPerTenant: 2,
    revokes: 1,
    enables: 1,
    changes: 1,
  },
  {
    name: 'three requests, two slots',
    requests: [{ replica: 0 }, { replica: 0 }, { replica: 0 }],
    flightsPerTenant: 2,
    revokes: 1,
    enables: 1,
  },
  {
    name: 'two replicas, three requests',
    requests: [{ replica: 0 }, { replica: 1 }, { replica: 0 }],
    flightsPerTenant: 2,
    revokes: 1,
    enables: 1,
  },
  {
    name: 'two replicas, an administrator and unknown answers',
    requests: [{ replica: 0 }, { replica: 1 }],
    flightsPerTenant: 2,
    revokes: 1,
    enables: 1,
    changes: 1,
    unknowns: 1,
  },
  // All faults at once pass three million states without an end; smaller worlds hold them two by two, and end.
  {
    name: 'two replicas, an administrator, unknown answers and lost commits',
    requests: [{ replica: 0 }, { replica: 1 }],
    flightsPerTenant: 2,
    revokes: 1,
    enables: 1,
    changes: 1,
    unknowns: 1,
    lostCommits: 1,
  },
  {
    name: 'two replicas, unknown answers, lost commits, timers and a suspension',
    requests: [{ replica: 0 }, { replica: 1 }],
    flightsPerTenant: 2,
    revokes: 1,
    enables: 1,
    unknowns: 1,
    lostCommits: 1,
    timers: 1,
    suspends: 1,
  },
];

/** Worlds that take minutes: with the ones above they hold every two kinds of fault together. */
const LONG_SCENARIOS: readonly Scenario[] = [
  {
    name: 'two replicas, an administrator, unknown answers and timers',
    requests: [{ replica: 0 }, { replica: 1 }],
    flightsPerTenant: 2,
    revokes: 1,
    enables: 1,
    changes: 1,
    unknowns: 1,
    timers: 1,
  },
  {
    name: 'two replicas, an administrator, lost commits, timers and a suspension',
    requests: [{ replica: 0 }, { replica: 1 }],
    flightsPerTenant: 2,
    revokes: 1,
    enables: 1,
    changes: 1,
    lostCommits: 1,
    timers: 1,
    suspends: 1,
  },
];

const MAX_NODES = 3_000_000;
/** One scenario after the other; the small ones come first, so that most mutants fall at once. */
function shipped(scenarios: readonly Scenario[]): void {
  for (const scenario of scenarios) {
    const found = explore(Gate as unknown as GateClass, scenario, MAX_NODES);
    process.stdout.write(`${JSON.stringify({ name: scenario.name, ...found })}\n`);
  }
}

function mutants(): void {
  for (const mutant of MUTANTS) {
    const gateClass = mutateGate<GateClass>(mutant.also === undefined ? [mutant] : [mutant, mutant.also]);
    let killed = '';
    for (const scenario of SCENARIOS) {
      const found = explore(gateClass, scenario, 60_000);
      if (found.violation === undefined) continue;
      killed = `${found.violation} (${scenario.name})`;
      break;
    }
    process.stdout.write(`${JSON.stringify({ name: mutant.name, killed })}\n`);
  }
}

if (process.argv[2] === 'mutants') mutants();
else shipped(process.argv[2] === 'long' ? LONG_SCENARIOS : SCENARIOS);
