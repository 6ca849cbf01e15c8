import type { RemoteSource, SentCopy } from '../volumes/model.ts';

/** An offer is for the call that follows it at once. */
const keepMs = 10 * 60_000;
const maxOffers = 1_000;

/** Snapshots and volumes of other nodes that the controller has offered to this one, each for one copy. */
export class RemoteSources {
  readonly #offers = new Map<string, { readonly source: RemoteSource; readonly untilMs: number }>();
  readonly #nowMs: () => number;

  constructor(nowMs: () => number = () => performance.now()) {
    this.#nowMs = nowMs;
  }

  /** Replaces an earlier offer for that copy. */
  put(copy: SentCopy, source: RemoteSource): void {
    const key = keyOf(copy);
    this.#offers.delete(key);
    this.#offers.set(key, { source, untilMs: this.#nowMs() + keepMs });
    const [oldest] = this.#offers.keys();
    if (this.#offers.size > maxOffers && oldest !== undefined) this.#offers.delete(oldest);
  }

  /** An offer is for one call: the next one may need another ticket, since the other node may have been restarted. */
  take(copy: SentCopy): RemoteSource | undefined {
    const offer = this.#offers.get(keyOf(copy));
    this.#offers.delete(keyOf(copy));
    return offer === undefined || offer.untilMs < this.#nowMs() ? undefined : offer.source;
  }
}

/** Ids have no spaces. */
function keyOf({ source: { kind, id }, copyName }: SentCopy): string {
  return `${kind} ${id} ${copyName}`;
}
