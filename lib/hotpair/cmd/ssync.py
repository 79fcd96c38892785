"""ssync: carry the session tables of firewall and proxies to the standby, and write them there."""

import argparse
import gc
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from hotpair import commands, config, locks, log
from hotpair.commands import Argument, Command
from hotpair.config import Config
from hotpair.exits import ConfigFail, Fail, Later, NoInput
from hotpair.failover import role
from hotpair.failover.role import MASTER, STANDBY, Role
from hotpair.options import seconds
from hotpair.sessions import files, switches
from hotpair.sessions.backends import Backends
from hotpair.sessions.record import Origin, Table
from hotpair.sessions.settings import SHAPES, Sessions

if TYPE_CHECKING:
    from hotpair.sessions.mirror import Mirror

EPILOG = f"""A TABLE is one of: {SHAPES}.
`ssync COMMAND --help` has examples.

exit: 0 done, 64 usage, 66 no such file or table, 74 a table could not be dumped or loaded (each is named), 75 not now
      (a mirror is at work, the standby is away), 76 refused by the other node, 77 not root, 78 configuration"""
FOR = 58.0  # seconds that cron's mirror lasts: the next one begins a minute after it
LAST = 10.0  # seconds that it waits for the last one to end


def _configured() -> tuple[Config, Sessions]:
    configuration = config.load()
    if configuration.sessions is None:
        raise ConfigFail("hotpair.ini has no [sessions]", "write the section, on both nodes")
    return configuration, configuration.sessions


def _me(configuration: Config) -> Role:
    return role.foreseen(configuration.hotsync.role if configuration.hotsync else None)


def _origin(configuration: Config) -> Origin:
    return Origin(configuration.node.name, role.boot_id(), _me(configuration).epoch)


def _labels(backends: Backends, words: Sequence[str]) -> list[str]:
    """Return the labels of the table that was named, or of all that are switched on. Raises NoInput for none."""
    found = backends.labels((" ".join(words),)) if words else backends.followed()
    if not found:
        raise NoInput("there is no table", "`ssync start TABLE` switches one on")
    return found


def _meant(words: Sequence[str]) -> Callable[[str], bool]:
    """Return what says whether a label is meant by the words; no word means all."""
    wanted = " ".join(words)
    return lambda label: not words or label == wanted or label.startswith(f"{wanted} ")


def _end(result: files.Result, verb: str, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"done": result.done, "problems": result.problems}, indent=1))
    else:
        for line in files.lines(result, verb):
            print(log.escape(line), file=sys.stderr)
    for line in result.problems if not as_json else ():
        log.error(line)
    return files.NotAll.code if result.problems else os.EX_OK


# What a person calls


def _dump(options: argparse.Namespace) -> int:
    configuration = config.load()
    backends = Backends(configuration.sessions or Sessions())
    labels = _labels(backends, options.table)
    return _end(files.dump(options.file, backends.dump(labels, _origin(configuration))), "dumped", options.json)


def _load(options: argparse.Namespace) -> int:
    backends = Backends(config.load().sessions or Sessions())
    result = files.load(files.of(options.file), backends, _meant(options.table))
    return _end(_some(result, options.file), "loaded", options.json)


def _write(options: argparse.Namespace) -> int:
    _, settings = _configured()
    result = files.load(files.stored(), Backends(settings), _meant(options.table))
    return _end(_some(result, "the store"), "written", options.json)


def _some(result: files.Result, where: str) -> files.Result:
    if not result.done and not result.problems:
        raise NoInput(f"{where}: there is no such table", "`ssync show` lists what is stored")
    return result


def _show(options: argparse.Namespace) -> int:
    from hotpair.sessions import show

    configuration, settings = _configured()
    found: Iterable[Table] = files.stored()
    if options.live or (_me(configuration).role == MASTER and not found):
        backends = Backends(settings)
        found = backends.dump(_labels(backends, options.table), _origin(configuration))
    meant = _meant(options.table)
    wanted = [table for table in found if meant(table.label)]
    if options.table and not wanted:
        raise NoInput(f"{' '.join(options.table)}: there is no such table", "`ssync show` lists all")
    show.show(wanted, options.json)
    return os.EX_OK


def _switch(on: bool) -> Callable[[argparse.Namespace], int]:
    def switch(options: argparse.Namespace) -> int:
        _configured()
        switches.switch(" ".join(options.table), on)
        return os.EX_OK

    return switch


def _check(options: argparse.Namespace) -> int:
    from hotpair.sessions import check, mirror

    configuration, settings = _configured()
    if _me(configuration).role == MASTER:
        found = mirror.compare(configuration)
    else:
        backends = Backends(settings)
        found = {table.label: lines for table in files.stored() if (lines := check.differences(backends, table))}
    if options.json:
        print(json.dumps(found, indent=1))
    for label, lines in found.items() if not options.json else ():
        for line in lines:
            print(log.escape(f"{label}: {line}"))
    return files.NotAll.code if found else os.EX_OK


# What cron and the other node call


