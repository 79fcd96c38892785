"""hotsync-slave: prepare a standby, rehearse and do its promotion, bring the old master back."""

import argparse
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from hotpair import config, log
from hotpair.config import Config
from hotpair.exits import ConfigFail
from hotpair.failover import gate, peer_role, role
from hotpair.hotsync.settings import Hotsync

EPILOG = """examples:
  hotsync-slave                                   what this node is
  hotsync-slave run-if-master CMD...              in a crontab: only where it is to run

exit: 0 done, 64 usage, 69 not done, 75 later (another one is under way), 77 refused, 78 configuration"""


class Argument(NamedTuple):
    """One argument of a command, as argparse wants it."""

    names: tuple[str, ...]
    how: dict[str, Any]


class Command(NamedTuple):
    """One command: what `--help` says, its arguments, and the function that does it and returns the exit code."""

    help: str
    arguments: tuple[Argument, ...]
    do: Callable[[argparse.Namespace], int]


def _hotsync(configuration: Config) -> Hotsync:
    if configuration.hotsync is None:
        raise ConfigFail("hotpair.ini has no section [hotsync]", "write one, with role, on both nodes")
    return configuration.hotsync


def _gate(_: argparse.Namespace) -> int:
    log.person = False
    try:
        gate.serve(_hotsync(config.load()).role)
    except gate.Closed as closed:
        log.notice(f"push refused: {closed}")
        print(f"refused: {log.escape(str(closed))}", flush=True)
        return closed.code
    return os.EX_OK


def _landed(_: argparse.Namespace) -> int:
    log.person = False
    gate.landed()
    return os.EX_OK


def _role(_: argparse.Namespace) -> int:
    configuration = config.load()
    if configuration.hotsync:
        role.begin(configuration.hotsync.role)
    print(peer_role.words(configuration.node.name), flush=True)
    return os.EX_OK


def _run_if_master(options: argparse.Namespace) -> int:
    log.person = False
    if options.argv and role.current().serving:
        os.execvp(options.argv[0], options.argv)
    return os.EX_OK


ARGV = Argument(("argv",), {"nargs": argparse.REMAINDER, "metavar": "CMD", "help": "a command and its words"})
COMMANDS = {
    "run-if-master": Command("run a command where this node is the master, else nothing", (ARGV,), _run_if_master),
    "gate": Command("rsyncd: may this push come in", (), _gate),
    "landed": Command("rsyncd: a transfer has ended", (), _landed),
    "role": Command("the peer: what is this node", (), _role),
}


def parser() -> argparse.ArgumentParser:
    layout = argparse.RawDescriptionHelpFormatter
    words = argparse.ArgumentParser(prog="hotsync-slave", description=__doc__, epilog=EPILOG, formatter_class=layout)
    commands = words.add_subparsers(dest="command", metavar="COMMAND")
    for name, command in COMMANDS.items():
        its = commands.add_parser(name, help=command.help, description=command.help)
        for argument in command.arguments:
            its.add_argument(*argument.names, **argument.how)
    return words


def main(argv: Sequence[str]) -> int:
    """Do one command. Returns an os.EX_* value."""
    log.person = True
    options = parser().parse_args(argv)
    return COMMANDS[options.command].do(options)
