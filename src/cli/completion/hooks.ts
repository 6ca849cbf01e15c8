/**
 * The hooks of the shells. A hook passes the words up to the cursor to `loopcsi complete SHELL --`, unchanged: it neither
 * evaluates them nor the names in the answer, because both can contain `$(…)`. The first line of the answer is
 * `files`, `directories` or `none`, every other one a candidate.
 */
export const shells = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof shells)[number];

/** bash 4 or later. `$1` is the command as it was typed, for example `bin/loopcsi`. */
const bash = `_loopcsi() {
  local answer
  mapfile -t answer < <("$1" complete bash -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
  COMPREPLY=("\${answer[@]:1}")
  case "\${answer[0]:-none}" in
    none) compopt +o default ;;
    directories) compopt +o default -o dirnames ;;
  esac
}
complete -o default -F _loopcsi loopcsi`;

const zsh = `#compdef loopcsi
_loopcsi() {
  local -a answer candidates
  answer=("\${(@f)$("\${(Q)words[1]}" complete zsh -- "\${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
  candidates=("\${(@)answer[2,-1]}")
  case "$answer[1]" in
    files) _files ;;
    directories) _files -/ ;;
    *) _describe value candidates ;;
  esac
}
if [ "$funcstack[1]" = _loopcsi ]; then
  _loopcsi "$@"
else
  (( $+functions[compdef] )) || { autoload -U compinit && compinit; }
  compdef _loopcsi loopcsi
fi`;

const fish = `function __loopcsi_complete
  set -l words (commandline -opc)
  set -l current (commandline -ct)
  set -l answer ($words[1] complete fish -- $words[2..-1] "$current" 2>/dev/null)
  switch "$answer[1]"
    case files
      __fish_complete_path "$current"
    case directories
      __fish_complete_directories "$current"
  end
  set -e answer[1]
  printf '%s\\n' $answer
end
complete -c loopcsi -f -a '(__loopcsi_complete)'`;

export const hooks: Readonly<Record<Shell, string>> = { bash, zsh, fish };
