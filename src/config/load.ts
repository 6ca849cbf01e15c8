import { readFile } from 'node:fs/promises';
import { isAbsolute, relative } from 'node:path';
import * as v from 'valibot';
import { messageOf } from '../errors.ts';
import type { PoolSettings } from '../volumes/pools/pool-settings.ts';
import {
  environmentOf,
  flagOf,
  type OptionKey,
  optionKeys,
  type optionTable,
  specOf,
} from './options.ts';

type Values = {
  readonly [K in Exclude<OptionKey, 'pool'>]: v.InferOutput<(typeof optionTable)[K]['schema']>;
};
type Optional =
  | 'clusterPools'
  | 'kubeletDir'
  | 'registrationDir'
  | 'kubeletSocket'
  | 'dockerSocket';

/**
 * What the process was told, validated and frozen: flags over environment over file over defaults (docs/configuration.md).
 * `endpoint` and `dockerSocket` are socket paths, sizes bytes, durations milliseconds.
 */
export type Config = Readonly<
  Omit<Values, Optional> & { [K in Optional]: Values[K] | undefined } & {
    pools: readonly PoolSettings[];
    /** Options that a person set, rather than defaults. */
    explicit: ReadonlySet<OptionKey>;
    /** Threads of libuv's pool, which the launcher sets: it cannot be set later. */
    threadPoolSize: number;
  }
>;

/** Everything that is wrong with the configuration, each with the place it came from and what to write. */
export class ConfigError extends Error {
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(problems.join('\n'));
    this.name = 'ConfigError';
    this.problems = problems;
  }
}

/** Text of an option and where it stood. */
interface Given {
  readonly texts: readonly string[];
  readonly place: string;
}
type Source = (key: OptionKey) => Given | undefined;

/**
 * Reads the configuration. `flags` is what commander made of the command line (keys of the option table, and `config`), with
 * texts as values. Throws `ConfigError` with every problem, not only the first.
 */
export async function loadConfig(
  flags: Readonly<Record<string, unknown>>,
  environmentVariables: Readonly<Record<string, string | undefined>>,
): Promise<Config> {
  const fromFlags: Source = (key) => given(flags[key], `flag ${flagOf(key)}`);
  const fromEnvironment: Source = (key) => {
    const value = environmentVariables[environmentOf(key)];
    if (value === undefined || value === '') return undefined;
    const texts =
      specOf(key).kind === 'list' ? value.split(/\s+/).filter((word) => word !== '') : [value];
    return { texts, place: `environment variable ${environmentOf(key)}` };
  };
  const file = flags['config'] ?? environmentVariables[environmentOf('config')];
  const fromFile =
    typeof file === 'string' && file !== '' ? await readSource(file) : () => undefined;
  const config = decode([fromFlags, fromEnvironment, fromFile]);
  const threadPoolSize = Number(environmentVariables['UV_THREADPOOL_SIZE'] ?? 4);
  return Object.freeze({ ...config, threadPoolSize });
}

/** The environment of this process, for `loadConfig`. */
export function environment(): Readonly<Record<string, string | undefined>> {
  return process.env;
}

/** Of the scripts, and what Kubernetes tells of a Service. */
const othersVariables = /^LOOPCSI_(?:CACHE|CONFIG|(?:.*_)?(?:SERVICE|PORT)(?:_.*)?)$/;

/** Variables that look like options and are none: a misspelt one would pass for its default. */
export function unknownVariables(
  variables: Readonly<Record<string, string | undefined>>,
): readonly string[] {
  const known = new Set(optionKeys.map(environmentOf));
  return Object.keys(variables).filter(
    (name) => name.startsWith('LOOPCSI_') && !known.has(name) && !othersVariables.test(name),
  );
}

function given(value: unknown, place: string): Given | undefined {
  if (value === undefined || value === null) return undefined;
  const values: readonly unknown[] = Array.isArray(value) ? value : [value];
  const texts = values.map((one) => {
    if (typeof one === 'string') return one;
    if (typeof one === 'number' || typeof one === 'boolean') return String(one);
    throw new ConfigError([`${place}: write plain text, a number, or a list of texts`]);
  });
  return { texts, place };
}

