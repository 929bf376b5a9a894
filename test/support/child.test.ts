import { describe, expect, test } from '@jest/globals';
import { Child } from './child.ts';

function node(script: string): Child {
  return new Child({ command: process.execPath, args: ['-e', script] });
}

const any = (line: string): string => line;

describe('child process', () => {
  test('a line printed before anybody asked is not lost', async () => {
    const child = node("console.log('first'); console.log('second'); process.stdin.resume()");
    expect(await child.line((line) => (line === 'second' ? line : undefined), 20_000)).toBe('second');
    await child.stop();
  });

  test('lines keep their order over several questions', async () => {
    const child = node("console.log('1\\n2\\n3')");
    await child.exited;
    const seen = [await child.line(any, 1_000), await child.line(any, 1_000), await child.line(any, 1_000)];
    expect(seen).toEqual(['1', '2', '3']);
  });

  test('a child that ends early is reported with what it wrote to standard error', async () => {
    const child = node("console.error('no such key'); process.exit(3)");
    await expect(child.line(any, 20_000)).rejects.toThrow(/ended with 3: no such key/);
  });

  test('a child that says nothing fit is reported in time', async () => {
    const child = node("console.log('x'); process.stdin.resume()");
    await expect(child.line(() => undefined, 300)).rejects.toThrow(/said nothing fit/);
    await child.stop();
  });

  test('a program that does not exist is an error, and stopping it is none', async () => {
    const child = new Child({ command: 'no-such-program-here', args: [] });
    await expect(child.line(any, 20_000)).rejects.toThrow(/ENOENT/);
    await child.stop();
  });

  test('stop settles when the process is gone', async () => {
    const child = node("console.log('up'); setInterval(() => undefined, 1000)");
    await child.line(any, 20_000);
    const { pid } = child;
    await child.stop();
    expect(() => process.kill(pid, 0)).toThrow(/ESRCH/);
  });
});
