import { status } from '@grpc/grpc-js';

/** How a call ended: the name of its code, and the message of an error. */
export interface Answer {
  readonly code: string;
  readonly message: string;
}

export async function answerOf(call: Promise<unknown>): Promise<Answer> {
  return call.then(
    () => ({ code: 'OK', message: '' }),
    (error: unknown) => {
      const { code, details } = error as { code?: number; details?: string };
      return { code: status[code ?? -1] ?? String(error), message: details ?? String(error) };
    },
  );
}
