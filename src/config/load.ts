import { readFile } from 'node:fs/promises';
import { isAbsolute, relative } from 'node:path';
import * as v from 'valibot';
import { messageOf } from '../errors.ts';
import type { PoolSettings } from '../volumes/pool/settings.ts';
import {
  environmentVariableOf,
  flagOf,
  type OptionKey,
  type OptionSpec,
  type OptionTable,
  optionTable,
} from './options.ts';

type OptionValues = {
  readonly [K in Exclude<OptionKey, 'pool'>]: v.InferOutput<(typeof optionTable)[K]['schema']>;
};
type OptionalKey =
  | 'agentAddress'
  | 'clusterPools'
  | 'kubeletDir'
  | 'registrationDir'
  | 'kubeletSocket'
  | 'dockerSocket'
  | 'tlsDir'
  | 'transferRate';

/**
 * The validated, frozen configuration. Flags override environment variables, which override the file, which overrides
 * the defaults (docs/configuration.md). `endpoint` and `dockerSocket` are paths, sizes are in bytes, and durations in
 * milliseconds.
 */
export type Config = Readonly<
  Omit<OptionValues, OptionalKey> & { [K in OptionalKey]: OptionValues[K] | undefined } & {
    pools: readonly PoolSettings[];
    /** Options that were set explicitly, as opposed to defaults. */
    explicit: ReadonlySet<OptionKey>;
    /** Size of libuv's thread pool. Only the launcher can set it, before the process starts. */
    threadPoolSize: number;
  }
>;

/** All problems of a configuration. Each contains the flag, variable or key, and says which values are valid. */
export class ConfigError extends Error {
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(problems.join('\n'));
    this.name = 'ConfigError';
    this.problems = problems;
  }
}

/** The texts of an option (more than one only for a list), and the flag, variable or key that set them. */
interface OptionTexts {
  readonly texts: readonly string[];
  readonly origin: string;
}
type Source = (key: string) => OptionTexts | undefined;

/** The validated values of the options of a table: several only for a list. */
interface LoadedOptions {
  readonly values: ReadonlyMap<string, readonly unknown[]>;
  /** Options that were set explicitly, as opposed to defaults. */
  readonly explicit: ReadonlySet<string>;
}

/**
 * Loads the configuration. `flags` are the options as parsed by commander: texts under the keys of the option table and
 * `config`. Throws a single `ConfigError` with all problems.
 */
export async function loadConfig(
  flags: Readonly<Record<string, unknown>>,
  environmentVariables: Readonly<Record<string, string | undefined>>,
): Promise<Config> {
  const { values, explicit } = await loadOptions(optionTable, flags, environmentVariables);
  const single = [...values]
    .filter(([key]) => key !== 'pool')
    .map(([key, [value]]) => [key, value]);
  const threadPoolSize = Number(environmentVariables['UV_THREADPOOL_SIZE'] ?? 4);
  // The cast is safe: each value has passed the schema of its key, and Config is inferred from these schemas.
  const config = {
    ...Object.fromEntries(single),
    pools: values.get('pool') ?? [],
    explicit,
    threadPoolSize,
  } as Config;
  checkCombinations(config);
  return Object.freeze(config);
}

/** Loads the options of any table, from the same sources as `loadConfig`. */
export async function loadOptions(
  table: OptionTable,
  flags: Readonly<Record<string, unknown>>,
  environmentVariables: Readonly<Record<string, string | undefined>>,
): Promise<LoadedOptions> {
  const fromFlags: Source = (key) => textsOf(flags[key], `flag ${flagOf(key)}`);
  const fromEnvironment: Source = (key) => {
    const value = environmentVariables[environmentVariableOf(key)];
    if (value === undefined || value === '') return undefined;
    const texts =
      table[key]?.kind === 'list' ? value.split(/\s+/).filter((text) => text !== '') : [value];
    return { texts, origin: `environment variable ${environmentVariableOf(key)}` };
  };
  const file = flags['config'] ?? environmentVariables[environmentVariableOf('config')];
  const { source: fromFile, problems } =
    typeof file === 'string' && file !== '' ? await fileSource(file, Object.keys(table)) : noFile;
  return parseOptions(table, [fromFlags, fromEnvironment, fromFile], problems);
}

export function environment(): Readonly<Record<string, string | undefined>> {
  return process.env;
}

/** Variables of the launcher and the project's scripts, and those that Kubernetes sets for a Service named loopcsi. */
const otherVariables = /^LOOPCSI_(?:CACHE|CONFIG|NODE|(?:.*_)?(?:SERVICE|PORT)(?:_.*)?)$/;

/**
 * Returns variables that have the prefix of the options but match none, so that they can be logged: a misspelt option
 * would silently keep its default.
 */
export function unknownVariables(
  variables: Readonly<Record<string, string | undefined>>,
  table: OptionTable = optionTable,
): readonly string[] {
  const known = new Set(Object.keys(table).map(environmentVariableOf));
  return Object.keys(variables).filter(
    (name) => name.startsWith('LOOPCSI_') && !known.has(name) && !otherVariables.test(name),
  );
}

function textsOf(value: unknown, origin: string): OptionTexts | undefined {
  if (value === undefined || value === null) return undefined;
  const values: readonly unknown[] = Array.isArray(value) ? value : [value];
  const texts = values.map((one) => {
    if (typeof one === 'string') return one;
    if (typeof one === 'number' || typeof one === 'boolean') return String(one);
    throw new ConfigError([`${origin}: use plain text, a number, or a list of texts`]);
  });
  return { texts, origin };
}

