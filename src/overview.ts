/** What a driver that was started on a terminal serves, what to try next, and how to stop it. */
import { realpath } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { Config } from './config/load.ts';
import { optionTable } from './config/options.ts';
import { formatBytes, GiB } from './units.ts';
import type { PoolFacts } from './volumes/admin/pools/facts.ts';

/** The part of a pool's facts that is shown. */
export type ShownPool = Pick<
  PoolFacts,
  'settings' | 'problem' | 'abilities' | 'capacityBytes' | 'volumeCount'
>;

interface Overview {
  readonly version: string;
  readonly config: Pick<Config, 'endpoint' | 'dockerSocket' | 'httpAddress'>;
  /** undefined if metrics and health are not served. */
  readonly httpPort: number | undefined;
  readonly pools: readonly ShownPool[];
  /** The beginning of a command line in another terminal, as from `commandName`. */
  readonly command: string;
}

/** dockerd finds plugins by the names of their sockets here. */
const pluginDirectory = '/run/docker/plugins';

export function overviewOf(overview: Overview): string {
  const rows = [...socketRows(overview), ...overview.pools.map(poolRow)];
  const width = Math.max(...rows.map(([title]) => title.length));
  return [
    '',
    `loopcsi ${overview.version} is ready.`,
    '',
    ...rows.map(([title, text]) => `  ${title.padEnd(width)}  ${text}`),
    '',
    'To try in another terminal:',
    '',
    ...commandsToTry(overview).map((line) => `  ${line}`),
    '',
    'Ctrl-C stops the driver. Mounted volumes stay mounted.',
    '',
  ].join('\n');
}

type Row = readonly [title: string, text: string];

function socketRows({ config, httpPort }: Overview): readonly Row[] {
  const { dockerSocket, endpoint, httpAddress } = config;
  const docker =
    dockerSocket ?? `not served; --docker-socket ${pluginDirectory}/loopcsi.sock serves it`;
  const http =
    httpPort === undefined || httpAddress === undefined
      ? 'not served'
      : `http://${httpAddress.host}:${httpPort}/metrics and /readyz`;
  return [
    ['CSI and command line', endpoint],
    ['Docker', docker],
    ['Metrics and health', http],
  ];
}

function poolRow({ settings, problem, abilities, capacityBytes, volumeCount }: ShownPool): Row {
  const title = `Pool ${settings.name}`;
  if (problem !== undefined)
    return [title, `not served: ${problem.replace(`pool '${settings.name}': `, '')}`];
  const volumes = `${volumeCount} ${volumeCount === 1 ? 'volume' : 'volumes'}`;
  const facts = [abilities?.filesystem ?? '', volumes, `${formatBytes(capacityBytes)} available`];
  return [title, [settings.path, ...facts.filter((fact) => fact !== '')].join(', ')];
}

/** Each command works as it is printed. */
function commandsToTry(overview: Overview): readonly string[] {
  const { config, pools, command } = overview;
  const endpoint =
    `unix://${config.endpoint}` === optionTable.endpoint.default
      ? ''
      : ` --endpoint unix://${config.endpoint}`;
  const own = (line: string): string => `${command} ${line}${endpoint}`;
  const pool = pools
    .filter(({ problem }) => problem === undefined)
    .toSorted((a, b) => Number(b.capacityBytes - a.capacityBytes))[0];
  if (pool === undefined || pool.capacityBytes < GiB) return [own('pool list'), own('doctor')];
  if (pools.some(({ volumeCount }) => volumeCount > 0)) return [own('volume list'), own('doctor')];
  // With several pools, a volume that names none waits while one of them is not served.
  const choice = pools.length > 1 ? ` --pool ${pool.settings.name}` : '';
  return [
    own(`volume create data --size 1Gi${choice}`),
    own('volume mount data /mnt/data'),
    own('volume list'),
    own('doctor'),
    ...dockerCommands(config.dockerSocket),
  ];
}

function dockerCommands(socket: string | undefined): readonly string[] {
  if (socket === undefined || dirname(socket) !== pluginDirectory) return [];
  const driver = basename(socket, '.sock');
  return [`docker volume create --driver ${driver} --opt size=1Gi cache`];
}

/** The directories of every user's PATH, also with sudo. The PATH of this process may have others. */
const usualDirectories = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin'];

/**
 * Returns the name by which another terminal finds this program: `loopcsi` if it is installed, else the path of its launcher. Prefixed
 * by sudo if the driver was started with it.
 */
export async function commandName(
  variables: Readonly<Record<string, string | undefined>>,
): Promise<string> {
  // The compiled file is in dist/src/ or dist/bundle/.
  const launcher = join(import.meta.dirname, '..', '..', 'bin', 'loopcsi');
  const installed = await Promise.all(
    usualDirectories.map((directory) => realpath(join(directory, 'loopcsi')).catch(() => '')),
  );
  const first = installed.find((path) => path !== '');
  const sudo = (variables['SUDO_USER'] ?? '') === '' ? '' : 'sudo ';
  return `${sudo}${first === launcher ? 'loopcsi' : launcher}`;
}
