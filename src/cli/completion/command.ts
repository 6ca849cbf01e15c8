/** `completion` prints the hook of a shell; the hook calls the hidden command `complete`. */
import { Argument, type Command } from 'commander';
import { timedOut, withTimeout } from '../../async.ts';
import type { Session } from '../session.ts';
import {
  type Candidate,
  type Expected,
  expectedNext,
  isClusterNameKind,
  type NameKind,
} from './candidates.ts';
import { hooks, type Shell, shells } from './hooks.ts';
import { joinBashWords, type TypedLine, typedLine } from './words.ts';

/** A user who waits for a Tab prefers no names to late ones. */
const namesTimeoutMs = 1_000;

export function addCompletionCommands(program: Command, session: Session): void {
  const shellArgument = () => new Argument('<shell>').choices([...shells]);
  program
    .command('completion')
    .description("print the completion for a shell: 'source <(loopcsi completion bash)'")
    .addArgument(shellArgument())
    .action((shell: Shell) => {
      session.terminal.print(hooks[shell]);
    });
  program
    .command('complete', { hidden: true })
    .description('print what may follow, for the hooks of completion')
    .addArgument(shellArgument())
    .argument('[words...]', 'the words after the name of the program, up to the cursor')
    .action(async (shell: Shell, words: readonly string[]) => {
      const line = shell === 'bash' ? joinBashWords(words) : typedLine(words);
      session.terminal.print(await answer(program, session, { shell, line }));
    });
}

/** Adds what bin/kubectl_complete-loopcsi runs. kubectl has the hooks of the shells. */
export function addKubectlCompletion(plugin: Command, session: Session): void {
  plugin
    .command('complete', { hidden: true })
    .description('print what may follow, for the completion of kubectl')
    .argument('[words...]', "the words after 'kubectl loopcsi', up to the cursor")
    .action(async (words: readonly string[]) => {
      session.terminal.print(await answerForKubectl(plugin, session, typedLine(words)));
    });
}

async function answer(
  program: Command,
  session: Session,
  { shell, line }: { readonly shell: Shell; readonly line: TypedLine },
): Promise<string> {
  const expected = expectedNext(program, line);
  const candidates = [...expected.candidates, ...(await namesFor(session, expected))]
    .map((one) => ({ ...one, value: expected.prefix + one.value }))
    .filter(({ value }) => value.startsWith(line.current));
  return [
    expected.paths ?? 'none',
    ...candidates.map((candidate) => formatCandidate(candidate, shell, line.keptLength)),
  ].join('\n');
}

/** What the cobra library calls ShellCompDirective. */
const directives = { files: 0, none: 4, directories: 16 } as const;

/** The hooks of kubectl add what precedes a value in its word, as in `--node=n1`. */
async function answerForKubectl(
  plugin: Command,
  session: Session,
  line: TypedLine,
): Promise<string> {
  const expected = expectedNext(plugin, line);
  const current = line.current.slice(expected.prefix.length);
  const candidates = [...expected.candidates, ...(await namesFor(session, expected))]
    .filter(({ value }) => value.startsWith(current))
    .map(({ value, description }) => (description === '' ? value : `${value}\t${description}`));
  return [...candidates, `:${directives[expected.paths ?? 'none']}`].join('\n');
}

/** Returns nothing without a driver or cluster, or if it does not answer soon: a Tab must not print errors. */
async function namesFor(session: Session, expected: Expected): Promise<readonly Candidate[]> {
  const { names: kind, given = {} } = expected;
  if (kind === undefined) return [];
  const load = async (): Promise<readonly Candidate[]> => {
    if (!isClusterNameKind(kind)) return driverNames(session, kind, given['--endpoint']);
    const { clusterNamesOf } = await import('./cluster-names.ts');
    return clusterNamesOf(kind, given);
  };
  const names = await withTimeout(
    load().catch(() => []),
    namesTimeoutMs,
  );
  return names === timedOut ? [] : names;
}

async function driverNames(
  session: Session,
  kind: NameKind,
  endpoint: string | undefined,
): Promise<readonly Candidate[]> {
  if (endpoint !== undefined) session.options = { ...session.options, endpoint };
  if (kind === 'controlled-nodes') {
    const { nodeNames } = await import('../node.ts');
    return nodeNames(session);
  }
  const { namesOf } = await import('./names.ts');
  return namesOf((await session.driver()).admin, kind);
}

function formatCandidate({ value, description }: Candidate, shell: Shell, kept: number): string {
  switch (shell) {
    case 'bash':
      return value.slice(kept);
    case 'zsh':
      return `${value.replaceAll(':', '\\:')}${description === '' ? '' : `:${description}`}`;
    case 'fish':
      return description === '' ? value : `${value}\t${description}`;
  }
}
