/** Streams that arrive: a lock and a reservation must not be kept without limit for a source that sends nothing. */

/** A caller that sends nothing for this time is given up. The command line sends something more often, even for zeros. */
export const stalledAfterMs = 5 * 60_000;

interface StallLimit {
  readonly limitMs: number;
  readonly stalledError: () => Error;
}

/**
 * Passes on what the source sends. Rejects with the reason of an abort, even while the source sends nothing, and with the error of
 * the limit if it sends nothing for `limitMs` milliseconds.
 */
export async function* untilSourceStalls<T>(
  source: AsyncIterable<T>,
  { signal, limitMs, stalledError }: StallLimit & { readonly signal: AbortSignal },
): AsyncGenerator<T> {
  const items = source[Symbol.asyncIterator]();
  try {
    for (;;) {
      const item = await nextWithin(items, { signal, limitMs, stalledError });
      if (item.done === true) return;
      yield item.value;
    }
  } finally {
    // The source may never answer, so nothing waits for it.
    void items.return?.().catch(() => undefined);
  }
}

function nextWithin<T>(
  items: AsyncIterator<T>,
  { signal, limitMs, stalledError }: StallLimit & { readonly signal: AbortSignal },
): Promise<IteratorResult<T>> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      end();
      reject(signal.reason as Error);
    };
    const timer = setTimeout(() => {
      end();
      reject(stalledError());
    }, limitMs);
    const end = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
    };
    if (signal.aborted) {
      onAbort();
      return;
    }
    signal.addEventListener('abort', onAbort, { once: true });
    items.next().then(resolve, reject).finally(end);
  });
}
