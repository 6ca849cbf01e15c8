import type { Command } from 'commander';
import { connect, type Driver, endpointOf } from './driver.ts';
import { toJson } from './output.ts';
import type { Terminal } from './terminal.ts';

/** What `main.ts` gives to the command line. */
export interface Invocation {
  readonly terminal: Terminal;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Of this program. */
  readonly version: string;
}

/** Options that every command has. */
interface GlobalOptions {
  readonly endpoint?: string;
  readonly json?: boolean;
}

/** One run of one command. */
export class Session {
  readonly terminal: Terminal;
  readonly environment: Invocation['environment'];
  readonly version: string;
  readonly #options: GlobalOptions;
  #driver: Driver | undefined;

  constructor(invocation: Invocation, options: GlobalOptions) {
    this.terminal = invocation.terminal;
    this.environment = invocation.environment;
    this.version = invocation.version;
    this.#options = options;
  }

  get isJson(): boolean {
    return this.#options.json === true;
  }

  /** Path of the driver's socket. Throws `UsageError` for one that can be none. */
  get endpoint(): string {
    return endpointOf(this.#options.endpoint, this.environment);
  }

  /** Connects at first use. */
  async driver(): Promise<Driver> {
    this.#driver ??= await connect(this.endpoint);
    return this.#driver;
  }

  /** The result: as JSON where that was asked for, else the text for people. */
  async show(value: unknown, text: () => string | Promise<string>): Promise<void> {
    this.terminal.print(this.isJson ? toJson(value) : await text());
  }

  close(): void {
    this.#driver?.close();
  }
}

/**
 * Ties a command's work to its run: `work` takes what the command declares as arguments, then its own options where it has
 * some. Commander gives the command itself last.
 */
export type Act = <A extends readonly unknown[]>(
  work: (session: Session, ...args: A) => Promise<void>,
) => (...args: [...A, Command]) => Promise<void>;

export function actWith(invocation: Invocation): Act {
  return <A extends readonly unknown[]>(work: (session: Session, ...args: A) => Promise<void>) =>
    async (...args: [...A, Command]) => {
      const command = args.at(-1) as Command;
      const session = new Session(invocation, command.optsWithGlobals<GlobalOptions>());
      try {
        // All but the last are what `work` takes, by the type above.
        await work(session, ...(args.slice(0, -1) as unknown as A));
      } finally {
        session.close();
      }
    };
}