/** The options of a file, and the problems of its keys that do not keep others from being checked. */
interface FileSource {
  readonly source: Source;
  readonly problems: readonly string[];
}

const noFile: FileSource = { source: () => undefined, problems: [] };

async function fileSource(path: string, keys: readonly string[]): Promise<FileSource> {
  // Imported on demand: loading takes 45 ms, and most configurations have no file.
  const { parse } = await import('yaml');
  let content: unknown;
  try {
    content = parse(await readFile(path, 'utf8'));
  } catch (error) {
    throw new ConfigError([`configuration file ${path}: ${messageOf(error)}`]);
  }
  const decoded = v.safeParse(v.nullish(v.record(v.string(), v.unknown())), content);
  if (!decoded.success || Array.isArray(content)) {
    throw new ConfigError([`configuration file ${path}: use lines of the form 'key: value'`]);
  }
  const entries = decoded.output ?? {};
  const unknown = Object.keys(entries).filter((key) => !keys.includes(key));
  return {
    source: (key) => textsOf(entries[key], `key ${key} in ${path}`),
    problems: unknown.map(
      (key) => `key ${key} in ${path} is not known; known keys: ${keys.join(', ')}`,
    ),
  };
}

function parseOptions(
  table: OptionTable,
  sources: readonly Source[],
  earlierProblems: readonly string[],
): LoadedOptions {
  const problems = [...earlierProblems];
  const explicit = new Set<string>();
  const valuesOf = ([key, spec]: [key: string, spec: OptionSpec]): readonly unknown[] => {
    const found = firstTextsOf(sources, key, problems);
    if (found !== undefined) explicit.add(key);
    const { texts, origin } = found ?? {
      texts: spec.default === undefined ? [] : [spec.default],
      origin: `default of ${flagOf(key)} (set the flag, ${environmentVariableOf(key)} or the key ${key})`,
    };
    if (texts.length > 1 && spec.kind !== 'list')
      problems.push(`${origin}: accepts only one value`);
    return texts.flatMap((text) => {
      const result = v.safeParse(spec.schema, text);
      if (result.success) return [result.output];
      problems.push(`${origin}: ${result.issues[0].message}`);
      return [];
    });
  };
  const values = new Map(Object.entries(table).map((entry) => [entry[0], valuesOf(entry)]));
  if (problems.length > 0) throw new ConfigError(problems);
  return { values, explicit };
}

/** Returns the texts of the first source that has the option. Adds a value that is not a text to `problems`. */
function firstTextsOf(
  sources: readonly Source[],
  key: string,
  problems: string[],
): OptionTexts | undefined {
  try {
    return sources.map((source) => source(key)).find((one) => one !== undefined);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    problems.push(...error.problems);
    return undefined;
  }
}

/** Checks the rules that involve more than one option. */
function checkCombinations(config: Config): void {
  const problems: string[] = [];
  if (config.pools.length === 0)
    problems.push('flag --pool: at least one pool is needed; add --pool NAME=DIR');
  const allowsInline = config.ephemeralMaxSize > 0n;
  if (allowsInline && config.ephemeralDefaultSize > config.ephemeralMaxSize) {
    problems.push(
      'flag --ephemeral-default-size: must not exceed --ephemeral-max-size; lower it, or raise --ephemeral-max-size',
    );
  }
  for (const [index, pool] of config.pools.entries()) {
    for (const other of config.pools.slice(index + 1)) {
      if (pool.name === other.name) {
        problems.push(
          `flag --pool: two pools are named '${pool.name}'; give each pool its own name`,
        );
      } else if (overlaps(pool.path, other.path)) {
        problems.push(
          `flag --pool: the directories of '${pool.name}' (${pool.path}) and '${other.name}' (${other.path}) overlap; choose separate directories`,
        );
      }
    }
    const usesMountDir = config.dockerSocket !== undefined || config.withoutStaging;
    if (usesMountDir && overlaps(config.mountDir, pool.path)) {
      problems.push(
        `flag --mount-dir: ${config.mountDir} and pool '${pool.name}' (${pool.path}) overlap; choose separate directories`,
      );
    }
    if (isWithin(config.stateDir, pool.path)) {
      problems.push(
        `flag --state-dir: ${config.stateDir} is in pool '${pool.name}' (${pool.path}); choose a directory outside of it, because it must outlive the pool's disk`,
      );
    }
  }
  if (config.agentAddress !== undefined && config.tlsDir === undefined) {
    problems.push(
      'flag --agent-address: needs certificates; add --tls-dir DIR (`loopcsi tls create` makes them)',
    );
  }
  if (config.agentAddress === undefined && config.tlsDir !== undefined) {
    problems.push(
      'flag --tls-dir: nothing uses it without --agent-address; add --agent-address HOST:PORT, or remove it',
    );
  }
  if (problems.length > 0) throw new ConfigError(problems);
}

function isWithin(path: string, directory: string): boolean {
  const steps = relative(directory, path);
  return steps === '' || (!steps.startsWith('../') && steps !== '..' && !isAbsolute(steps));
}

function overlaps(a: string, b: string): boolean {
  return isWithin(a, b) || isWithin(b, a);
}

/** Converts the configuration for the log, which cannot contain a set. No option contains a secret. */
export function configForLog({ explicit, ...values }: Config): Readonly<Record<string, unknown>> {
  return { ...values, explicit: [...explicit] };
}
