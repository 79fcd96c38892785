"""hotsync-slave: prepare a standby, rehearse and do its promotion, bring the old master back."""

import argparse
import json
import os
from collections.abc import Sequence
from typing import Any

from hotpair import commands, config, log
from hotpair import options as values
from hotpair.commands import Argument, Command
from hotpair.exits import NoInput
from hotpair.failover import answers, notes, role

EPILOG = """`hotsync-slave COMMAND --help` has examples. Without a command it says what this node is.

exit: 0 done, 64 usage, 66 no such backup or program, 69 a step could not be done, 75 later (another one is under way),
      76 refused by the other node, 77 not root, or a push that may not come in, 78 configuration"""


def _say(lines: Sequence[str], found: Any, as_json: bool) -> int:
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        for line in lines:
            print(log.escape(line))
    return os.EX_OK


# What a person calls


def _run_if_master(options: argparse.Namespace) -> int:
    argv = options.argv[1:] if options.argv[:1] == ["--"] else options.argv
    if argv and role.current().serving:
        try:
            os.execvp(argv[0], argv)
        except OSError as error:
            raise NoInput(f"{argv[0]}: {error.strerror}", "name a program that is on PATH and can be run") from error
    return os.EX_OK


def _prepare(_: argparse.Namespace) -> int:
    from hotpair.failover import equipping

    return equipping.prepare()


def _rehearse(options: argparse.Namespace) -> int:
    from hotpair.failover import equipping

    return equipping.rehearse_it(options.cron, options.json)


def _restore(options: argparse.Namespace) -> int:
    from hotpair.failover import equipping

    return equipping.restore(options.number, options.directory, options.json)


def _promote(options: argparse.Namespace) -> int:
    from hotpair.failover import takeover

    order = takeover.Order(
        "hotsync-slave promote", options.reason or "", dead=bool(options.reason), without=tuple(options.skip or ())
    )
    if options.dry_run:
        lines = takeover.planned(answers.with_hotsync(), order)
        return _say(lines, lines, options.json)
    record = takeover.promote(answers.configured(), order, tell=log.notice)
    return _say(takeover.report(record), record, options.json)


def _demote(options: argparse.Namespace) -> int:
    from hotpair.failover import demotion

    note = demotion.demote(answers.configured(), "hotsync-slave demote", " ".join(options.reason))
    return _say(demotion.report(note), note, options.json)


def _failback(options: argparse.Namespace) -> int:
    from hotpair.failover import handover, takeover

    record = handover.failback(answers.configured(), "hotsync-slave failback")
    return _say(takeover.report(record), record, options.json)


JSON = Argument(("--json",), {"action": "store_true", "help": "print the result as JSON"})
DRY = Argument(("-n", "--dry-run"), {"action": "store_true", "help": "say what would be done, and do nothing"})
ARGV = Argument(("argv",), {"nargs": argparse.REMAINDER, "metavar": "CMD", "help": "a command and its words"})
FIFO = Argument(("fifo",), {"metavar": "FIFO", "help": "keepalived's notify_fifo"})
REASON = Argument(("reason",), {"nargs": "*", "metavar": "REASON", "help": "goes into the history of roles"})
DEAD = Argument(
    ("--master-is-dead",),
    {"dest": "reason", "metavar": "REASON", "help": "how you know that the old master does nothing any more"},
)
SKIP = Argument(
    ("--skip",), {"action": "append", "metavar": "STEP", "help": "go on without a step that cannot be done; repeatable"}
)
CRON = Argument(("--cron",), {"action": "store_true", "help": "on a standby alone; say nothing but by mail and log"})
NUMBER = Argument(
    ("--number",),
    {"type": values.number, "default": 0, "metavar": "N", "help": "a kept backup; 1 is the newest of them"},
)
DIRECTORY = Argument(("directory",), {"metavar": "DIRECTORY", "help": "where to; / is this node itself"})
COMMANDS = {
    "prepare": Command(
        "make the users and install the packages of the master that are missing here",
        (),
        _prepare,
        "  hotsync-slave prepare",
    ),
    "rehearse": Command(
        "find out whether a promotion would work, and how long it would take: exit 0 well, 1 warnings, 2 not",
        (CRON, JSON),
        _rehearse,
        "  hotsync-slave rehearse",
    ),
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
        "  hotsync-slave demote back after the repair",
    ),
    "failback": Command(
        "change places: have the other node hand over, and be master here",
        (JSON,),
        _failback,
        "  hotsync-slave failback",
    ),
    "restore": Command(
        "unpack a configuration backup",
        (NUMBER, JSON, DIRECTORY),
        _restore,
        "  hotsync-slave restore /root/look\n  hotsync-slave restore --number 2 /",
    ),
    "run-if-master": Command(
        "run a command where this node is the master, else do nothing",
        (ARGV,),
        _run_if_master,
        "  0 4 * * * root hotsync-slave run-if-master /usr/local/sbin/bill-customers",
    ),
    "doors": Command(
        "cron: open the door, and hear the other node after a reboot",
        (),
        answers.every_minute,
        "  * * * * * root hotsync-slave doors",
    ),
    "follow": Command(
        "keepalived: promote and demote as it says",
        (FIFO,),
        answers.follow_keepalived,
        "  notify_fifo_script hotsync-slave follow",
    ),
    "gate": Command(
        "rsync's daemon: may this push come in", (), answers.answer_gate, "  early exec = hotsync-slave gate"
    ),
    "landed": Command(
        "rsync's daemon: a push has ended", (), answers.answer_landed, "  post-xfer exec = hotsync-slave landed"
    ),
    "role": Command("the other node: what is this one", (), answers.answer_role, "  ssh PEER hotsync-slave role"),
    "door": Command(
        "the other node: rsync's daemon for one push", (), answers.answer_door, "  ssh PEER hotsync-slave door"
    ),
    "hand-over": Command(
        "the other node: be standby in its favour", (), answers.answer_hand_over, "  ssh PEER hotsync-slave hand-over"
    ),
}


def _standing() -> int:
    """Say what this node is, and what the other one last said of itself."""
    configuration = config.load()
    mine = role.foreseen(configuration.hotsync.role if configuration.hotsync else None)
    by = f" by {mine.by}" + (f" ({mine.reason})" if mine.reason else "") if mine.by else ""
    print(log.escape(f"{configuration.node.name} is {mine.role} of epoch {mine.epoch}{by}"))
    peer = notes.read(notes.PEER)
    if peer:
        print(log.escape(f"{peer['node']} last said it is {peer['role']} of epoch {peer['epoch']}"))
    print("commands: " + " ".join(COMMANDS))
    return os.EX_OK


def parser() -> argparse.ArgumentParser:
    return commands.parser("hotsync-slave", __doc__, EPILOG, COMMANDS, required=False)


def main(argv: Sequence[str]) -> int:
    """Do one command. Returns an os.EX_* value."""
    log.person = True
    options = parser().parse_args(argv)
    return COMMANDS[options.command].do(options) if options.command else _standing()
