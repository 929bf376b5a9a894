import { describe, expect, test } from '@jest/globals';
import { describeFailure, readHead } from '../../bench/load/response.ts';

function bytes(text: string): Buffer {
  return Buffer.from(text, 'latin1');
}

const ANSWER = bytes(
  'HTTP/1.1 503 Service Unavailable\r\nX: y\r\ncOnTent-LENGTH: 12\r\nDate: z\r\n\r\n{"code":"A"}',
);

describe('answer head', () => {
  test('a whole answer gives its status and where the body lies', () => {
    const head = readHead(ANSWER, ANSWER.length);
    expect(head?.status).toBe(503);
    expect(head?.end).toBe(ANSWER.length);
    expect(ANSWER.subarray(head?.bodyStart).toString()).toBe('{"code":"A"}');
  });

  test('every cut before the end of the head is incomplete', () => {
    const headEnd = ANSWER.indexOf('\r\n\r\n') + 4;
    for (let filled = 0; filled < headEnd; filled += 1) expect(readHead(ANSWER, filled)).toBeUndefined();
    expect(readHead(ANSWER, headEnd)?.end).toBe(ANSWER.length);
  });

  test('an answer without Content-Length is refused unless its status allows no body', () => {
    const open = bytes('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n');
    expect(() => readHead(open, open.length)).toThrow(SyntaxError);
    const none = bytes('HTTP/1.1 204 No Content\r\nDate: z\r\n\r\n');
    expect(readHead(none, none.length)).toEqual({ status: 204, bodyStart: none.length, end: none.length });
  });
});

describe('name of a failure', () => {
  test('a problem document gives status and code, anything else the status', () => {
    expect(describeFailure(503, bytes('{"code":"KMS_THROTTLED"}'))).toBe('503 KMS_THROTTLED');
    expect(describeFailure(503, bytes('{"code":7}'))).toBe('503');
    expect(describeFailure(502, bytes('<html>'))).toBe('502');
    expect(describeFailure(500, bytes('null'))).toBe('500');
  });
});
