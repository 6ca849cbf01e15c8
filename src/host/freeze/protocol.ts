/**
 * Messages between the driver and its freeze child on the child's standard input and output, one JSON object per line.
 * Both sides are the same build, so a line that cannot be parsed is a bug.
 */

export interface FreezeTarget {
  readonly target: string;
  readonly device: { readonly path: string; readonly majorMinor: string };
}

export type FreezeRequest =
  | {
      readonly request: 'freeze';
      readonly id: number;
      readonly targets: readonly FreezeTarget[];
      readonly timeoutMs: number;
    }
  | { readonly request: 'thaw'; readonly id: number };

export interface Failure {
  readonly call: string;
  readonly errno: string;
  readonly subject: string;
}

export type FreezeReport =
  | { readonly report: 'frozen'; readonly id: number }
  /** No filesystem of the group is frozen any more. */
  | { readonly report: 'failed'; readonly id: number; readonly failure: Failure }
  /** `expired`: the child thawed because the time limit passed. */
  | {
      readonly report: 'thawed';
      readonly id: number;
      readonly frozenMs: number;
      readonly expired: boolean;
    };

/** Splits a stream into lines, parses each and passes it to `receive`. */
export function lineReader<T>(receive: (message: T) => void): (chunk: string) => void {
  let rest = '';
  return (chunk) => {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop() ?? '';
    // The cast is safe, since the other side is the same build.
    for (const line of lines) receive(JSON.parse(line) as T);
  };
}

export function writeLine(
  stream: NodeJS.WritableStream,
  message: FreezeRequest | FreezeReport,
): void {
  stream.write(`${JSON.stringify(message)}\n`);
}
