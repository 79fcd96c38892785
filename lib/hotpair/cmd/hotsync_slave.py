"""hotsync-slave: prepare a standby, rehearse and do its promotion, bring the old master back."""

import argparse
import json
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from hotpair import config, log, paths
from hotpair.config import Config
from hotpair.exits import ConfigFail, Fail
from hotpair.failover import gate, notes, peer_role, role
from hotpair.failover.role import Role

EPILOG = """`hotsync-slave COMMAND --help` has examples. Without a command it says what this node is.

exit: 0 done, 64 usage, 69 a step could not be done, 75 later (another one is under way), 76 refused by the other node,
      77 not root, or a push that may not come in, 78 configuration"""


class Denied(Fail):
    """What a node is, root alone decides."""

    code = os.EX_NOPERM


class Argument(NamedTuple):
    """One argument of a command, as argparse wants it."""

    names: tuple[str, ...]
    how: dict[str, Any]


class Command(NamedTuple):
    """One command: what `--help` says, its arguments, what does it and returns the exit code, and examples."""

    help: str
    arguments: tuple[Argument, ...]
    do: Callable[[argparse.Namespace], int]
    examples: str


def _configured() -> Config:
    """Return the configuration, which has a [hotsync]; the node has a role from then on."""
    configuration = config.load()
    if configuration.hotsync is None:
        raise ConfigFail(f"{paths.config_file('hotpair.ini')}: no section [hotsync]", "write one on both nodes")
    role.begin(configuration.hotsync.role)
    return configuration


def _say(lines: Sequence[str], found: Any, as_json: bool) -> int:
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        for line in lines:
            print(log.escape(line))
    return os.EX_OK


# What the machine calls


def _gate(_: argparse.Namespace) -> int:
    from hotpair.hotsync import refusal

    log.person = False
    try:
        configuration = config.load()
        if configuration.hotsync is None:
            raise gate.Closed("no section [hotsync] in hotpair.ini there", "write one")
        gate.serve(configuration.hotsync.role)
    except Fail as fail:
        log.notice(f"push refused: {fail}")
        refusal.tell(log.escape(str(fail)))
        return gate.Closed.code
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


def _door(_: argparse.Namespace) -> int:
    from hotpair.hotsync import doors

    log.person = False
    doors.serve(_configured())
    return os.EX_OK


def _doors(_: argparse.Namespace) -> int:
    from hotpair.failover import takeover
    from hotpair.hotsync import doors

    log.person = False
    configuration = config.load()
    if configuration.hotsync:
        takeover.minute(configuration)
        doors.open(configuration)
    return os.EX_OK


def _hand_over(_: argparse.Namespace) -> int:
    from hotpair.failover import handover

    log.person = False
    print(handover.answer(_configured()), flush=True)
    return os.EX_OK


def _follow(options: argparse.Namespace) -> int:
    from hotpair.failover import follow

    log.person = False
    _configured()
    follow.follow(options.fifo)
    return os.EX_OK


def _run_if_master(options: argparse.Namespace) -> int:
    if options.argv and role.current().serving:
        os.execvp(options.argv[0], options.argv)
    return os.EX_OK


# What a person calls


def _promote(options: argparse.Namespace) -> int:
    from hotpair.failover import takeover

    order = takeover.Order(
        "hotsync-slave promote", options.reason or "", dead=bool(options.reason), without=tuple(options.skip or ())
    )
    if options.dry_run:
        lines = takeover.planned(config.load(), order)
        return _say(lines, lines, options.json)
    record = takeover.promote(_configured(), order, tell=log.notice)
    return _say(takeover.report(record), record, options.json)


def _demote(options: argparse.Namespace) -> int:
    from hotpair.failover import demotion

    note = demotion.demote(_configured(), "hotsync-slave demote", options.reason or "")
    return _say(demotion.report(note), note, options.json)


def _failback(options: argparse.Namespace) -> int:
    from hotpair.failover import handover, takeover

    record = handover.failback(_configured(), "hotsync-slave failback")
    return _say(takeover.report(record), record, options.json)


