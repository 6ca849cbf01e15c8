/** The result of one check, and what to do if it is not `ok`. */
export interface Finding {
  /** A stable name in kebab case: `loop-control`, `filesystem:xfs`, `pool:default`. */
  readonly name: string;
  /** `warn`: it works with a limitation. `fail`: it does not work. */
  readonly state: 'ok' | 'warn' | 'fail';
  readonly message: string;
  /** '' if the state is `ok`. */
  readonly remedy: string;
}

/** Splits a message of the form `what is wrong; what to do`. */
export function splitMessage(message: string): {
  readonly problem: string;
  readonly remedy: string;
} {
  const [problem = '', ...remedies] = message.split('; ');
  return { problem, remedy: remedies.join('; ') };
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
