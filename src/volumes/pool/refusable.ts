/** Work that waits for the same disk, which may all be told at once that it does not come. */
export class Refusable {
  readonly #refusals = new Set<(reason: Error) => void>();

  /** Answers what `work` answers. Throws the reason when `refuse` is called first; the work goes on. */
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

  refuse(reason: Error): void {
    for (const refuse of this.#refusals) refuse(reason);
  }
}
