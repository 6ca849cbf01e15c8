/** Completion scripts for shells, made from the program's own tree of commands, so they cannot fall behind it. */
import { Argument, type Command } from 'commander';
import type { Act, Session } from './session.ts';

const shells = ['bash', 'zsh', 'fish'] as const;

export function addCompletionCommand(program: Command, act: Act): void {
  program
    .command('completion')
    .description("completion for a shell: 'source <(loopcsi completion bash)'")
    .addArgument(new Argument('<shell>').choices([...shells]))
    .action(
      act(async (session: Session, shell: (typeof shells)[number]) => {
        session.terminal.print(scriptFor(shell, wordsOf(program)));
      }),
    );
}

/** What may follow a chain of commands: '' for the program itself, `volume create`. */
type Words = ReadonlyMap<string, readonly string[]>;

function wordsOf(command: Command, chain = '', inherited: readonly string[] = []): Words {
  const own = command.options.map(({ long }) => long ?? '').filter((flag) => flag !== '');
  const flags = [...inherited, ...own.filter((flag) => flag !== '--version')];
  const words = new Map<string, readonly string[]>([
    [chain, [...command.commands.map((one) => one.name()), ...flags]],
  ]);
  for (const child of command.commands) {
    const below = `${chain} ${child.name()}`.trim();
    for (const [key, value] of wordsOf(child, below, flags)) words.set(key, value);
  }
  return words;
}

function scriptFor(shell: (typeof shells)[number], words: Words): string {
  switch (shell) {
    case 'bash':
      return bashScript(words);
    case 'zsh':
      return `autoload -U +X bashcompinit && bashcompinit\n${bashScript(words)}`;
    case 'fish':
      return fishScript(words);
  }
}

/** Directories and files stay the shell's to complete: that is what most arguments are. */
function bashScript(words: Words): string {
  const cases = [...words].map(
    ([chain, follows]) => `    "${chain}") words="${follows.join(' ')}" ;;`,
  );
  return [
    '_loopcsi_words() {',
    '  case "$1" in',
    ...cases,
    '  esac',
    '}',
    '_loopcsi() {',
    '  local chain="" words="" next i',
    '  _loopcsi_words ""',
    '  for ((i = 1; i < COMP_CWORD; i++)); do',
    // Only a name of a command leads further: arguments and values of flags do not.
    '    next="${COMP_WORDS[i]}"',
    '    case " $words " in *" $next "*) ;; *) continue ;; esac',
    '    case "$next" in -*) continue ;; esac',
    '    chain="${chain:+$chain }$next"',
    '    _loopcsi_words "$chain"',
    '  done',
    '  COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))',
    '}',
    'complete -o default -F _loopcsi loopcsi',
  ].join('\n');
}

function fishScript(words: Words): string {
  const lines = [...words].map(([chain, follows]) => {
    const condition =
      chain === ''
        ? '__fish_use_subcommand'
        : chain
            .split(' ')
            .map((word) => `__fish_seen_subcommand_from ${word}`)
            .join('; and ');
    const names = follows.filter((word) => !word.startsWith('-'));
    const flags = follows.filter((word) => word.startsWith('--')).map((word) => word.slice(2));
    return [
      ...names.map((name) => `complete -c loopcsi -n '${condition}' -f -a ${name}`),
      ...flags.map((flag) => `complete -c loopcsi -n '${condition}' -l ${flag}`),
    ].join('\n');
  });
  return lines.join('\n');
}
