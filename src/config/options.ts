/**
 * The options of `loopcsi serve`, once: the command line's flags, the environment, the keys of the YAML file, the help text
 * and the table of docs/configuration.md are derived from this table.
 */
import { hostname } from 'node:os';
import type { Command } from 'commander';
import * as v from 'valibot';
import { fsTypes } from '../host/host.ts';
import { logLevels } from '../observe/log.ts';
import {
  absolutePath,
  bytes,
  driverName,
  duration,
  httpAddress,
  nodeId,
  pool,
  poolNames,
  positiveInteger,
  socketPath,
  text,
} from './values.ts';

interface Spec {
  /** `list` may be given again on the command line; `switch` takes no value there. */
  readonly kind: 'value' | 'list' | 'switch';
  /** What stands for the value in help texts. */
  readonly value: string;
  /** Text of the default; absent: the option is off or unset. */
  readonly default?: string;
  /** How the docs write a default that depends on the machine. */
  readonly defaultWords?: string;
  readonly help: string;
  readonly schema: v.GenericSchema<string, unknown>;
}

const oneOf = <const T extends readonly string[]>(...names: T) =>
  v.picklist(names, `write one of ${names.join(', ')}`);

export const optionTable = {
  endpoint: {
    kind: 'value',
    value: 'unix://PATH',
    default: 'unix:///run/loopcsi/csi.sock',
    help: 'Socket that CSI and the command line are served on, mode 0600.',
    schema: text(socketPath),
  },
  nodeId: {
    kind: 'value',
    value: 'ID',
    default: hostname(),
    defaultWords: 'the host name',
    help: 'Name of this node, for ever: every volume id carries a hash of it. In Kubernetes the name of the Node object.',
    schema: text(nodeId),
  },
  pool: {
    kind: 'list',
    value: 'NAME=DIR[,…]',
    default: 'default=/var/lib/loopcsi/pools/default,create',
    help: 'A directory that volumes are kept in; several are possible. Behind the directory, each after a comma: `create` (make the pool in an empty directory at the first start), `reserve=SIZE` or `reserve=PERCENT%` (kept free for others, default 5%), `overcommit=FACTOR` (default 1.0), `mountpoint=required` (refuse a directory that is no mount), `guard=on|off` (make thin volumes wait before the pool is full; default on where overcommit is above 1), `force` (accept tmpfs or overlayfs), `reflink=SIZE` (an embedded XFS image as the pool).',
    schema: text(pool),
  },
  clusterPools: {
    kind: 'value',
    value: 'NAME,…',
    help: 'Names of the pools of all nodes, where a scheduler places volumes by GetCapacity: a class that names none of them, or has an unknown parameter, then reaches CreateVolume, whose refusal says so, instead of waiting for room.',
    schema: text(poolNames),
  },
  driverName: {
    kind: 'value',
    value: 'NAME',
    default: 'loopcsi.io',
    help: 'Name of the driver: a domain name of at most 63 characters.',
    schema: text(driverName),
  },
  defaultFstype: {
    kind: 'value',
    value: fsTypes.join('|'),
    default: 'ext4',
    help: 'Filesystem of volumes whose request leaves it open.',
    schema: oneOf(...fsTypes),
  },
  defaultSize: {
    kind: 'value',
    value: 'SIZE',
    default: '1Gi',
    help: 'Size of volumes whose request leaves it open.',
    schema: text(bytes),
  },
  expansion: {
    kind: 'value',
    value: 'both|node',
    default: 'both',
    help: 'Who grows volumes: controller and node, or the node alone, for a resizer that cannot reach this node (then lack of room shows on the node).',
    schema: oneOf('both', 'node'),
  },
  kubeletDir: {
    kind: 'value',
    value: 'DIR',
    help: "The kubelet's directory. Staging and target paths must then lie below it, and no symlink below it is followed.",
    schema: text(absolutePath),
  },
  registrationDir: {
    kind: 'value',
    value: 'DIR',
    help: "The kubelet's plugins_registry directory as the driver sees it: the driver registers itself there. Without it a registrar beside the driver has to.",
    schema: text(absolutePath),
  },
  kubeletSocket: {
    kind: 'value',
    value: 'PATH',
    help: 'Path of the CSI socket as the kubelet sees it, told at registration; without it, the path of --endpoint.',
    schema: text(absolutePath),
  },
  stateDir: {
    kind: 'value',
    value: 'DIR',
    default: '/var/lib/loopcsi',
    help: 'Where the node remembers which pool it has seen where; outside all pools.',
    schema: text(absolutePath),
  },
  logLevel: {
    kind: 'value',
    value: logLevels.join('|'),
    default: 'info',
    help: '`info` has one line for each call that changes something, `debug` each program, `trace` every call with its payload, secrets removed.',
    schema: oneOf(...logLevels),
  },
  httpAddress: {
    kind: 'value',
    value: 'HOST:PORT|off',
    default: '127.0.0.1:9736',
    help: 'Where `/metrics`, `/healthz` and `/readyz` are served. When the default address is taken the driver goes on without; an address that was asked for must be free.',
    schema: text(httpAddress),
  },
  ephemeralDefaultSize: {
    kind: 'value',
    value: 'SIZE',
    default: '1Gi',
    help: 'Size of inline ephemeral volumes that name none.',
    schema: text(bytes),
  },
  ephemeralMaxSize: {
    kind: 'value',
    value: 'SIZE',
    default: '10Gi',
    help: 'Largest inline ephemeral volume: any author of a pod may ask for one. 0: none are offered.',
    schema: text(bytes),
  },
  ephemeralPoolCap: {
    kind: 'value',
    value: 'SIZE',
    default: '50Gi',
    help: 'Sum of all inline ephemeral volumes of one pool.',
    schema: text(bytes),
  },
  guardFreezeLimit: {
    kind: 'value',
    value: 'DURATION',
    default: '5m',
    help: 'The longest that the volumes of a nearly full pool are made to wait; afterwards their writers may meet ENOSPC.',
    schema: text(duration),
  },
  maxVolumes: {
    kind: 'value',
    value: 'NUMBER',
    default: '512',
    help: 'Volumes the scheduler may place on this node. A volume needs a loop device, a raw block volume two.',
    schema: text(positiveInteger),
  },
  withoutStaging: {
    kind: 'switch',
    value: 'true|false',
    default: 'false',
    help: 'Offer no staging: publishing does the whole work. For Docker Swarm, which does not stage.',
    schema: v.pipe(
      oneOf('true', 'false'),
      v.transform((word) => word === 'true'),
    ),
  },
  dockerSocket: {
    kind: 'value',
    value: 'PATH',
    help: 'Socket for the Docker volume plugin API, for example /run/docker/plugins/loopcsi.sock; without it Docker is not served.',
    schema: text(socketPath),
  },
  mountDir: {
    kind: 'value',
    value: 'DIR',
    default: '/var/lib/loopcsi/docker',
    help: 'Where the driver mounts volumes for Docker, and below which it stages with --without-staging. dockerd must see what is mounted there.',
    schema: text(absolutePath),
  },
  shutdownTimeout: {
    kind: 'value',
    value: 'DURATION',
    default: '20s',
    help: 'The driver ends within this time after SIGTERM: running operations may go on for the first half, then they are told to stop.',
    schema: text(duration),
  },
} as const satisfies Readonly<Record<string, Spec>>;

