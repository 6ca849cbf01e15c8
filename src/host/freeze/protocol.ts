/**
 * Messages between the driver and its freeze child, over standard input and output of the child: one JSON object for
 * each line. Both sides are the same build, so a line that does not parse is a bug.
 */

export interface FreezeTarget {
  readonly target: string;
  readonly device: { readonly path: string; readonly majorMinor: string };
}

export type ToChild =
  | {
      readonly ask: 'freeze';
      readonly id: number;
      readonly targets: readonly FreezeTarget[];
      readonly timeoutMs: number;
    }
  | { readonly ask: 'thaw'; readonly id: number };

export interface Failure {
  readonly call: string;
  readonly errno: string;
  readonly subject: string;
}

export type FromChild =
  | { readonly say: 'frozen'; readonly id: number }
  /** Nothing of the group is frozen (any more). */
  | { readonly say: 'failed'; readonly id: number; readonly failure: Failure }
  /** `expired`: the child thawed on its own at the time limit. */
  | {
      readonly say: 'thawed';
      readonly id: number;
      readonly frozenMs: number;
      readonly expired: boolean;
    };

/** Splits a stream into lines and passes each, parsed, to `receive`. */
export function lineReader<T>(receive: (message: T) => void): (chunk: string) => void {
  let rest = '';
  return (chunk) => {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop() ?? '';
    // The other side is the same build, see above.
    for (const line of lines) receive(JSON.parse(line) as T);
  };
}

export function writeLine(stream: NodeJS.WritableStream, message: ToChild | FromChild): void {
  stream.write(`${JSON.stringify(message)}\n`);
}
