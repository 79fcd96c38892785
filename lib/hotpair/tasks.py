"""Tasks: check a content before it goes live, owe its commands, run what is owed, retry, give up visibly.

What is owed is a row per set, section and path, written in the transaction that records the change, and deleted only
after the section's last command succeeded. Whatever dies in between leaves the rows: the commands start at least once.
A change while they run gives the row a new id, so that they run once more, after the newest content.
"""

from __future__ import annotations

import hashlib
import math
import os
import shlex
import sqlite3
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from hotpair import beneath, child, config, globs, hooks, locks, log, paths, pauses, sections
from hotpair.archive import transaction

if TYPE_CHECKING:
    from hotpair.archive import Archive
    from hotpair.sections import Section

FIRST, MOST = 60.0, 3600.0  # seconds between attempts
TRIES = 5  # attempts until a person has to look
NEVER = math.inf  # when what was given up is due


class Owed(NamedTuple):
    """One row: the commands of a section are to run for a path."""

    id: int
    path: str
    attempts: int


class Waiting(NamedTuple):
    """What a section owes in a set, for status."""

    section: str
    set_name: str
    changed: int  # paths
    since: float  # when the oldest was changed
    attempts: int  # of the one that failed most often
    failure: str  # what went wrong last, "" when nothing was tried yet
    final: bool  # given up: no further attempt before a new change or `force`


def _name(section: Section) -> str:
    """Return how the section is called in the database, whose text cannot hold every byte of a path."""
    return log.escape(section.pattern)


def _known() -> list[Section]:
    """Return every section there is: those of syncr.ini, and the hooks of trees."""
    return [*sections.load(), *hooks.of(config.load())]


def _facts(live: str) -> dict[str, str]:
    return child.environment(HOTPAIR_PATH=live, HOTPAIR_NODE=config.load().node.name)


def check(wanted: Iterable[Section], live: str, staged: str) -> str:
    """Run the check of every section that has the path on a staged file (its path on this disk).

    Returns "" when all pass, else in one line which command failed and how. `on` is about commands: it plays no part.
    """
    for section in wanted:
        if section.check and globs.matches(live, section.pattern):
            failed = _check(section, live, staged)
            if failed:
                return failed
    return ""


def _check(section: Section, live: str, file: str, record: int | None = None) -> str:
    argv = section.check or ()
    exact = [word.replace(sections.STAGED, file) for word in argv]
    failed = child.run(exact, _facts(live), section.timeout, record=record)
    return f"{shlex.join(argv)}: {failed}" if failed else ""


def owe(archive: Archive, wanted: Iterable[Section], live: str) -> None:
    """Record that the commands of these sections (as for_path returns them) are to run for a path.

    Joins the caller's transaction. What is owed already is owed anew: a fresh start for its attempts, and an id no
    run under way has read. `since` stays, for it has not been done since.
    """
    with transaction(archive.db):
        for section in wanted:
            row = (archive.set_name, _name(section), os.fsencode(live))
            again = archive.db.execute(
                "UPDATE owed SET id = (SELECT max(id) FROM owed) + 1, attempts = 0, due = 0, failure = ''"
                " WHERE set_name = ? AND section = ? AND path = ?",
                row,
            )
            if section.run and not again.rowcount:
                archive.db.execute(
                    "INSERT INTO owed (set_name, section, path, since) VALUES (?, ?, ?, ?)", (*row, time.time())
                )


def run_due(db: sqlite3.Connection, set_name: str | None = None, force: bool = False) -> int:
    """Run the commands of every section that has something due, and return how many sections failed.

    set_name: only sections that owe something in this set. force: what waits for its next attempt, or was given up,
    is due too. A section that another process runs is left to it: it looks again when it is done.
    """
    if db.execute("SELECT 1 FROM owed LIMIT 1").fetchone() is None:
        return 0
    _drop_removed(db)
    failed = 0
    for section in _known():
        if _batch(db, _name(section), force, set_name):
            failed += not _until_none_due(db, section, force)
    return failed


def _until_none_due(db: sqlite3.Connection, section: Section, force: bool) -> bool:
    """Run a section until nothing of it is due; False when its last run failed.

    The look after the lock was let go is what a process relies on that found it held.
    """
    from filelock import Timeout  # the quiet path never pays for it

    good = True
    while _batch(db, _name(section), force):
        try:
            with locks.section(_number(section)):
                good = _attempt(db, section, force)
        except Timeout:
            return good
        force = False
        fresh = _find(_name(section))  # syncr.ini may have been edited since
        if fresh is None:
            _drop_removed(db)
            return good
        section = fresh
    return good


def _find(name: str) -> Section | None:
    return next((section for section in _known() if _name(section) == name), None)


def _number(section: Section) -> str:
    return hashlib.blake2b(os.fsencode(section.pattern), digest_size=8).hexdigest()


