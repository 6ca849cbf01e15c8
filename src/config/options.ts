/**
 * The table of options of `loopcsi serve`. Flags, environment variables, keys of the YAML file, the help text and the
 * table in docs/configuration.md are derived from it.
 */
import { hostname } from 'node:os';
import type { Command } from 'commander';
import * as v from 'valibot';
import { fsTypes } from '../host/host.ts';
import { logFormats, logLevels } from '../observe/log.ts';
import { parseBytes, parseDuration } from '../units.ts';
import {
  parseAbsolutePath,
  parseAddress,
  parseCount,
  parseDriverName,
  parseHttpAddress,
  parseNodeId,
  parsePool,
  parsePoolNames,
  parsePositiveInteger,
  parseRate,
  parseSocketPath,
  textParsedBy,
} from './values.ts';

export interface OptionSpec {
  /** On the command line, a `list` may be repeated and a `switch` has no value. */
  readonly kind: 'value' | 'list' | 'switch';
  /** Placeholder of the value in help texts. */
  readonly value: string;
  /** The default as text; absent if the option is unset by default. */
  readonly default?: string;
  /** Description of a default that depends on the machine. */
  readonly defaultText?: string;
  readonly help: string;
  readonly schema: v.GenericSchema<string, unknown>;
}

const oneOf = <const T extends readonly string[]>(...names: T) =>
  v.picklist(names, `use one of ${names.join(', ')}`);

