/** Work that waits for the same disk and is refused together when the disk fails. */
export class DiskWaits {
  readonly #refusals = new Set<(reason: Error) => void>();

  /** Returns the result of `work`. If `refuseAll` is called first, throws its reason; the work itself continues. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    let refuse = (_reason: Error): void => undefined;
    const refused = new Promise<never>((_resolve, reject) => {
      refuse = reject;
    });
    this.#refusals.add(refuse);
    try {
      return await Promise.race([work(), refused]);
    } finally {
      this.#refusals.delete(refuse);
    }
  }

  refuseAll(reason: Error): void {
    for (const refuse of this.#refusals) refuse(reason);
  }
}
