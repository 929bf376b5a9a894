/** A small client of our own HTTP API, for the tour and the first run: what a platform's code would do with `fetch`. */

export interface Answer {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: answers are read by a program that shows them, field by field.
  readonly body: any;
}

export interface ApiClient {
  get(path: string): Promise<Answer>;
  post(path: string, body?: unknown): Promise<Answer>;
  /** The same API in another name. */
  as(token: string): ApiClient;
}

export function apiClient(url: string, token?: string): ApiClient {
  async function send(method: string, path: string, body?: unknown): Promise<Answer> {
    const response = await fetch(`${url}${path}`, {
      method,
      headers: {
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(10_000),
    });
    const text = await response.text();
    return { status: response.status, body: text === '' ? undefined : JSON.parse(text) };
  }
  return {
    get: (path) => send('GET', path),
    post: (path, body = {}) => send('POST', path, body),
    as: (other) => apiClient(url, other),
  };
}

/** The body of an answer that must have this status. */
export function expectStatus(answer: Answer, status: number): Answer['body'] {
  if (answer.status !== status)
    throw new Error(`expected ${status}, got ${answer.status} ${answer.body?.code ?? ''}`);
  return answer.body;
}
