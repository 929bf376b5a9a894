import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { GATE_ALONE, GATE_AND_SEAL, plant } from './controls.ts';

test('the planted faults fit the shipped source, and a copy goes away with everything in it', () => {
  for (const edits of [GATE_ALONE, GATE_AND_SEAL]) {
    const { tree, remove } = plant(edits);
    const planted = edits.map(({ file, replace }) =>
      readFileSync(join(tree, file), 'utf8').includes(replace),
    );
    remove();
    expect(planted).toEqual(edits.map(() => true));
    expect(existsSync(tree)).toBe(false);
  }
});

test('a fault whose place is not in the source is refused', () => {
  const edit = { file: 'src/keyring/gate.ts', find: 'no such text anywhere', replace: '' };
  expect(() => plant([edit])).toThrow('stands there 0 times');
  expect(() => plant([])).toThrow('nothing to plant');
});
