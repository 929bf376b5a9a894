/** Every vector of test/vectors/keytether, computed. `npm run vectors` writes them; a test compares them with the tree. */
import type { Vector } from './vector-file.ts';
import { messageVectors } from './vectors-of-messages.ts';
import { recordVectors } from './vectors-of-records.ts';

export function allVectors(): Vector[] {
  return [...messageVectors(), ...recordVectors()];
}
