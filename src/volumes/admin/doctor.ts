/** One thing that was looked at, and what to do when it is not as it should be. */
export interface Finding {
  /** Kebab-case and stable: `loop-control`, `program:mkfs.xfs`, `pool:default`. */
  readonly name: string;
  /** `warn`: works, but somebody should know. `fail`: something will not work. */
  readonly state: 'ok' | 'warn' | 'fail';
  readonly message: string;
  /** '' when ok. */
  readonly remedy: string;
}

export function ok(name: string, message: string): Finding {
  return { name, state: 'ok', message, remedy: '' };
}

export function warn(name: string, message: string, remedy: string): Finding {
  return { name, state: 'warn', message, remedy };
}

export function fail(name: string, message: string, remedy: string): Finding {
  return { name, state: 'fail', message, remedy };
}
