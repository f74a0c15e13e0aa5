# SPDX-License-Identifier: Apache-2.0
"""`sohu completion SHELL`: a script that a shell reads, so that it completes commands, options and their values.

What may stand where is `words`. A script holds all names as they are now, and starts nothing when it completes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from sohu.commands.described import Described
from sohu.commands.words import CommandWords, OptionWords, Slot, command_line

PORT = "port"
"""The command that is a program of its own as well."""

BASH = """\
# bash completion of sohu: eval "$(sohu completion bash)"
_sohu_complete() {{
  local command="$1" first="$2" cur="${{COMP_WORDS[COMP_CWORD]}}" prev="${{COMP_WORDS[COMP_CWORD-1]}}"
  local words="" files="" IFS=$' \\t\\n'
  if [[ $cur == "=" ]]; then cur=""
  elif [[ $prev == "=" ]]; then prev="${{COMP_WORDS[COMP_CWORD-2]}}"; fi
  COMPREPLY=()
  if (( COMP_CWORD < first )); then
    COMPREPLY=($(compgen -W "{commands}" -- "$cur"))
    return
  fi
  case "$command $prev" in
{values}
    *) case "$command" in
{arguments}
    esac ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  if [[ -n $files && $cur != -* ]]; then
    IFS=$'\\n'
    compopt -o filenames 2>&-
    COMPREPLY+=($(compgen -f -- "$cur"))
  fi
}}
_sohu() {{ _sohu_complete "${{COMP_WORDS[1]}}" 2; }}
_sohu_port() {{ _sohu_complete port 1; }}
complete -F _sohu sohu
complete -F _sohu_port port
"""

ZSH = """\
#compdef sohu port
# zsh completion of sohu: eval "$(sohu completion zsh)", after compinit
_sohu() {{
  local command="$words[2]" prev="$words[CURRENT-1]" files="" first=3
  local -a values
  if [[ $service == port ]]; then command=port first=2; fi
  if (( CURRENT < first )); then
    values=({commands})
    _describe -t commands command values
    return
  fi
  if [[ $words[CURRENT] == --*=* ]]; then
    prev="${{words[CURRENT]%%=*}}"
    compset -P '*='
  fi
  case "$command $prev" in
{values}
    *) case "$command" in
{arguments}
    esac ;;
  esac
  if (( $#values )); then _describe -t values value values; fi
  if [[ -n $files ]]; then _files; fi
}}
compdef _sohu sohu port
"""

FISH = """\
# fish completion of sohu: sohu completion fish | source
complete -c sohu -f
complete -c port -f
"""


def script(shell: str, commands: Iterable[Described]) -> str:
    """Return the completion of these commands for a shell, one of `SCRIPTS`."""
    return SCRIPTS[shell](command_line(commands))


def _bash(commands: Iterable[CommandWords]) -> str:
    known = tuple(commands)
    return BASH.format(
        commands=" ".join(command.name for command in known),
        values=_cases(known, _set),
        arguments="\n".join(f"      {c.name}) {_set(_bare(c))} ;;" for c in known),
    )


def _cases(commands: Iterable[CommandWords], spelt: Callable[[Slot], str]) -> str:
    """Return a case for every option that takes a value."""
    return "\n".join(
        f'    "{command.name} {option.name}") {spelt(option.takes)} ;;'
        for command in commands
        for option in command.options
        if option.takes is not None
    )


def _bare(command: CommandWords) -> Slot:
    """Return what may stand where no option waits for a value."""
    own = (*(option.name for option in command.options), *command.takes.words)
    return Slot(own, command.takes.files)


def _set(slot: Slot) -> str:
    return f'words="{" ".join(slot.words)}" files={_flag(slot)}'


def _flag(slot: Slot) -> str:
    return "yes" if slot.files else '""'


def _zsh(commands: Iterable[CommandWords]) -> str:
    known = tuple(commands)
    return ZSH.format(
        commands=" ".join(_pair(command.name, command.about) for command in known),
        values=_cases(known, _array),
        arguments="\n".join(f"      {c.name}) {_described(c)} ;;" for c in known),
    )


def _array(slot: Slot) -> str:
    return f"values=({' '.join(map(_pair, slot.words))}) files={_flag(slot)}"


def _described(command: CommandWords) -> str:
    pairs = [_pair(option.name, option.about) for option in command.options]
    pairs += map(_pair, command.takes.words)
    return f"values=({' '.join(pairs)}) files={_flag(command.takes)}"


def _pair(name: str, about: str = "") -> str:
    """Return a word and what it is about, as zsh's `_describe` takes them, as one word in which nothing is expanded."""
    text = name.replace(":", "\\:") + (f":{about}" if about else "")
    return "'" + text.replace("'", "'\\''") + "'"


def _fish(commands: Iterable[CommandWords]) -> str:
    lines: list[str] = []
    for command in commands:
        name, about = command.name, _fish_quoted(command.about)
        lines.append(f"complete -c sohu -n __fish_use_subcommand -a {name} -d {about}")
        place = f'-c sohu -n "__fish_seen_subcommand_from {name}"'
        for where in (place, "-c port") if name == PORT else (place,):
            lines += [_fish_option(where, option) for option in command.options]
            lines += _fish_arguments(where, command.takes)
    return FISH + "\n".join(lines) + "\n"


def _fish_option(place: str, option: OptionWords) -> str:
    line = f"complete {place} -l {option.name.removeprefix('--')} -d {_fish_quoted(option.about)}"
    if option.takes is None:
        return line
    values = f" -a {_fish_quoted(' '.join(option.takes.words))}" if option.takes.words else ""
    return f"{line} {'-r -F' if option.takes.files else '-x'}{values}"


def _fish_arguments(place: str, slot: Slot) -> list[str]:
    files = [f"complete {place} -F"] if slot.files else []
    words = [f"complete {place} -a {_fish_quoted(' '.join(slot.words))}"] if slot.words else []
    return files + words


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


SCRIPTS: Mapping[str, Callable[[Iterable[CommandWords]], str]] = {
    "bash": _bash,
    "zsh": _zsh,
    "fish": _fish,
}
"""What writes the script of a shell."""
