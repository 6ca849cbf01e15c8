/** Prints the steps of the demo with their results and durations. */

const style = process.stdout.isTTY
  ? (code: number, text: string) => `\u001b[${code}m${text}\u001b[0m`
  : (_: number, text: string) => text;

export class Report {
  readonly #startedAtMs = performance.now();
  readonly #signal: AbortSignal;

  constructor(signal: AbortSignal) {
    this.#signal = signal;
  }

  title(text: string): void {
    console.log(`\n${style(1, text)}`);
  }

  say(text: string): void {
    console.log(`  ${text}`);
  }

  /** Runs one step and prints the text that it returns. Throws without running the step if the demo was stopped. */
  async step(description: string, work: () => Promise<string>): Promise<void> {
    this.#signal.throwIfAborted();
    if (process.stdout.isTTY) process.stdout.write(`  … ${description}`);
    const startedAtMs = performance.now();
    try {
      const result = await work();
      const took = durationOf(performance.now() - startedAtMs);
      this.#line(`  ${style(32, '✓')} ${description} ${style(2, `(${took})`)}`);
      for (const line of result.split('\n')) if (line !== '') console.log(`      ${line}`);
    } catch (error) {
      this.#line(`  ${style(31, '✗')} ${description}`);
      throw error;
    }
  }

  end(text: string): void {
    console.log(
      `\n${style(1, text)} Total time: ${durationOf(performance.now() - this.#startedAtMs)}.`,
    );
  }

  #line(text: string): void {
    console.log(process.stdout.isTTY ? `\r\u001b[K${text}` : text);
  }
}

function durationOf(ms: number): string {
  return ms < 1000 ? `${ms.toFixed(ms < 10 ? 1 : 0)} ms` : `${(ms / 1000).toFixed(1)} s`;
}
