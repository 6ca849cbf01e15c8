/** Calls of Docker's API that Debian's client does not have, since it is too old. */
import { request } from 'node:http';
import { text } from 'node:stream/consumers';

export interface Api {
  get(path: string): Promise<unknown>;
  post(path: string, body?: unknown): Promise<unknown>;
  remove(path: string): Promise<unknown>;
  put(path: string, body: unknown): Promise<unknown>;
}

export function apiOf(socketPath: string): Api {
  const send = async (method: string, path: string, body?: unknown): Promise<unknown> => {
    const sent = body === undefined ? '' : JSON.stringify(body);
    const headers = { host: 'docker', 'content-type': 'application/json' };
    const { status, responseText } = await new Promise<{ status: number; responseText: string }>(
      (resolve, reject) => {
        const call = request({ socketPath, method, path, headers }, (response) => {
          text(response).then((responseText) => {
            resolve({ status: response.statusCode ?? 0, responseText });
          }, reject);
        });
        call.once('error', reject);
        call.end(sent);
      },
    );
    if (status >= 300) throw new Error(`${method} ${path}: ${status} ${responseText}`);
    return responseText === '' ? undefined : JSON.parse(responseText);
  };
  return {
    get: (path) => send('GET', path),
    post: (path, body) => send('POST', path, body),
    put: (path, body) => send('PUT', path, body),
    remove: (path) => send('DELETE', path),
  };
}