def _batch(db: sqlite3.Connection, name: str, force: bool, set_name: str | None = None) -> list[Owed]:
    """Return what a section owes and is due, oldest first.

    Due is also what would wait longer than any pause: the clock was set back.
    """
    now = time.time()
    found = db.execute(
        "SELECT id, path, attempts FROM owed WHERE section = ?1 AND (?2 IS NULL OR set_name = ?2)"
        " AND (?3 OR due <= ?4 OR (due > ?5 AND due < ?6)) ORDER BY id",
        (name, set_name, force, now, now + MOST, NEVER),
    )
    return [Owed(id_, os.fsdecode(path), attempts) for id_, path, attempts in found.fetchall()]


def _attempt(db: sqlite3.Connection, section: Section, force: bool) -> bool:
    """Run a section once for all that it owes. The caller holds its lock."""
    with _record(section) as record:
        survivor = child.survivor(record)
        if survivor:  # the hotpair that started it was killed, and its lock with it
            child.outlast(survivor, section.timeout)
        batch = _batch(db, _name(section), force)
        if not batch:
            return True
        failure = _check_live(section, batch, record) or _run_lines(section, batch, record)
    if failure:
        _put_off(db, section, batch, failure)
        return False
    with transaction(db):
        db.executemany("DELETE FROM owed WHERE id = ?", [(row.id,) for row in batch])
    return True


@contextmanager
def _record(section: Section) -> Iterator[int]:
    """Yield the file in which a section's running command says who it is."""
    path = paths.make_private(paths.runtime()) + f"/section-{_number(section)}.pid"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


def _check_live(section: Section, batch: list[Owed], record: int) -> str:
    """Check the live files once more: what a user wrote here was never staged."""
    for row in batch if section.check else ():
        if _is_file(row.path):
            failed = _check(section, row.path, paths.under(row.path), record)
            if failed:
                return failed
    return ""


def _is_file(live: str) -> bool:
    try:
        with beneath.place(live) as at:
            found = beneath.lstat(at)
    except OSError:  # a directory above is gone, or is a link by now: nothing there that a check could read
        return False
    return found is not None and stat.S_ISREG(found.st_mode)


def _run_lines(section: Section, batch: list[Owed], record: int) -> str:
    """Run the section's lines one after the other until one fails; return how, or ""."""
    facts = _facts(batch[-1].path) | dict(section.facts)
    listed = b"".join(os.fsencode(row.path) + b"\0" for row in batch)
    for line in section.run:
        argv = sections.words(line)
        failed = (section.facts and hooks.untrusted(argv)) or child.run(argv, facts, section.timeout, listed, record)
        if failed:
            return f"{line}: {failed}"
    return ""


def _put_off(db: sqlite3.Connection, section: Section, batch: list[Owed], failure: str) -> None:
    """Note the failure of a batch and when it is due again; say so at the first and at the last attempt."""
    now = time.time()
    text = failure.encode("utf-8", "backslashreplace").decode()
    with transaction(db):
        for row in batch:
            tried = row.attempts + 1
            due = NEVER if tried >= TRIES else now + pauses.growing(tried, FIRST, MOST)
            db.execute(
                "UPDATE owed SET attempts = ?, due = ?, failure = ? WHERE id = ?",
                (tried, due, text, row.id),
            )
    if any(row.attempts + 1 >= TRIES for row in batch):
        log.error(f"[{section.pattern}]: {text}: given up after {TRIES} attempts: mend it, then run `hotpair retry`")
    elif any(row.attempts == 0 for row in batch):
        log.error(f"[{section.pattern}]: {text}: tried again in {FIRST:g} s")


def _drop_removed(db: sqlite3.Connection) -> None:
    """Drop what is owed to sections that are no longer configured.

    The rows are read before the file: one that a section just added owes must not be taken for a leftover.
    """
    owed = db.execute("SELECT section, max(id) FROM owed GROUP BY section").fetchall()
    if not owed:
        return
    known = {_name(section) for section in _known()}
    for name, newest in owed:
        if name not in known:
            gone = db.execute("DELETE FROM owed WHERE section = ? AND id <= ?", (name, newest)).rowcount
            log.notice(f"[{name}]: no longer configured: its commands are not run for {gone} changed paths")


def waiting(db: sqlite3.Connection) -> list[Waiting]:
    """Return what is owed, oldest first; what was given up stands apart from what is still tried."""
    found = db.execute(
        "SELECT section, set_name, count(*), min(since), max(attempts), failure, due >= ? AS final"
        " FROM owed GROUP BY section, set_name, final ORDER BY min(since)",
        (NEVER,),
    )
    return [Waiting._make((*row[:-1], bool(row[-1]))) for row in found.fetchall()]
