"""Detect: the difference between the live files and the archive. The caller holds the state lock.

What is seen for the first time is noticed at once: a copy is kept and the commands are owed, whether or not the
peer can be reached. What differs from the last agreement is a change to be proposed.
"""

import os
import time
from typing import NamedTuple

from hotpair import apply, config, keep, marks, paths, quiet, scan, sections, tasks
from hotpair.archive import Archive, Row, transaction
from hotpair.config import FilesSet, Node
from hotpair.scan import State, Unsettled

ABSENT = 0.2  # seconds an absence must last: editors move the old file away before the new one stands


class Scope(NamedTuple):
    """Everything that a run of one set works with."""

    node: Node
    files: FilesSet
    archive: Archive
    sections: tuple[sections.Section, ...]
    configuration: str  # signature of the files that say all this


class Change(NamedTuple):
    """A path whose live state is not the agreed one."""

    path: str
    base: State | None
    new: State | None

    @property
    def subject(self) -> str:
        """What a failure is remembered by: another state is another attempt."""
        return scan.subject(self.new)


class Survey(NamedTuple):
    """What one look at a set found."""

    changes: list[Change]
    unsettled: list[str]
    noticed: int  # changes seen for the first time


def names(scope: Scope, rows: dict[str, Row]) -> list[str]:
    """Return every path of the set: as listed, as its globs match now, and as the archive knows it."""
    found = {path for path in rows if scope.files.covers(path)}
    for pattern in scope.files.paths:
        found.update(expand(pattern) if config.GLOB.search(pattern) else [pattern])
    return sorted(found)


def expand(pattern: str) -> list[str]:
    """Return the live paths that a glob matches; links are not followed on the way."""
    reached = [""]
    for part in pattern.split("/")[1:]:
        if config.GLOB.search(part):
            reached = [f"{d}/{n}" for d in reached for n in _entries(d) if config.matches(f"/{n}", f"/{part}")]
        else:
            reached = [f"{d}/{part}" for d in reached]
    return reached


def _entries(directory: str) -> list[str]:
    try:
        return os.listdir(paths.under(directory) or "/") if not os.path.islink(paths.under(directory)) else []
    except OSError:
        return []


def current(scope: Scope, path: str, row: Row, settle: float = 0.0) -> Row:
    """Return the row with its live state brought up to date, and notice it when it is new. Raises Unsettled."""
    signature = quiet.signature(paths.under(path))
    if signature == row.signature:
        return row
    apply.recover(scope.files, path)
    state, found = scan.look(path, settle)
    fresh = row._replace(seen=state, signature="-" if found is None else scan.trusted(found))
    if fresh == row:
        return row
    if state != row.seen:
        notice(scope, path, state)
    scope.archive.put(path, fresh)
    return fresh


def notice(scope: Scope, path: str, state: State | None) -> None:
    """Keep a content that was not here at the last look, and owe the commands that belong to its path."""
    if state is not None and state.kind == "other":
        scope.archive.problem(path, "unsupported", scan.subject(state), "neither a file, a link nor a directory")
        return
    scope.archive.solved(path, "unsupported")
    keep.present(scope.files, path, state, path)
    if state is not None:
        scope.archive.origin(path, state.digest, scope.node.name)
    if scope.archive.fact("born"):  # what stood here when the set was first read is no change
        tasks.owe(scope.archive, sections.for_path(scope.sections, path, here=True), path)


def survey(scope: Scope, absences: dict[str, float]) -> Survey:
    """Look at every path of the set. `absences` remembers, between looks of one run, since when a path was missing."""
    changes, unsettled, noticed = [], [], 0
    with transaction(scope.archive.db):
        rows = scope.archive.rows()
        for path in names(scope, rows):
            row = rows.get(path, Row())
            try:
                if row.seen is not None:
                    _believe_absence(path, absences)
                fresh = current(scope, path, row, scope.files.settle)
            except Unsettled:
                unsettled.append(path)
                continue
            except OSError as error:
                scope.archive.problem(path, "unreadable", "", f"cannot be looked at or kept: {error.strerror}")
                continue
            scope.archive.solved(path, "unreadable")
            rows[path] = fresh
            noticed += fresh.seen != row.seen
            if fresh.seen != fresh.agreed and (fresh.seen is None or fresh.seen.kind != "other"):
                changes.append(Change(path, fresh.agreed, fresh.seen))
        if not unsettled:
            scope.archive.note("born", 1.0)
    write_index(scope)
    return Survey(changes, unsettled, noticed)


def _believe_absence(path: str, absences: dict[str, float]) -> None:
    if quiet.signature(paths.under(path)) != "-":
        absences.pop(path, None)
        return
    since = absences.setdefault(path, time.monotonic())
    if time.monotonic() - since < ABSENT:
        raise Unsettled(f"{path}: absent for a moment only")


def write_index(scope: Scope) -> None:
    """Write what the quiet look of the next event compares."""
    rows = scope.archive.rows()
    trusted = {}
    for path in names(scope, rows):
        row = rows.get(path, Row(signature="-"))
        trusted[path] = row.signature if row.seen == row.agreed else ""
    marks.create(scope.files.name)
    quiet.write(scope.files.name, scope.configuration, scope.files.paths, trusted)