export type OptionKey = keyof typeof optionTable;
/** Also the order of help and docs. */
export const optionKeys = Object.keys(optionTable) as readonly OptionKey[];

/** One option with everything that the table leaves open filled in. */
export function specOf(key: OptionKey): Spec {
  return optionTable[key];
}

/** `--default-size` for `defaultSize`. */
export function flagOf(key: string): string {
  return `--${key.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

/** `LOOPCSI_DEFAULT_SIZE` for `defaultSize`. */
export function environmentOf(key: string): string {
  return `LOOPCSI_${key.replaceAll(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;
}

/** Puts the options on a command; their values arrive in `command.opts()` under the keys of the table, as text. */
export function addServeOptions(command: Command): Command {
  command.option(
    '--config <FILE>',
    `YAML file with the options below [${environmentOf('config')}]`,
  );
  for (const key of optionKeys) {
    const { kind, value, help } = specOf(key);
    const words = `${help.replaceAll('`', '')} [${environmentOf(key)}; ${defaultOf(key)}]`;
    if (kind === 'switch') command.option(flagOf(key), words);
    else if (kind === 'value') command.option(`${flagOf(key)} <${value}>`, words);
    else command.option(`${flagOf(key)} <${value}>`, words, append);
  }
  return command;
}

function append(value: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), value];
}

function defaultOf(key: OptionKey): string {
  const spec = specOf(key);
  return spec.default === undefined
    ? 'not set by default'
    : `default ${spec.defaultWords ?? spec.default}`;
}

/** The table of docs/configuration.md; a test compares. */
export function optionsAsMarkdown(): string {
  const rows = optionKeys.map((key) => {
    const { kind, value, help } = specOf(key);
    const spec = specOf(key);
    const shown = spec.defaultWords ?? (spec.default === undefined ? '' : `\`${spec.default}\``);
    const flag = kind === 'switch' ? flagOf(key) : `${flagOf(key)} ${value.replaceAll('|', '\\|')}`;
    return `| \`${flag}\` | \`${environmentOf(key)}\` | \`${key}\` | ${shown} | ${help} |`;
  });
  return [
    '| Flag | Environment | Key | Default | Meaning |',
    '|---|---|---|---|---|',
    ...rows,
  ].join('\n');
}
