/** Records the calls of objects, and makes chosen ones fail. */
export class Watch {
  readonly calls: { readonly name: string; readonly args: readonly unknown[] }[] = [];
  readonly #failures = new Map<string, { readonly error: Error; readonly after: boolean }[]>();

  /** The same object, whose asynchronous methods are recorded as `room.method`. */
  over<T extends object>(room: string, target: T): T {
    return new Proxy(target, {
      get: (object, key) => {
        const member: unknown = Reflect.get(object, key, object);
        if (typeof member !== 'function' || typeof key !== 'string') return member;
        return (...args: readonly unknown[]): unknown =>
          this.#call(`${room}.${key}`, args, () => Reflect.apply(member, object, args));
      },
    });
  }

  failNext(name: string, error: Error, { after = false }: { after?: boolean }): void {
    const failures = this.#failures.get(name) ?? [];
    failures.push({ error, after });
    this.#failures.set(name, failures);
  }

  /** Failures that no call has met are forgotten. */
  clearFailures(): void {
    this.#failures.clear();
  }

  #call(name: string, args: readonly unknown[], work: () => unknown): unknown {
    this.calls.push({ name, args });
    const failure = this.#failures.get(name)?.shift();
    // What is iterated asynchronously fails when it is iterated.
    if (/^extents\.(?:map|data)$/.test(name))
      return failure === undefined ? work() : failingIteration(failure.error);
    return failure === undefined ? work() : fail(failure, work);
  }
}

async function fail(
  failure: { error: Error; after: boolean },
  work: () => unknown,
): Promise<never> {
  if (failure.after) await work();
  throw failure.error;
}

async function* failingIteration(error: Error): AsyncGenerator<never> {
  yield await Promise.reject<never>(error);
}
