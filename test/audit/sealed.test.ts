import { inspect } from 'node:util';
import { expect, test } from '@jest/globals';
import { newEventId } from '../../src/audit/leaf.ts';
import { DurableRecord, durableRecord, Sealed } from '../../src/audit/sealed.ts';

const eid = newEventId();
const record = durableRecord(eid, 7, new Uint8Array(32));
const secret = () => new TextEncoder().encode('a canary in a mine');

test('a sealed value opens once, for its own durable record', () => {
  const sealed = new Sealed(secret(), eid);
  expect(sealed.reveal(record)).toEqual(secret());
  expect(() => sealed.reveal(record)).toThrow(TypeError);
});

test('a sealed value does not open for the record of something else', () => {
  const sealed = new Sealed(secret(), newEventId());
  expect(() => sealed.reveal(record)).toThrow(TypeError);
});

test('a sealed value does not open for something that only looks like a durable record', () => {
  const sealed = new Sealed(secret(), eid);
  const forged = { eid, index: 7, leafHash: new Uint8Array(32) } as DurableRecord;
  expect(() => sealed.reveal(forged)).toThrow(TypeError);
  expect(() => new DurableRecord(Symbol('made by the log') as never, eid, 7, new Uint8Array(32))).toThrow(
    TypeError,
  );
});

test('a destroyed value is zero and does not open', () => {
  const bytes = secret();
  const sealed = new Sealed(bytes, eid);
  sealed.destroy();
  expect(bytes).toEqual(new Uint8Array(bytes.length));
  expect(() => sealed.reveal(record)).toThrow(TypeError);
});

test('a sealed value shows in no text', () => {
  const sealed = new Sealed(secret(), eid);
  for (const text of [
    String(sealed),
    `${sealed}`,
    JSON.stringify({ sealed }),
    inspect(sealed, { depth: 9, showHidden: true }),
  ]) {
    expect(text).toContain('[sealed]');
    expect(text).not.toContain('canary');
    expect(text).not.toContain('97, 32');
  }
});
