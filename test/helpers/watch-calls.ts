/** Records the calls of objects, and makes chosen ones fail or hang. */
export class Watch {
  readonly calls: { readonly name: string; readonly args: readonly unknown[] }[] = [];
  readonly #hangs = new Map<
    string,
    { readonly released: Promise<void>; readonly met: () => void }[]
  >();
  #nthFailure: { in: number; times: number; readonly errorOf: (name: string) => Error } | undefined;
  readonly #failures = new Map<string, { readonly error: Error; readonly after: boolean }[]>();

  /** Returns the same object with its asynchronous methods recorded as `prefix.method`. */
  over<T extends object>(prefix: string, target: T): T {
    return new Proxy(target, {
      get: (object, key) => {
        const member: unknown = Reflect.get(object, key, object);
        if (typeof member !== 'function' || typeof key !== 'string') return member;
        return (...args: readonly unknown[]): unknown =>
          this.#call(`${prefix}.${key}`, args, () => Reflect.apply(member, object, args));
      },
    });
  }

  failNext(name: string, error: Error, { after = false }: { after?: boolean }): void {
    const failures = this.#failures.get(name) ?? [];
    failures.push({ error, after });
    this.#failures.set(name, failures);
  }

  /** Makes the n-th call from now on (from 1), and the `times - 1` after it, fail before they do anything. */
  failNth(
    nth: number,
    errorOf: (name: string) => Error,
    { times = 1 }: { times?: number } = {},
  ): void {
    this.#nthFailure = { in: nth, times, errorOf };
  }

  /** Makes the next call of that name hang until the returned function is called; `met` is called when it hangs. */
  hangNext(name: string, met: () => void = () => undefined): () => void {
    let release = (): void => undefined;
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    this.#hangs.set(name, [...(this.#hangs.get(name) ?? []), { released, met }]);
    return release;
  }

  /** Cancels failures and hangs that no call has met. */
  clearFailures(): void {
    this.#failures.clear();
    this.#hangs.clear();
    this.#nthFailure = undefined;
  }

  #call(name: string, args: readonly unknown[], work: () => unknown): unknown {
    this.calls.push({ name, args });
    const hang = this.#hangs.get(name)?.shift();
    if (hang === undefined) return this.#run(name, work);
    hang.met();
    return hang.released.then(() => this.#run(name, work));
  }

  #nthFailureOf(name: string): { error: Error; after: boolean } | undefined {
    const planned = this.#nthFailure;
    if (planned === undefined) return undefined;
    planned.in -= 1;
    if (planned.in > 0 || planned.in <= -planned.times) return undefined;
    return { error: planned.errorOf(name), after: false };
  }

  #run(name: string, work: () => unknown): unknown {
    const failure = this.#failures.get(name)?.shift() ?? this.#nthFailureOf(name);
    // These return async iterators, which fail when they are iterated.
    if (/^extents\.(?:map|data)$/.test(name))
      return failure === undefined ? work() : failingIteration(failure.error);
    if (failure === undefined) return work();
    // The only synchronous call.
    if (name === 'loops.isAutoclear') throw failure.error;
    return fail(failure, work);
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
