/** The options of `loopcsi controller`, from the same sources as those of `serve`. */
import * as v from 'valibot';
import { parseDuration } from '../units.ts';
import { ConfigError, loadOptions } from './load.ts';
import { flagOf, type OptionTable, optionTable } from './options.ts';
import { parseAbsolutePath, textParsedBy } from './values.ts';

const { driverName, logLevel, logFormat, httpAddress, shutdownTimeout } = optionTable;

export const controllerTable = {
  endpoint: {
    ...optionTable.endpoint,
    default: 'unix:///run/loopcsi-controller/csi.sock',
    help: 'Unix socket for the CSI sidecars, mode 0600.',
  },
  agents: {
    kind: 'value',
    value: 'SOURCE',
    help: 'Where the addresses of the agents come from, which the drivers have as --agent-address: `static:HOST:PORT,…`, `dns://NAME[:PORT]` or `endpointslices://NAMESPACE/SERVICE`. Required.',
    schema: v.string(),
  },
  tlsDir: {
    kind: 'value',
    value: 'DIR',
    help: 'Directory with `ca.crt`, `tls.crt` and `tls.key` of the role controller, as `loopcsi tls create` makes it. Changed files are read again. Required.',
    schema: textParsedBy(parseAbsolutePath),
  },
  manageCertificates: {
    kind: 'value',
    value: 'NAMESPACE/PREFIX',
    help: 'Keep an authority and the certificates of controller and agents in Secrets of this namespace, with names of this prefix, and replace them before they expire. Of several controllers, one does it.',
    schema: v.string(),
  },
  nodeRecords: {
    kind: 'value',
    value: 'SOURCE',
    help: 'Where the nodes that were forgotten are recorded (`loopcsi node forget`): `file:///PATH` in a directory that exists, or `configmap://NAMESPACE/NAME`, which exists. Without it, no node can be forgotten.',
    schema: v.string(),
  },
  nodeLossPolicy: {
    kind: 'value',
    value: 'keep|forget',
    default: 'keep',
    help: 'In Kubernetes: `forget` forgets a node whose Node object was deleted `--forget-deleted-nodes-after` ago and whose driver is not reached, as `loopcsi node forget` does. `keep` never does. A node that is only not ready is never forgotten. Needs `--node-records configmap://`.',
    schema: v.picklist(['keep', 'forget'], 'use one of keep, forget'),
  },
  forgetDeletedNodesAfter: {
    kind: 'value',
    value: 'DURATION',
    default: '30m',
    help: 'Time from the deletion of a Node object until `--node-loss-policy forget` forgets the node. A Node that is created again ends it.',
    schema: textParsedBy(parseDuration),
  },
  claimEvents: {
    kind: 'switch',
    value: 'true|false',
    default: 'false',
    help: 'In Kubernetes: tell the owners of claims, by an event, that the node with their data was deleted or has been unreachable for ten minutes. Needs `--node-records configmap://`.',
    schema: v.pipe(
      v.picklist(['true', 'false'], 'use one of true, false'),
      v.transform((value) => value === 'true'),
    ),
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
  {
    [K in Exclude<ControllerKey, 'manageCertificates' | 'nodeRecords'>]: v.InferOutput<
      Table[K]['schema']
    >;
  } & {
    manageCertificates: string | undefined;
    nodeRecords: string | undefined;
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
