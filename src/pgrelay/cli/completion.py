"""`pgrelay completion`: a script for bash, zsh or fish, written from the parser and so never behind it."""

import argparse
from collections.abc import Iterator
from typing import NamedTuple

from pgrelay.cli.context import Context


class Node(NamedTuple):
    """One command: the words that lead to it, and what may follow."""

    words: tuple[str, ...]
    #: Name and summary of each command below it.
    commands: tuple[tuple[str, str], ...]
    options: tuple[argparse.Action, ...]
    #: Positional arguments with a choice.
    choices: tuple[str, ...]


def completion(context: Context) -> int:
    from pgrelay.cli.arguments import build_parser

    context.out.out.write(script(context.argument("shell"), build_parser()))
    return 0


def script(shell: str, parser: argparse.ArgumentParser) -> str:
    """The script for `shell`: bash, zsh or fish."""
    nodes = list(walk(parser, ()))
    return _fish(nodes) if shell == "fish" else _bash(nodes, zsh=shell == "zsh")


def walk(parser: argparse.ArgumentParser, words: tuple[str, ...]) -> Iterator[Node]:
    """The parser and all below it."""
    below: list[tuple[str, str, argparse.ArgumentParser]] = []
    choices: list[str] = []
    for action in parser._actions:  # argparse tells its structure nowhere else
        if isinstance(action, argparse._SubParsersAction):
            summaries = {choice.dest: choice.help or "" for choice in action._choices_actions}
            below += [(name, summaries.get(name, ""), inner) for name, inner in action.choices.items()]
        elif action.choices and not action.option_strings:
            choices += [str(choice) for choice in action.choices]
    options = tuple(
        action for action in parser._actions if action.option_strings and action.help != argparse.SUPPRESS
    )
    yield Node(words, tuple((name, summary) for name, summary, _ in below), options, tuple(choices))
    for name, _, inner in below:
        yield from walk(inner, (*words, name))


def _offered(node: Node) -> list[str]:
    long = [option for action in node.options for option in action.option_strings if option.startswith("--")]
    return [name for name, _ in node.commands] + list(node.choices) + long


def _values(nodes: list[Node]) -> dict[str, tuple[str, ...]]:
    """What may follow an option: its choices, or nothing (then a file is offered)."""
    found: dict[str, tuple[str, ...]] = {}
    for node in nodes:
        for action in node.options:
            if action.nargs == 0:
                continue
            for option in action.option_strings:
                known = found.get(option, ())
                found[option] = (
                    *known,
                    *(str(choice) for choice in action.choices or () if str(choice) not in known),
                )
    return found


def _bash(nodes: list[Node], *, zsh: bool) -> str:
    commands = "\n".join(
        f'        "{" ".join(node.words)}") words="{" ".join(_offered(node))}" ;;' for node in nodes
    )
    paths = " ".join(f'"{" ".join(node.words)}"' for node in nodes if node.words)
    values = "\n".join(
        f'        {option}) words="{" ".join(choices)}"; [ -n "$words" ] || files=1 ;;'
        for option, choices in sorted(_values(nodes).items())
    )
    start = "autoload -Uz compinit bashcompinit && compinit && bashcompinit\n" if zsh else ""
    return f"""{start}_pgrelay() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD-1]}}"
    local path="" candidate known word index words="" files=""
    for ((index = 1; index < COMP_CWORD; index++)); do
        word="${{COMP_WORDS[index]}}"
        candidate="${{path:+$path }}$word"
        case " $word " in *" -"*) continue ;; esac
        for known in {paths}; do
            if [ "$known" = "$candidate" ]; then path="$candidate"; fi
        done
    done
    case "$previous" in
{values}
        *) case "$path" in
{commands}
        esac ;;
    esac
    if [ -n "$files" ]; then
        COMPREPLY=($(compgen -f -- "$current"))
    else
        COMPREPLY=($(compgen -W "$words" -- "$current"))
    fi
}}
complete -o filenames -F _pgrelay pgrelay
"""


def _fish(nodes: list[Node]) -> str:
    lines = ["complete -c pgrelay -f"]
    for node in nodes:
        names = [name for name, _ in node.commands]
        seen = " ".join(names)
        if not node.words:
            here = "__fish_use_subcommand"
        else:
            here = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in node.words)
        below = f"{here}; and not __fish_seen_subcommand_from {seen}" if node.words and names else here
        for name, summary in node.commands:
            lines.append(f"complete -c pgrelay -n {_quoted(below)} -a {name} -d {_quoted(summary)}")
        for choice in node.choices:
            lines.append(f"complete -c pgrelay -n {_quoted(here)} -a {choice}")
        for action in node.options:
            lines.append(f"complete -c pgrelay -n {_quoted(here)}{_fish_option(action)}")
    return "\n".join(lines) + "\n"


def _fish_option(action: argparse.Action) -> str:
    parts = []
    for option in action.option_strings:
        parts.append(f" -l {option[2:]}" if option.startswith("--") else f" -s {option[1:]}")
    if action.nargs != 0:
        values = f" -xa {_quoted(' '.join(map(str, action.choices)))}" if action.choices else " -r"
        parts.append(values)
    return "".join(parts) + f" -d {_quoted(action.help or '')}"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
