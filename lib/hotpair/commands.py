"""Programs that have commands: what each is called with, and what does it."""

import argparse
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Argument(NamedTuple):
    """One argument of a command, as argparse wants it."""

    names: tuple[str, ...]
    how: dict[str, Any]


class Command(NamedTuple):
    """One command: what `--help` says, its arguments, what does it and returns the exit code, and examples if any."""

    help: str
    arguments: tuple[Argument, ...]
    do: Callable[[argparse.Namespace], int]
    examples: str = ""


def parser(
    program: str, about: str | None, epilog: str, commands: Mapping[str, Command], required: bool
) -> argparse.ArgumentParser:
    """Return the parser of a program. required: whether it is nothing without a command."""
    layout = argparse.RawDescriptionHelpFormatter
    words = argparse.ArgumentParser(prog=program, description=about, epilog=epilog, formatter_class=layout)
    all_of_them = words.add_subparsers(dest="command", metavar="COMMAND", required=required)
    for name, command in commands.items():
        examples = f"examples:\n{command.examples}" if command.examples else None
        its = all_of_them.add_parser(
            name, help=command.help, description=command.help, epilog=examples, formatter_class=layout
        )
        for argument in command.arguments:
            its.add_argument(*argument.names, **argument.how)
    return words
