/** The shipped gate with pieces of its text replaced. */
import { readFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';

export interface Edit {
  /** Stands exactly once in the text. */
  readonly find: string;
  readonly replace: string;
}

const SOURCE = new URL('../../src/keyring/gate.ts', import.meta.url);

/** The class that the edited text makes. Throws when the gate has changed under an edit. */
export function mutateGate<GateClass>(edits: readonly Edit[]): GateClass {
  let text = readFileSync(SOURCE, 'utf8');
  for (const { find, replace } of edits) {
    if (text.split(find).length !== 2) throw new Error(`the gate has changed under a mutant: ${find}`);
    text = text.replace(find, () => replace);
  }
  const code = stripTypeScriptTypes(text).replaceAll('export ', '');
  return new Function(`${code}; return Gate;`)() as GateClass;
}
