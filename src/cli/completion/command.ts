/** `completion` prints the hook of a shell; the hook calls the hidden command `complete`. */
import { Argument, type Command } from 'commander';
import { timedOut, withTimeout } from '../../async.ts';
import type { Session } from '../session.ts';
import { type Candidate, type Expected, expectedNext } from './candidates.ts';
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

async function answer(
  program: Command,
  session: Session,
  { shell, line }: { readonly shell: Shell; readonly line: TypedLine },
): Promise<string> {
  const expected = expectedNext(program, line);
  const candidates = [...expected.candidates, ...(await driverNames(session, expected))]
    .map((one) => ({ ...one, value: expected.prefix + one.value }))
    .filter(({ value }) => value.startsWith(line.current));
  return [
    expected.paths ?? 'none',
    ...candidates.map((candidate) => formatCandidate(candidate, shell, line.keptLength)),
  ].join('\n');
}

/** Returns nothing without a driver, or if it does not answer soon: a Tab must not print errors. */
async function driverNames(session: Session, expected: Expected): Promise<readonly Candidate[]> {
  const { names: kind, endpoint } = expected;
  if (kind === undefined) return [];
  if (endpoint !== undefined) session.options = { ...session.options, endpoint };
  const load = async (): Promise<readonly Candidate[]> => {
    const { namesOf } = await import('./names.ts');
    return namesOf((await session.driver()).admin, kind);
  };
  const names = await withTimeout(
    load().catch(() => []),
    namesTimeoutMs,
  );
  return names === timedOut ? [] : names;
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
