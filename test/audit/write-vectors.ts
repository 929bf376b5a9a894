/** `npm run vectors`: writes test/vectors/audit anew. A change of an existing file is a change of the format. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { auditVectors } from './vector-source.ts';

const folder = new URL('../vectors/audit/', import.meta.url);
mkdirSync(folder, { recursive: true });
const vectors = await auditVectors();
for (const [name, text] of vectors) writeFileSync(new URL(name, folder), text);
console.log(`${vectors.size} files written`);