JSON = Argument(("--json",), {"action": "store_true", "help": "print the result as JSON"})
DRY = Argument(("-n", "--dry-run"), {"action": "store_true", "help": "say what would be done, and do nothing"})
ARGV = Argument(("argv",), {"nargs": argparse.REMAINDER, "metavar": "CMD", "help": "a command and its words"})
FIFO = Argument(("fifo",), {"metavar": "FIFO", "help": "keepalived's notify_fifo"})
REASON = Argument(("reason",), {"nargs": "?", "metavar": "REASON", "help": "goes into the history of roles"})
DEAD = Argument(
    ("--master-is-dead",),
    {"dest": "reason", "metavar": "REASON", "help": "how you know that the old master does nothing any more"},
)
SKIP = Argument(
    ("--skip",), {"action": "append", "metavar": "STEP", "help": "go on without a step that cannot be done; repeatable"}
)
COMMANDS = {
    "promote": Command(
        "make this standby the master, or go on where that stopped",
        (DEAD, SKIP, DRY, JSON),
        _promote,
        "  hotsync-slave promote --dry-run\n  hotsync-slave promote --master-is-dead 'its power is off, I looked'",
    ),
    "demote": Command(
        "make this master a standby, and keep aside what the other node has not seen",
        (REASON, JSON),
        _demote,
        "  hotsync-slave demote 'back after the repair'",
    ),
    "failback": Command(
        "change places: have the other node hand over, and be master here",
        (JSON,),
        _failback,
        "  hotsync-slave failback",
    ),
    "run-if-master": Command(
        "run a command where this node is the master, else do nothing",
        (ARGV,),
        _run_if_master,
        "  0 4 * * * root hotsync-slave run-if-master /usr/local/sbin/bill-customers",
    ),
    "doors": Command(
        "cron: open the door, and hear the other node after a reboot", (), _doors, "  hotsync-slave doors"
    ),
    "follow": Command("keepalived: promote and demote as it says", (FIFO,), _follow, "  hotsync-slave follow FIFO"),
    "gate": Command("rsync's daemon: may this push come in", (), _gate, "  early exec = hotsync-slave gate"),
    "landed": Command("rsync's daemon: a push has ended", (), _landed, "  post-xfer exec = hotsync-slave landed"),
    "role": Command("the other node: what is this one", (), _role, "  ssh PEER hotsync-slave role"),
    "door": Command("the other node: rsync's daemon for one push", (), _door, "  ssh PEER hotsync-slave door"),
    "hand-over": Command(
        "the other node: be standby in its favour", (), _hand_over, "  ssh PEER hotsync-slave hand-over"
    ),
}


def _standing() -> int:
    """Say what this node is, and what the other one last said of itself."""
    configuration = config.load()
    history = role.history()
    mine = history[-1] if history else Role(configuration.hotsync.role if configuration.hotsync else role.PEER)
    by = f" by {mine.by}" + (f" ({mine.reason})" if mine.reason else "") if mine.by else ""
    print(log.escape(f"{configuration.node.name} is {mine.role} of epoch {mine.epoch}{by}"))
    peer = notes.read(notes.PEER)
    if peer:
        print(log.escape(f"{peer['node']} last said it is {peer['role']} of epoch {peer['epoch']}"))
    print("commands: " + " ".join(COMMANDS))
    return os.EX_OK


def parser() -> argparse.ArgumentParser:
    layout = argparse.RawDescriptionHelpFormatter
    words = argparse.ArgumentParser(prog="hotsync-slave", description=__doc__, epilog=EPILOG, formatter_class=layout)
    commands = words.add_subparsers(dest="command", metavar="COMMAND")
    for name, command in COMMANDS.items():
        examples = "examples:\n" + command.examples
        its = commands.add_parser(
            name, help=command.help, description=command.help, epilog=examples, formatter_class=layout
        )
        for argument in command.arguments:
            its.add_argument(*argument.names, **argument.how)
    return words


def main(argv: Sequence[str]) -> int:
    """Do one command. Returns an os.EX_* value."""
    log.person = True
    options = parser().parse_args(argv)
    try:
        return COMMANDS[options.command].do(options) if options.command else _standing()
    except PermissionError as error:
        raise Denied(f"{error.filename}: {error.strerror}", "run as root") from error
