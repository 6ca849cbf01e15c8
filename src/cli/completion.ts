/** Completion scripts for shells, generated from the commands that the program defines. */
import { Argument, type Command } from 'commander';
import type { Session } from './session.ts';

const shells = ['bash', 'zsh', 'fish'] as const;
type Shell = (typeof shells)[number];

export function addCompletionCommand(program: Command, session: Session): void {
  program
    .command('completion')
    .description("print a completion script: 'source <(loopcsi completion bash)'")
    .addArgument(new Argument('<shell>').choices([...shells]))
    .action((shell: Shell) => {
      session.terminal.print(scriptFor(shell, candidatesOf(program)));
    });
}

/**
 * Subcommands and flags that may follow each command. The key is the command, for example `volume create`, or '' for the
 * program itself.
 */
type Candidates = ReadonlyMap<string, readonly string[]>;

function candidatesOf(command: Command, path = '', inherited: readonly string[] = []): Candidates {
  const own = command.options.map(({ long }) => long ?? '').filter((flag) => flag !== '');
  const flags = [...inherited, ...own.filter((flag) => flag !== '--version')];
  const candidates = new Map<string, readonly string[]>([
    [path, [...command.commands.map((one) => one.name()), ...flags]],
  ]);
  for (const child of command.commands) {
    const childPath = `${path} ${child.name()}`.trim();
    for (const [key, value] of candidatesOf(child, childPath, flags)) candidates.set(key, value);
  }
  return candidates;
}

function scriptFor(shell: Shell, candidates: Candidates): string {
  switch (shell) {
    case 'bash':
      return bashScript(candidates);
    case 'zsh':
      return `autoload -U +X bashcompinit && bashcompinit\n${bashScript(candidates)}`;
    case 'fish':
      return fishScript(candidates);
  }
}

/** The script falls back to file names (`-o default`), because many arguments are paths. */
function bashScript(candidates: Candidates): string {
  const cases = [...candidates].map(
    ([path, names]) => `    "${path}") candidates="${names.join(' ')}" ;;`,
  );
  return [
    '_loopcsi_candidates() {',
    '  case "$1" in',
    ...cases,
    '  esac',
    '}',
    '_loopcsi() {',
    '  local path="" candidates="" next i',
    '  _loopcsi_candidates ""',
    '  for ((i = 1; i < COMP_CWORD; i++)); do',
    // Arguments and flags are skipped, because only subcommands change the candidates.
    '    next="${COMP_WORDS[i]}"',
    '    case " $candidates " in *" $next "*) ;; *) continue ;; esac',
    '    case "$next" in -*) continue ;; esac',
    '    path="${path:+$path }$next"',
    '    _loopcsi_candidates "$path"',
    '  done',
    '  COMPREPLY=($(compgen -W "$candidates" -- "${COMP_WORDS[COMP_CWORD]}"))',
    '}',
    'complete -o default -F _loopcsi loopcsi',
  ].join('\n');
}

function fishScript(candidates: Candidates): string {
  const lines = [...candidates].map(([path, all]) => {
    const condition =
      path === ''
        ? '__fish_use_subcommand'
        : path
            .split(' ')
            .map((name) => `__fish_seen_subcommand_from ${name}`)
            .join('; and ');
    const names = all.filter((name) => !name.startsWith('-'));
    const flags = all.filter((name) => name.startsWith('--')).map((name) => name.slice(2));
    return [
      ...names.map((name) => `complete -c loopcsi -n '${condition}' -f -a ${name}`),
      ...flags.map((flag) => `complete -c loopcsi -n '${condition}' -l ${flag}`),
    ].join('\n');
  });
  return lines.join('\n');
}
