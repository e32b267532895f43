"""Scripts by which a shell completes the words of a command.

oslo.config has ``--shell_completion``, and comes without what it needs for
it. Touches nothing.
"""

from __future__ import annotations

import argparse
import collections.abc

FLAG = '--shell_completion'
SHELLS = ('bash', 'zsh')

_BASH = '''\
_{name}() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" path="" index
    for (( index = 1; index < COMP_CWORD; index++ )); do
        case "$path ${{COMP_WORDS[index]}}" in
{deeper}
        esac
    done
    local words
    case "$path" in
{words}
    esac
    COMPREPLY=( $(compgen -W "$words" -- "$word") )
}}
complete -o default -F _{name} {prog}
'''
_ZSH = 'autoload -U +X bashcompinit && bashcompinit\n'


def script(shell: str, prog: str,
           flags: collections.abc.Iterable[str],
           parser: argparse.ArgumentParser) -> str:
    """What the shell is to read (``source <(PROG --shell_completion bash)``).

    :param flags: that every command takes
    :param parser: with the subcommands
    """
    found = {'': sorted(flags)}
    _walk(parser, '', found)
    cases = '\n'.join(f'        "{path}") words="{" ".join(words)}" ;;'
                      for path, words in found.items())
    deeper = '\n'.join(
        f'            "{path}") path="{path}" ;;'
        for path in found if path) or '            "") ;;'
    return (_ZSH if shell == 'zsh' else '') + _BASH.format(
        name=prog.replace('-', '_'), prog=prog, words=cases, deeper=deeper)


def _walk(parser: argparse.ArgumentParser, path: str,
          found: dict[str, list[str]]) -> None:
    """What may follow each command, by the command's words."""
    words = found.setdefault(path, [])
    # argparse has no public way to list what was added.
    for action in parser._actions:
        words += action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            words += action.choices
            for name, each in action.choices.items():
                _walk(each, f'{path} {name}', found)
