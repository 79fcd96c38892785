"""Detect: the difference between one live path and the archive. The caller holds the state lock.

What is seen for the first time is noticed at once: a copy is kept and the commands are owed, whether or not the
peer can be reached. What differs from the last agreement is a change to be proposed.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from hotpair import apply, beside, descend, folder, keep, paths, quiet, scan, sections, tasks
from hotpair.archive import Archive, Row
from hotpair.config import AnySet, Node
from hotpair.scan import State, Unsettled
from hotpair.treeset import TreeSet

DECAYED = "decayed"  # the kind of problem that only reading everything again finds
LARGE = "large"  # the kind of problem that a content is which waits until the run is over
ABSENT = 0.2  # seconds an absence must last: editors move the old file away before the new one stands


Progress = Callable[[int, int, int, int], None]  # paths done, all paths, bytes done, all bytes


def silent(_paths: int, _all_paths: int, _bytes: int, _all_bytes: int) -> None:
    """Show no progress: nobody looks."""


class Scope(NamedTuple):
    """Everything that a run of one set works with."""

    node: Node
    files: AnySet
    archive: Archive
    sections: tuple[sections.Section, ...]
    configuration: str  # signature of the files that say all this
    unmovable: set[str]  # what the peer could not move or link to these paths: they are sent as what is new
    moved: dict[str, str]  # directories that a user moved, by where they are now, and where they were
    below: str = ""  # live path that a person asked about, with all below it; "" for the whole set
    turned: bool = False  # the peer asked for this run, and is not asked back: two that disagree would never end
    dry: bool = False  # nothing may be written; the archive is a copy in memory
    reread: bool = False  # contents are read again, whatever their signatures say
    emptying: bool = False  # a directory that was removed here goes on the peer with all that it holds there
    progress: Progress = silent

    def asked_for(self, path: str) -> bool:
        """Say whether a path is what a person asked about, or below it."""
        return not self.below or path == self.below or path.startswith(self.below + "/")


class Change(NamedTuple):
    """A path whose live state is not the agreed one."""

    path: str
    base: State | None
    new: State | None
    source: str = ""  # the path that a user moved here, when that is all that happened
    twin: str = ""  # the path that this is a hard link of

    @property
    def subject(self) -> str:
        """What a failure is remembered by: another state is another attempt."""
        return scan.subject(self.new)


class Survey(NamedTuple):
    """What one look at a set found."""

    changes: list[Change]
    unsettled: list[str]
    noticed: int  # changes seen for the first time
    folders: dict[str, str]  # of a tree that was looked at as a whole: digest of what was agreed, "" when not all is
    new_folders: int  # of a tree: directories that are not watched yet
    later: list[str]  # of a tree: large files that are to rest first


def current(scope: Scope, path: str, row: Row, settle: float = 0.0) -> Row:
    """Return the row with its live state brought up to date, and notice it when it is new. Raises Unsettled."""
    signature = quiet.signature(paths.under(path))
    if signature == row.signature and not scope.reread and no_link_leads_to(scope, path):
        return row
    _recover(scope, path, row)
    state, found = _look(scope, path, settle)
    fresh = row._replace(seen=state, signature="-" if found is None else scan.trusted(found))
    if fresh == row:
        return row
    if scope.reread and signature == row.signature:
        scope.archive.problem(path, DECAYED, "", "changed though neither its size nor its times did")
    if state != row.seen:
        notice(scope, path, state)
    scope.archive.put(path, fresh, "" if found is None else f"{found.st_dev} {found.st_ino}")
    if is_directory(row.seen) and not is_directory(state):
        lose_below(scope, path)
    return fresh


def is_directory(state: State | None) -> bool:
    return state is not None and state.kind == "directory"


def lose_below(scope: Scope, path: str) -> None:
    """Notice that all below a path is gone, for it is no directory any more: nobody will look there.

    Should it come back as it was, no index of before may say that it stands as agreed.
    """
    forget_index(scope, path)
    for below, row in scope.archive.below(path).items():
        if is_directory(row.seen):
            forget_index(scope, below)
        with suppress(NotADirectoryError):  # of a directory that cannot go back: its own stands no more
            _recover(scope, below, row)
        if row.seen is not None:
            notice(scope, below, None)
        if row.agreed is None:
            scope.archive.forget(below)
        elif row.seen is not None:
            scope.archive.put(below, row._replace(seen=None, signature="-"))


def move(scope: Scope, source: str, path: str) -> None:
    """Record that a directory has moved on both nodes, with all that the archive has below it.

    Something else may stand at either path by now, so no index of before may say that it stands as agreed.
    """
    for directory in scope.archive.move(source, path):
        forget_index(scope, directory)


def forget_index(scope: Scope, directory: str) -> None:
    """Have a folder looked at again, whatever stands there. Of a files set there is one index, which is compared."""
    if isinstance(scope.files, TreeSet) and not scope.dry:
        folder.forget(scope.files.name, folder.watch_id(directory))


def _recover(scope: Scope, path: str, row: Row) -> None:
    """Take up what a crash left in mid-exchange at a path."""
    if not scope.dry:
        apply.recover(scope.files, path, beside.loser(scope.files, path, row, scope.node.name))


def no_link_leads_to(scope: Scope, path: str) -> bool:
    """Say whether a path of a tree is really there: a user may have made a link to it of a directory above."""
    if not isinstance(scope.files, TreeSet):
        return True
    try:
        os.close(descend.open_directory(path.rpartition("/")[0]))
    except OSError:
        return False
    return True


def _look(scope: Scope, path: str, settle: float) -> tuple[State | None, os.stat_result | None]:
    try:
        return scan.look(path, settle, scope.files.carried)
    except NotADirectoryError:  # a file or a link stands where a directory was, and all below that is gone
        if isinstance(scope.files, TreeSet):
            return None, None
        raise


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


def rest(absences: dict[str, float]) -> float:
    """Return the seconds until the youngest absence can be believed, at most 0 when all can: no look ends it sooner."""
    return max(absences.values(), default=0.0) + ABSENT - time.monotonic()


def believe_absence(path: str, absences: dict[str, float]) -> None:
    """Raise Unsettled until a path has been absent for a moment: editors move the old file away first."""
    if quiet.signature(paths.under(path)) != "-":
        absences.pop(path, None)
        return
    since = absences.setdefault(path, time.monotonic())
    if time.monotonic() - since < ABSENT:
        raise Unsettled(f"{path}: absent for a moment only")