export const optionTable = {
  endpoint: {
    kind: 'value',
    value: 'unix://PATH',
    default: 'unix:///run/loopcsi/csi.sock',
    help: 'Unix socket for CSI and the command line, mode 0600.',
    schema: textParsedBy(parseSocketPath),
  },
  nodeId: {
    kind: 'value',
    value: 'ID',
    default: hostname(),
    defaultText: 'the host name',
    help: 'Name of this node. It must never change: every volume id contains a hash of it. In Kubernetes, use the name of the Node object.',
    schema: textParsedBy(parseNodeId),
  },
  pool: {
    kind: 'list',
    value: 'NAME=DIR[,…]',
    default: 'default=/var/lib/loopcsi/pools/default,create',
    help: 'Directory for volumes; may be repeated. Options follow the directory, each after a comma: `create` (create the pool at the first start, in an empty directory), `reserve=SIZE` or `reserve=PERCENT%` (space that is never promised, default 5%), `overcommit=FACTOR` (default 1.0), `mountpoint=required` (refuse a directory that is not a mount point), `guard=on|off` (freeze thin volumes before the pool is full; default on if overcommit is above 1), `force` (accept tmpfs or overlayfs), `reflink=SIZE` (create an XFS image of that size in the directory and use it as the pool).',
    schema: textParsedBy(parsePool),
  },
  clusterPools: {
    kind: 'value',
    value: 'NAME,…',
    help: 'Names of the pools of all nodes. Set this if a scheduler places volumes by GetCapacity: a StorageClass with an unknown pool or parameter then reaches CreateVolume and gets its error, instead of waiting for capacity forever.',
    schema: textParsedBy(parsePoolNames),
  },
  driverName: {
    kind: 'value',
    value: 'NAME',
    default: 'loopcsi.io',
    help: 'CSI driver name: a domain name of at most 63 characters.',
    schema: textParsedBy(parseDriverName),
  },
  defaultFstype: {
    kind: 'value',
    value: fsTypes.join('|'),
    default: 'ext4',
    help: 'Filesystem of volumes whose request does not specify one.',
    schema: oneOf(...fsTypes),
  },
  defaultSize: {
    kind: 'value',
    value: 'SIZE',
    default: '1Gi',
    help: 'Size of volumes whose request does not specify one.',
    schema: textParsedBy(parseBytes),
  },
  expansion: {
    kind: 'value',
    value: 'both|node',
    default: 'both',
    help: 'Calls that grow volumes: ControllerExpandVolume and NodeExpandVolume, or only the latter, for a resizer that cannot reach this node. Then only the node reports a lack of space.',
    schema: oneOf('both', 'node'),
  },
  kubeletDir: {
    kind: 'value',
    value: 'DIR',
    help: "The kubelet's directory. If set, staging and target paths must be below it, and symlinks below it are not followed.",
    schema: textParsedBy(parseAbsolutePath),
  },
  registrationDir: {
    kind: 'value',
    value: 'DIR',
    help: "The kubelet's plugins_registry directory as the driver sees it. If set, the driver registers itself there; otherwise a registrar sidecar must do so.",
    schema: textParsedBy(parseAbsolutePath),
  },
  kubeletSocket: {
    kind: 'value',
    value: 'PATH',
    help: 'Path of the CSI socket as the kubelet sees it, sent at registration. If not set, the path of --endpoint is sent.',
    schema: textParsedBy(parseAbsolutePath),
  },
  stateDir: {
    kind: 'value',
    value: 'DIR',
    default: '/var/lib/loopcsi',
    help: 'Directory in which the node records the pool last seen at each path. It must be outside all pools.',
    schema: textParsedBy(parseAbsolutePath),
  },
  logLevel: {
    kind: 'value',
    value: logLevels.join('|'),
    default: 'info',
    help: '`info` logs each call that changes something, `debug` also other calls and the programs that are run, `trace` also polling calls and all payloads, with secrets masked.',
    schema: oneOf(...logLevels),
  },
  logFormat: {
    kind: 'value',
    value: logFormats.join('|'),
    default: 'auto',
    help: '`json` logs one JSON object a line, `text` lines for people, `auto` text on a terminal and in the journal of systemd, and JSON elsewhere.',
    schema: oneOf(...logFormats),
  },
  httpAddress: {
    kind: 'value',
    value: 'HOST:PORT|off',
    default: '127.0.0.1:9736',
    help: 'Address of `/metrics`, `/healthz` and `/readyz`. If the default address is in use, the driver runs without them; an address that you set must be free.',
    schema: textParsedBy(parseHttpAddress),
  },
  agentAddress: {
    kind: 'value',
    value: 'HOST:PORT',
    help: 'Network address for `loopcsi controller`, usually with port 9737. The driver serves all of CSI except the Node service there, over mutual TLS with the certificates in `--tls-dir`. If not set, the driver serves no one over the network.',
    schema: textParsedBy((value) => parseAddress(value)),
  },
  tlsDir: {
    kind: 'value',
    value: 'DIR',
    help: 'Directory with `ca.crt`, `tls.crt` and `tls.key` for `--agent-address`. Changed files are used within seconds; if files are missing at the start, the driver waits for them. `loopcsi tls create` makes them.',
    schema: textParsedBy(parseAbsolutePath),
  },
  ephemeralDefaultSize: {
    kind: 'value',
    value: 'SIZE',
    default: '1Gi',
    help: 'Size of inline volumes whose pod does not specify one.',
    schema: textParsedBy(parseBytes),
  },
  ephemeralMaxSize: {
    kind: 'value',
    value: 'SIZE',
    default: '10Gi',
    help: 'Maximum size of an inline volume; any user who may create a pod can request one. 0 disables inline volumes.',
    schema: textParsedBy(parseBytes),
  },
  ephemeralPoolCap: {
    kind: 'value',
    value: 'SIZE',
    default: '50Gi',
    help: 'Maximum total size of the inline volumes of one pool.',
    schema: textParsedBy(parseBytes),
  },
  guardFreezeLimit: {
    kind: 'value',
    value: 'DURATION',
    default: '5m',
    help: 'Maximum time for which the volumes of a nearly full pool stay frozen; after that, writers may get ENOSPC.',
    schema: textParsedBy(parseDuration),
  },
  trimRate: {
    kind: 'value',
    value: 'SIZE',
    default: '1Gi',
    help: 'Maximum number of bytes per second that trims return to a pool; the trims of a pool that runs full are not limited.',
    schema: textParsedBy(parseRate),
  },
  transfers: {
    kind: 'value',
    value: 'NUMBER',
    default: '2',
    help: 'Number of copies that are received from other nodes at a time, and of those that are sent; 0 allows none. For nodes with `--agent-address`.',
    schema: textParsedBy(parseCount),
  },
  transferRate: {
    kind: 'value',
    value: 'SIZE',
    defaultText: 'no limit',
    help: 'Maximum number of bytes per second that all copies to other nodes send together.',
    schema: textParsedBy(parseRate),
  },
  maxVolumes: {
    kind: 'value',
    value: 'NUMBER',
    default: '512',
    help: 'Maximum number of volumes that the scheduler places on this node. A volume needs one loop device, a raw block volume two.',
    schema: textParsedBy(parsePositiveInteger),
  },
  podsCgroup: {
    kind: 'value',
    value: 'DIR',
    help: 'The cgroup (v2) above all processes that use volumes, in which the I/O limits of volumes are set. If not set, it is the cgroup named `kubepods` or `kubepods.slice` below /sys/fs/cgroup, which contains all pods; other platforms must name one, for example /sys/fs/cgroup/system.slice.',
    schema: textParsedBy(parseAbsolutePath),
  },
  withoutStaging: {
    kind: 'switch',
    value: 'true|false',
    default: 'false',
    help: 'Do not offer staging: NodePublishVolume also stages the volume. For Docker Swarm, which does not stage.',
    schema: v.pipe(
      oneOf('true', 'false'),
      v.transform((value) => value === 'true'),
    ),
  },
  dockerSocket: {
    kind: 'value',
    value: 'PATH',
    help: 'Unix socket of the Docker volume plugin API, for example /run/docker/plugins/loopcsi.sock. If not set, Docker is not served.',
    schema: textParsedBy(parseSocketPath),
  },
  mountDir: {
    kind: 'value',
    value: 'DIR',
    default: '/var/lib/loopcsi/docker',
    help: 'Directory in which the driver mounts volumes for Docker and, with --without-staging, stages volumes. dockerd must see the mounts below it.',
    schema: textParsedBy(parseAbsolutePath),
  },
  shutdownTimeout: {
    kind: 'value',
    value: 'DURATION',
    default: '20s',
    help: 'Time within which the driver exits after SIGTERM. Operations still running after half of it are aborted.',
    schema: textParsedBy(parseDuration),
  },
} as const satisfies Readonly<Record<string, OptionSpec>>;

