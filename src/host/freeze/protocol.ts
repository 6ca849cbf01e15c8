/**
 * What freezer.ts and its child say to each other over the child's standard input and output: one JSON object a line.
 * Both ends are the same build, so a line that does not parse is a defect and not an answer.
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
      readonly boundMs: number;
    }
  | { readonly ask: 'thaw'; readonly id: number };

export interface Failure {
  readonly call: string;
  readonly errno: string;
  readonly subject: string;
}

export type FromChild =
  | { readonly say: 'frozen'; readonly id: number }
  /** Nothing is frozen (any more) of what was asked. */
  | { readonly say: 'failed'; readonly id: number; readonly failure: Failure }
  /** `expired`: the bound passed, and the child thawed by itself. */
  | {
      readonly say: 'thawed';
      readonly id: number;
      readonly frozenMs: number;
      readonly expired: boolean;
    };

/** Splits a stream into lines and hands each, parsed, to `receive`. */
export function lineReader<T>(receive: (message: T) => void): (chunk: string) => void {
  let rest = '';
  return (chunk) => {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop() ?? '';
    // The other end is the same build of this project: see above.
    for (const line of lines) receive(JSON.parse(line) as T);
  };
}

export function writeLine(stream: NodeJS.WritableStream, message: ToChild | FromChild): void {
  stream.write(`${JSON.stringify(message)}\n`);
}
