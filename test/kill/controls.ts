/**
 * Negative controls: faults that the kill test must see, or it proves nothing. One is planted in the database alone, the others in a
 * copy of the service's source.
 */
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MUTANTS } from '../keyring/gate-mutants.ts';

const REPOSITORY = join(import.meta.dirname, '../..');

/**
 * Commits of the log no longer wait for the disk. A trigger says so at every append, for the transaction's end: the service sets
 * synchronous_commit at the start of each session and would undo a setting of the server, the database or the role.
 */
export const COMMITS_DO_NOT_WAIT = [
  `CREATE FUNCTION public.commit_later() RETURNS trigger LANGUAGE plpgsql AS
   'BEGIN PERFORM pg_catalog.set_config(''synchronous_commit'', ''off'', true); RETURN NULL; END'`,
  `CREATE TRIGGER commit_later AFTER INSERT ON keytether.log_leaf FOR EACH STATEMENT EXECUTE FUNCTION public.commit_later()`,
  'CHECKPOINT',
].join(';\n');

interface Edit {
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

/** The gate says "durable" before the log does. Alone it releases nothing: a sealed value wants the log's own proof. */
const REVEAL_FIRST: readonly Edit[] = MUTANTS.filter(
  ({ name }) => name === 'reveal without waiting for the log',
).map(({ find, replace }) => ({ file: 'src/keyring/gate.ts', find, replace }));

/** And the proof is forged, with an index that nobody knows yet. */
const FORGE_PROOF: readonly Edit[] = [
  {
    file: 'src/keyring/flight.ts',
    find: '{ type DurableRecord, Sealed }',
    replace: '{ type DurableRecord, durableRecord, Sealed }',
  },
  {
    file: 'src/keyring/flight.ts',
    find: 'records: opened.records };',
    replace: `records: opened.rows.map((row) => durableRecord(row.eid, 0, new Uint8Array(
      hash('sha256', Buffer.concat([Uint8Array.of(0), row.leaf]), 'buffer')))) };`,
  },
];

export const GATE_ALONE = REVEAL_FIRST;
export const GATE_AND_SEAL = [...REVEAL_FIRST, ...FORGE_PROOF];

/** A copy of the service's source with these edits. Throws unless each `find` stands exactly once. */
export function plant(edits: readonly Edit[]): { tree: string; remove(): void } {
  if (edits.length === 0) throw new Error('nothing to plant');
  const tree = mkdtempSync(join(tmpdir(), 'keytether-mutant-'));
  const clear = () => rmSync(tree, { recursive: true, force: true });
  process.once('exit', clear);
  const remove = () => {
    process.off('exit', clear);
    clear();
  };
  try {
    for (const part of ['src', 'adapters', 'package.json']) {
      cpSync(join(REPOSITORY, part), join(tree, part), { recursive: true });
    }
    symlinkSync(join(REPOSITORY, 'node_modules'), join(tree, 'node_modules'));
    for (const { file, find, replace } of edits) {
      const parts = readFileSync(join(tree, file), 'utf8').split(find);
      if (parts.length !== 2)
        throw new Error(`${file}: the text to replace stands there ${parts.length - 1} times`);
      writeFileSync(join(tree, file), parts.join(replace));
    }
  } catch (error) {
    remove();
    throw error;
  }
  return { tree, remove };
}
