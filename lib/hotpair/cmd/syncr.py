"""syncr SET ID: an event arrived under watch ID of a set; mark it, and become the set's run unless one is under way."""

from __future__ import annotations

import os

from hotpair import locks, marks, storm
from hotpair.exits import UsageFail

TYPE_CHECKING = False  # what an event imports before it knows that there is work is counted in microseconds
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hotpair.detect import Scope

USAGE = """usage: syncr SET ID

incrond starts this for every event under a watched directory; the lines in /etc/incron.d/hotpair-SET, which
`hotpair tables` writes, are constant: they carry the name of the set and of the watch, never the name of a file.
It marks the watch, tries the set's lock and, if it got it, sends what changed. It says nothing when all is well.

  syncr etc 0      look at the set `etc` now, as if an event had arrived

exit: 0 done or another run does it, 75 kept for later (peer away), 66 no such set, 78 configuration, 64 usage"""


def main(argv: Sequence[str]) -> int:
    """Handle one event. Returns an os.EX_* value; nothing but the standard library's core is imported when quiet."""
    if list(argv) in (["--help"], ["-h"]):
        print(USAGE)
        return os.EX_OK
    if len(argv) != 2 or not _word(argv[0]) or not _word(argv[1]):
        raise UsageFail("two words are wanted, a set and a watch", "see `syncr --help`")
    set_name, watch = argv
    if watch.startswith(marks.CANARY):
        marks.answer(set_name, watch)
        return os.EX_OK
    try:
        marks.add(set_name, watch)
    except FileNotFoundError:
        _first_time(set_name)
        marks.add(set_name, watch)
    storm.event(set_name)
    code = os.EX_OK
    scope: Scope | None = None
    while storm.unattended(set_name):
        lock = locks.try_run(set_name)
        if lock is None:
            return code  # the run under way looks again after it has let go
        try:
            if not marks.unfinished(set_name) and _quiet(set_name):
                continue
            scope, code = _run(set_name)
        finally:
            os.close(lock)
    return _afterwards(scope, code) if scope else code


def _word(text: str) -> bool:
    return bool(text) and all(c.isascii() and (c.isalnum() or c == "-") for c in text)


def _quiet(set_name: str) -> bool:
    """Clear the marks and look with stat alone; again when the peer's change was just being put in place."""
    watches = marks.take(set_name)
    if not _unchanged(set_name, watches) and not (locks.wait_for_state(set_name) and _unchanged(set_name, watches)):
        return False
    if not storm.sit_out(set_name):
        return False
    marks.done(set_name)
    return True


def _unchanged(set_name: str, watches: Iterable[str]) -> bool:
    from hotpair import folder, quiet

    if folder.indexed(set_name):
        return all(folder.unchanged(set_name, watch) for watch in watches)
    return quiet.unchanged(set_name)


def _packages() -> None:
    from hotpair import packages

    packages.add()


def _first_time(set_name: str) -> None:
    _packages()
    from hotpair import config

    config.load().named(set_name)
    marks.create(set_name)


def _run(set_name: str) -> tuple[Scope, int]:
    _packages()
    from hotpair import config, peer, run

    configuration = config.load()
    ahead = peer.spawn(configuration.node, configuration.named(set_name).name)
    scope = run.scope(configuration, set_name)
    return scope, run.run(scope, ahead=ahead)


def _afterwards(scope: Scope, code: int) -> int:
    """Run the commands that are owed and carry what is large, after the lock is free for the next event."""
    from hotpair import large, tasks

    failed = tasks.run_due(scope.archive.db, scope.files.name)
    left = large.carry(scope)
    return os.EX_TEMPFAIL if failed or left else code
