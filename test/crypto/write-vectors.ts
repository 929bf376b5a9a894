/** `npm run vectors`: writes test/vectors/keytether anew. A change of an existing file is a change of the format. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { formatVector } from './vector-file.ts';
import { allVectors } from './vector-source.ts';

const folder = new URL('../vectors/keytether/', import.meta.url);
mkdirSync(folder, { recursive: true });
const vectors = allVectors();
for (const vector of vectors) writeFileSync(new URL(`${vector.name}.txt`, folder), formatVector(vector));
console.log(`${vectors.length} vectors written`);