def _mirror(options: argparse.Namespace) -> int:
    from hotpair.failover.standing import may_push
    from hotpair.sessions import mirror, standing

    log.person = not options.cron
    configuration, settings = _configured()
    me = role.begin(configuration.hotsync.role if configuration.hotsync else role.PEER)
    if options.cron and (me.role == STANDBY or not switches.switched_on(settings)):
        mirror.reap(Backends(settings), options.seconds)
        return os.EX_OK
    if not me.serving and (why := may_push(configuration)):  # asks the other node what it is
        raise Later(why, "see `hotpair status` on both nodes")
    if not switches.switched_on(settings):
        raise NoInput("no table is switched on", "`ssync start TABLE`")
    begun = time.time()
    with locks.run("ssync.mirror", LAST if options.cron else 0):
        try:
            ended = mirror.run(configuration, options.every or settings.every, options.seconds)
        except Fail as fail:
            if options.cron:
                standing.record(begun, [str(fail)])
                mirror.reap(Backends(settings), begun + options.seconds - time.time())
            raise
    if options.cron:
        standing.record(begun, list(ended.problems))
        return os.EX_OK
    return _told(ended, options.json)


def _told(ended: "Mirror", as_json: bool) -> int:
    problems = list(ended.problems)
    if as_json:
        found = {"cycles": ended.cycles, "behind": round(ended.behind, 3), "entries": ended.entries}
        print(json.dumps({**found, "problems": problems}, indent=1))
    for label, count in ended.entries.items() if not as_json else ():
        print(log.escape(f"{label}: {count} entries"))
    for line in problems if not as_json else ():
        log.error(line)
    return files.NotAll.code if problems else os.EX_OK


def _apply(_: argparse.Namespace) -> int:
    from hotpair.sessions import apply
    from hotpair.wire import Wire

    log.person = False
    wire = Wire(0, 1, 60.0)
    try:
        configuration = config.load()
    except Fail as fail:
        wire.send(refused=str(fail))
        raise
    wire.timeout = max(configuration.node.io_timeout, 60.0)  # longer than the pause between two cycles may be
    with suppress(Later):  # the master has gone, in whatever way
        apply.serve(configuration, wire)
    return os.EX_OK


TABLE = Argument(("table",), {"nargs": "*", "metavar": "TABLE", "help": "one table only; else all"})
ONE = Argument(("table",), {"nargs": "+", "metavar": "TABLE", "help": "a table; `recent` alone is all of that kind"})
FILE = Argument(("file",), {"metavar": "FILE", "help": "a file, or - for the standard stream"})
JSON = Argument(("--json",), {"action": "store_true", "help": "print the result as JSON"})
LIVE = Argument(("--live",), {"action": "store_true", "help": "as they are in the kernel and the proxies of this node"})
CRON = Argument(
    ("--cron",), {"action": "store_true", "help": "on a standby end only what is due; report by mail and log"}
)
EVERY = Argument(
    ("--every",), {"type": seconds, "metavar": "SECONDS", "help": "between two dumps (default [sessions] every)"}
)
LASTS = Argument(
    ("--for",),
    {
        "dest": "seconds",
        "type": seconds,
        "default": FOR,
        "metavar": "SECONDS",
        "help": "how long (default %(default)g)",
    },
)
COMMANDS = {
    "dump": Command(
        "write the tables that are switched on into a file",
        (FILE, TABLE, JSON),
        _dump,
        "  ssync dump /root/sessions\n  ssync dump - nft inet filter seen",
    ),
    "load": Command(
        "load the tables of a file into the kernel and the proxies of this node",
        (FILE, TABLE, JSON),
        _load,
        "  ssync load /root/sessions\n  ssync load /root/sessions recent",
    ),
    "show": Command(
        "print the tables that the master has sent; on a master, those it has",
        (TABLE, LIVE, JSON),
        _show,
        "  ssync show\n  ssync show recent --json",
    ),
    "mirror": Command(
        "on the master: have the standby follow for a while",
        (EVERY, LASTS, CRON, JSON),
        _mirror,
        "  ssync mirror --every 0.2 --for 30\n  * * * * * root ssync mirror --cron",
    ),
    "start": Command("have a table follow from now on", (ONE,), _switch(True), "  ssync start nft inet filter seen"),
    "stop": Command("have a table follow no longer", (ONE,), _switch(False), "  ssync stop recent SSH"),
    "write": Command(
        "put the tables that the master has sent into the kernel and the proxies; a promotion does that",
        (TABLE, JSON),
        _write,
        "  ssync write\n  ssync write http",
    ),
    "check": Command("compare type and size of the tables of both nodes", (JSON,), _check, "  ssync check"),
    "apply": Command("the other node: take what a mirror tells", (), _apply, "  ssh PEER ssync apply"),
}


def parser() -> argparse.ArgumentParser:
    return commands.parser("ssync", __doc__, EPILOG, COMMANDS, required=True)


def main(argv: Sequence[str]) -> int:
    """Do one command. Returns an os.EX_* value."""
    gc.disable()  # tables make no garbage in rings, and looking for it among 50,000 entries takes as long as the rest
    log.person = True
    options = parser().parse_args(argv)
    return COMMANDS[options.command].do(options)