/** The options of a command, by their keys. */
export type OptionTable = Readonly<Record<string, OptionSpec>>;

export type OptionKey = keyof typeof optionTable;
/** All keys, in the order of the help text and the docs. */
export const optionKeys = Object.keys(optionTable) as readonly OptionKey[];

/** Returns the specification of an option, typed as `OptionSpec`. */
export function specOf(key: OptionKey): OptionSpec {
  return optionTable[key];
}

/** Returns the flag of an option, such as `--default-size` for `defaultSize`. */
export function flagOf(key: string): string {
  return `--${key.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

/** Returns the environment variable of an option, such as `LOOPCSI_DEFAULT_SIZE` for `defaultSize`. */
export function environmentVariableOf(key: string): string {
  return `LOOPCSI_${key.replaceAll(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;
}

export function addServeOptions(command: Command): Command {
  return addOptions(command, optionTable);
}

/** Adds the options to a command. `command.opts()` then returns their values as text, under the keys of the table. */
export function addOptions(command: Command, table: OptionTable): Command {
  command.option(
    '--config <FILE>',
    `YAML file with the options below as keys [${environmentVariableOf('config')}]`,
  );
  for (const [key, spec] of Object.entries(table)) {
    const { kind, value, help } = spec;
    const description = `${help.replaceAll('`', '')} [${environmentVariableOf(key)}; ${defaultOf(spec)}]`;
    if (kind === 'switch') command.option(flagOf(key), description);
    else if (kind === 'value') command.option(`${flagOf(key)} <${value}>`, description);
    else command.option(`${flagOf(key)} <${value}>`, description, append);
  }
  return command;
}

function append(value: string, earlier: readonly string[] | undefined): readonly string[] {
  return [...(earlier ?? []), value];
}

function defaultOf(spec: OptionSpec): string {
  return spec.default === undefined
    ? 'not set by default'
    : `default ${spec.defaultText ?? spec.default}`;
}

/** Formats the table for its page, docs/configuration.md or docs/controller.md; a test compares the two. */
export function optionsAsMarkdown(table: OptionTable = optionTable): string {
  const rows = Object.entries(table).map(([key, spec]) => {
    const { kind, value, help } = spec;
    const shown = spec.defaultText ?? (spec.default === undefined ? '' : `\`${spec.default}\``);
    const flag = kind === 'switch' ? flagOf(key) : `${flagOf(key)} ${escapeBars(value)}`;
    return `| \`${flag}\` | \`${environmentVariableOf(key)}\` | \`${key}\` | ${shown} | ${escapeBars(help)} |`;
  });
  return [
    '| Flag | Environment | Key | Default | Meaning |',
    '|---|---|---|---|---|',
    ...rows,
  ].join('\n');
}

function escapeBars(cell: string): string {
  return cell.replaceAll('|', '\\|');
}
