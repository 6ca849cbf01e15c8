/** The options of `loopcsi controller`, from the same sources as those of `serve`. */
import type * as v from 'valibot';
import { ConfigError, loadOptions } from './load.ts';
import { flagOf, type OptionTable, optionTable } from './options.ts';
import { parseAbsolutePath, parseAgents, textParsedBy } from './values.ts';

const { driverName, logLevel, logFormat, httpAddress, shutdownTimeout } = optionTable;

export const controllerTable = {
  endpoint: {
    ...optionTable.endpoint,
    default: 'unix:///run/loopcsi-controller/csi.sock',
    help: 'Unix socket for the CSI sidecars, mode 0600.',
  },
  agents: {
    kind: 'value',
    value: 'static:HOST:PORT,…',
    help: 'The agents of the nodes: the addresses that the drivers have as --agent-address. Required.',
    schema: textParsedBy(parseAgents),
  },
  tlsDir: {
    kind: 'value',
    value: 'DIR',
    help: 'Directory with `ca.crt`, `tls.crt` and `tls.key` of the role controller, as `loopcsi tls create` makes it. Changed files are read again. Required.',
    schema: textParsedBy(parseAbsolutePath),
  },
  driverName: { ...driverName, help: 'CSI driver name. Drivers with another name are refused.' },
  logLevel,
  logFormat,
  httpAddress: { ...httpAddress, default: '127.0.0.1:9738' },
  shutdownTimeout: {
    ...shutdownTimeout,
    help: 'Time within which the controller exits after SIGTERM. Calls still running then end with UNAVAILABLE; the nodes continue what they have begun.',
  },
} as const satisfies OptionTable;

type Table = typeof controllerTable;
type ControllerKey = keyof Table;

/** The validated, frozen configuration. `endpoint` is a path, and durations are in milliseconds. */
export type ControllerConfig = Readonly<
  { [K in ControllerKey]: v.InferOutput<Table[K]['schema']> } & {
    /** Options that were set explicitly, as opposed to defaults. */
    explicit: ReadonlySet<string>;
  }
>;

const required = ['agents', 'tlsDir'] as const satisfies readonly ControllerKey[];

/** Loads the configuration as `loadConfig` does for `serve`. Throws a single `ConfigError` with all problems. */
export async function loadControllerConfig(
  flags: Readonly<Record<string, unknown>>,
  environmentVariables: Readonly<Record<string, string | undefined>>,
): Promise<ControllerConfig> {
  const { values, explicit } = await loadOptions(controllerTable, flags, environmentVariables);
  const missing = required.filter((key) => !explicit.has(key));
  if (missing.length > 0)
    throw new ConfigError(missing.map((key) => `flag ${flagOf(key)}: is required`));
  const entries = [...values].map(([key, [value]]) => [key, value]);
  // The cast is safe: each value has passed the schema of its key.
  return Object.freeze({ ...Object.fromEntries(entries), explicit }) as ControllerConfig;
}
