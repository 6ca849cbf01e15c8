import { connect, type Driver, endpointOf } from './driver.ts';
import { type OutputFormat, toJson, toNames, toYaml } from './output.ts';
import type { Terminal } from './terminal.ts';

/** The terminal, environment and program version with which a command runs. */
export interface Invocation {
  readonly terminal: Terminal;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Version of this program. */
  readonly version: string;
}

/** Options that every command accepts. */
export interface GlobalOptions {
  readonly endpoint?: string;
  readonly json?: boolean;
  readonly output?: OutputFormat;
}

/** One run of one command. */
export class Session {
  readonly terminal: Terminal;
  readonly environment: Invocation['environment'];
  readonly version: string;
  /** Set when the command line has been parsed. */
  options: GlobalOptions = {};
  #driver: Driver | undefined;

  constructor({ terminal, environment, version }: Invocation) {
    this.terminal = terminal;
    this.environment = environment;
    this.version = version;
  }

  get format(): OutputFormat {
    return this.options.json === true ? 'json' : (this.options.output ?? 'table');
  }

  /** Whether the output is text for people, rather than JSON, YAML or names. */
  get isText(): boolean {
    return this.format === 'table' || this.format === 'wide';
  }

  /** Path of the driver's socket. Throws `UsageError` if it is not a valid socket path. */
  get endpoint(): string {
    return endpointOf(this.options.endpoint, this.environment);
  }

  /** As `endpoint`, with the default of another process. */
  endpointOr(defaultEndpoint: string): string {
    return endpointOf(this.options.endpoint, this.environment, defaultEndpoint);
  }

  /** Connects on first use. */
  async driver(): Promise<Driver> {
    this.#driver ??= await connect(this.endpoint);
    return this.#driver;
  }

  /** Whether `loopcsi controller` answers at the socket, and not the driver of a node. */
  async isController(): Promise<boolean> {
    const { identity } = await this.driver();
    const { manifest } = await identity.GetPluginInfo({});
    return manifest['process'] === 'controller';
  }

  /** Prints the result: as text, or for programs with --output or --json. Lists use `showList`. */
  async show(value: unknown, text: () => string | Promise<string>): Promise<void> {
    this.terminal.print(await this.#formatted(value, text));
  }

  async #formatted(value: unknown, text: () => string | Promise<string>): Promise<string> {
    switch (this.format) {
      case 'json':
        return toJson(value);
      case 'yaml':
        return toYaml(value);
      case 'name':
        return toNames(value);
      case 'table':
      case 'wide':
        return text();
    }
  }

  close(): void {
    this.#driver?.close();
  }
}