async function readSource(path: string): Promise<Source> {
  // 45 ms to load, and most starts have no file.
  const { parse } = await import('yaml');
  let content: unknown;
  try {
    content = parse(await readFile(path, 'utf8'));
  } catch (error) {
    throw new ConfigError([`configuration file ${path}: ${messageOf(error)}`]);
  }
  const decoded = v.safeParse(v.nullish(v.record(v.string(), v.unknown())), content);
  if (!decoded.success || Array.isArray(content)) {
    throw new ConfigError([`configuration file ${path}: write 'key: value' lines`]);
  }
  const entries = decoded.output ?? {};
  const unknown = Object.keys(entries).filter((key) => !optionKeys.some((known) => known === key));
  if (unknown.length > 0) {
    throw new ConfigError(
      unknown.map(
        (key) => `key ${key} in ${path} is not known; known are ${optionKeys.join(', ')}`,
      ),
    );
  }
  return (key) => given(entries[key], `key ${key} in ${path}`);
}

function decode(sources: readonly Source[]): Omit<Config, 'threadPoolSize'> {
  const problems: string[] = [];
  const explicit = new Set<OptionKey>();
  const valuesOf = (key: OptionKey): readonly unknown[] => {
    const spec = specOf(key);
    const found = sources.map((source) => source(key)).find((one) => one !== undefined);
    if (found !== undefined) explicit.add(key);
    const { texts, place } = found ?? {
      texts: spec.default === undefined ? [] : [spec.default],
      place: `default of ${flagOf(key)} (set the flag, ${environmentOf(key)} or the key ${key})`,
    };
    if (texts.length > 1 && spec.kind !== 'list') problems.push(`${place}: takes one value`);
    return texts.flatMap((text) => {
      const result = v.safeParse(spec.schema, text);
      if (result.success) return [result.output];
      problems.push(`${place}: ${result.issues[0].message}`);
      return [];
    });
  };
  const entries = optionKeys.map((key) => [key, valuesOf(key)] as const);
  if (problems.length > 0) throw new ConfigError(problems);
  const single = entries.filter(([key]) => key !== 'pool').map(([key, [value]]) => [key, value]);
  const pools = entries.find(([key]) => key === 'pool')?.[1] ?? [];
  // Every value has just passed the schema of its key, from which the type is inferred.
  const config = { ...Object.fromEntries(single), pools, explicit } as Omit<
    Config,
    'threadPoolSize'
  >;
  checkTogether(config);
  return config;
}

/** Rules that need more than one option. */
function checkTogether(config: Omit<Config, 'threadPoolSize'>): void {
  const problems: string[] = [];
  if (config.pools.length === 0) problems.push('flag --pool: at least one pool is needed');
  const offersInline = config.ephemeralMaxSize > 0n;
  if (offersInline && config.ephemeralDefaultSize > config.ephemeralMaxSize) {
    problems.push(
      'flag --ephemeral-default-size: must not be above --ephemeral-max-size; lower it or raise the other',
    );
  }
  for (const [index, pool] of config.pools.entries()) {
    for (const other of config.pools.slice(index + 1)) {
      if (pool.name === other.name) {
        problems.push(`flag --pool: two pools are named '${pool.name}'; give each its own name`);
      } else if (overlap(pool.path, other.path)) {
        problems.push(
          `flag --pool: '${pool.name}' (${pool.path}) and '${other.name}' (${other.path}) lie within each other; choose separate directories`,
        );
      }
    }
    const mountsForItself = config.dockerSocket !== undefined || config.withoutStaging;
    if (mountsForItself && overlap(config.mountDir, pool.path)) {
      problems.push(
        `flag --mount-dir: ${config.mountDir} and pool '${pool.name}' (${pool.path}) lie within each other; choose separate directories`,
      );
    }
    if (isWithin(config.stateDir, pool.path)) {
      problems.push(
        `flag --state-dir: ${config.stateDir} lies in pool '${pool.name}'; it must outlive the pool's disk, choose a directory outside`,
      );
    }
  }
  if (problems.length > 0) throw new ConfigError(problems);
}

function isWithin(path: string, directory: string): boolean {
  const way = relative(directory, path);
  return way === '' || (!way.startsWith('../') && way !== '..' && !isAbsolute(way));
}

function overlap(a: string, b: string): boolean {
  return isWithin(a, b) || isWithin(b, a);
}

/** The configuration as one log line has it: no option holds a secret; byte counts become text. */
export function configForLog(config: Config): Readonly<Record<string, unknown>> {
  const { explicit, ...values } = config;
  const shown = JSON.stringify(values, (_key, value: unknown) =>
    typeof value === 'bigint' ? value.toString() : value,
  );
  return { ...(JSON.parse(shown) as Record<string, unknown>), explicit: [...explicit] };
}
