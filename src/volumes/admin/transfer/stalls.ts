/** Streams whose other end stands still: a lock, a reservation or a capture must not be kept for it without limit. */

/** A caller that neither sends nor reads for this time is given up. */
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

/**
 * Passes on what the source yields. If the consumer does not ask for the next item for `limitMs` milliseconds, calls `onStall`; the
 * consumer gets the error of the limit when it asks again.
 */
export async function* untilConsumerStalls<T>(
  source: AsyncIterable<T>,
  { limitMs, stalledError, onStall }: StallLimit & { readonly onStall: () => void },
): AsyncGenerator<T> {
  for await (const item of source) {
    let hasStalled = false;
    const timer = setTimeout(() => {
      hasStalled = true;
      onStall();
    }, limitMs);
    try {
      yield item;
    } finally {
      clearTimeout(timer);
    }
    if (hasStalled) throw stalledError();
  }
}
