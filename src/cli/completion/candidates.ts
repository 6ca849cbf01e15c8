/** Finds what may be typed next in a command line, from the commands, flags and choices that the program defines. */
import type { Argument, Command, Option } from 'commander';
import type { TypedLine } from './words.ts';

export interface Candidate {
  readonly value: string;
  readonly description: string;
}

/** Names that only the driver knows. */
export const nameKinds = [
  'volumes',
  'claims',
  'snapshots',
  'groups',
  'pools',
  'sources',
  'controlled-nodes',
] as const;
export type NameKind = (typeof nameKinds)[number];

/** Names that only kubectl knows. */
const clusterNameKinds = ['nodes', 'namespaces', 'contexts'] as const;
export type ClusterNameKind = (typeof clusterNameKinds)[number];

export function isClusterNameKind(kind: NameKind | ClusterNameKind): kind is ClusterNameKind {
  return clusterNameKinds.some((one) => one === kind);
}

/** What may follow. `names` and the paths are to be added by the caller and the shell. */
export interface Expected {
  readonly candidates: readonly Candidate[];
  /** Precedes each value in the same word, as in `--pool=fast`. */
  readonly prefix: string;
  readonly names?: NameKind | ClusterNameKind;
  readonly paths?: 'files' | 'directories';
  /** The values of flags on the line, by the long name of the flag. */
  readonly given?: GivenFlags;
}

export type GivenFlags = Readonly<Record<string, string>>;

/** Placeholders of arguments and values, as in `<volume>` or `--pool <POOL>`, and how they are completed. */
const placeholders: Readonly<Record<string, NameKind | ClusterNameKind | 'files' | 'directories'>> =
  {
    volume: 'volumes',
    claim: 'claims',
    snapshot: 'snapshots',
    base: 'snapshots',
    target: 'snapshots',
    group: 'groups',
    pool: 'pools',
    'snapshot:id|volume:id': 'sources',
    node: 'nodes',
    'node-id': 'controlled-nodes',
    namespace: 'namespaces',
    context: 'contexts',
    dir: 'directories',
    directory: 'directories',
    file: 'files',
    // A shell completes directories on the way to files, too.
    source: 'files',
  };

const nothing: Expected = { candidates: [], prefix: '' };

/** What the words before the cursor have established. */
interface Position {
  readonly command: Command;
  /** Number of arguments of the command. */
  readonly argumentCount: number;
  /** The flag whose value comes next. */
  readonly flag?: Option;
  /** Only arguments follow, after `--`. */
  readonly isPlain: boolean;
  readonly given: GivenFlags;
}

export function expectedNext(program: Command, { before, current }: TypedLine): Expected {
  const position = before.reduce<Position | undefined>(
    (reached, word) => (reached === undefined ? undefined : advance(reached, word)),
    { command: program, argumentCount: 0, isPlain: false, given: {} },
  );
  if (position === undefined) return nothing;
  const { given } = position;
  const expected = expectedAt(position, current);
  return Object.keys(given).length === 0 ? expected : { ...expected, given };
}

/** Returns undefined after an unknown command or flag. */
function advance(position: Position, word: string): Position | undefined {
  const { command, argumentCount, flag, isPlain } = position;
  if (flag !== undefined) {
    const { flag: _, ...rest } = position;
    return { ...rest, given: withValue(rest.given, flag, word) };
  }
  if (isPlain) return { ...position, argumentCount: argumentCount + 1 };
  if (word === '--') return { ...position, isPlain: true };
  if (word.startsWith('-') && word !== '-') return afterFlag(position, word);
  if (command.commands.length === 0) return { ...position, argumentCount: argumentCount + 1 };
  const child = command.commands.find((one) => one.name() === word || one.aliases().includes(word));
  if (child === undefined) return undefined;
  // `help volume create` has the names of commands as its arguments.
  return child.name() === 'help' ? position : { ...position, command: child };
}

function afterFlag(position: Position, word: string): Position | undefined {
  const [name = '', value] = word.split(/=(.*)/s);
  const flag = flagsOf(position.command).find(({ long, short }) => name === long || name === short);
  // `-ojson`, or several short flags in one word.
  if (flag === undefined) return /^-\w\w/.test(word) ? position : undefined;
  if (value !== undefined) return { ...position, given: withValue(position.given, flag, value) };
  return flag.required || flag.optional ? { ...position, flag } : position;
}

function withValue(given: GivenFlags, { long }: Option, value: string): GivenFlags {
  return long === undefined ? given : { ...given, [long]: value };
}

/** The flags of a command and of the commands above it. */
function flagsOf(command: Command | null): readonly Option[] {
  if (command === null) return [];
  const own = command.createHelp().visibleOptions(command);
  return [
    ...own,
    ...flagsOf(command.parent).filter((one) => !['--version', '--help'].includes(one.long ?? '')),
  ];
}

function expectedAt(
  { command, argumentCount, flag, isPlain }: Position,
  current: string,
): Expected {
  if (flag !== undefined) return valuesOf(flag, placeholderOf(flag));
  if (!isPlain && current.startsWith('-')) {
    const [name = '', value] = current.split(/=(.*)/s);
    if (value === undefined) return { ...nothing, candidates: flagCandidates(command) };
    const given = flagsOf(command).find(({ long }) => name === long);
    return given === undefined
      ? nothing
      : { ...valuesOf(given, placeholderOf(given)), prefix: `${name}=` };
  }
  if (command.commands.length > 0) return { ...nothing, candidates: commandCandidates(command) };
  const known = command.registeredArguments;
  const last = known.at(-1);
  const argument = known[argumentCount] ?? (last?.variadic === true ? last : undefined);
  if (argument !== undefined) return valuesOf(argument, argument.name());
  return { ...nothing, candidates: flagCandidates(command) };
}

function flagCandidates(command: Command): readonly Candidate[] {
  return flagsOf(command).flatMap(({ long, description }) =>
    long === undefined ? [] : [{ value: long, description }],
  );
}

function commandCandidates(command: Command): readonly Candidate[] {
  const commands = command.createHelp().visibleCommands(command);
  return commands.map((one) => ({ value: one.name(), description: one.description() }));
}

/** `VOLUME` of `--volume <VOLUME>`. */
function placeholderOf({ flags }: Option): string {
  return /[<[](.*?)[>\]]$/.exec(flags)?.[1] ?? '';
}

function valuesOf({ argChoices }: Option | Argument, placeholder: string): Expected {
  // `--log-level <debug|info>` has its choices in the placeholder.
  const inPlaceholder = /^[a-z\d]+(?:\|[a-z\d]+)+$/.test(placeholder) ? placeholder.split('|') : [];
  const choices = argChoices ?? inPlaceholder;
  if (choices.length > 0) {
    return { ...nothing, candidates: choices.map((value) => ({ value, description: '' })) };
  }
  const kind = placeholders[placeholder.replace(/\.\.\.$/, '').toLowerCase()];
  if (kind === undefined) return nothing;
  return kind === 'files' || kind === 'directories'
    ? { ...nothing, paths: kind }
    : { ...nothing, names: kind };
}
