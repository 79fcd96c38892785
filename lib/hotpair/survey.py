"""Survey: look at a set, of either kind, and index what is as agreed for the quiet look of the next event."""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress

from hotpair import indexing, keep, listed, locks, scan, tree, watch
from hotpair.archive import Row, row_of
from hotpair.detect import LARGE, Change, Scope, Survey, is_directory
from hotpair.exits import Later
from hotpair.scan import State, Unsettled
from hotpair.treeset import TreeSet


def survey(scope: Scope, absences: dict[str, float], folders: Iterable[str] | None = None) -> Survey:
    """Look at a set. `absences` remembers, between looks of one run, since when a path was missing.

    folders: those of a tree to be looked at; the whole of it when None.
    """
    if isinstance(scope.files, TreeSet):
        return tree.survey(scope, scope.files, absences, folders)
    with locks.state(scope.files.name):
        return listed.survey(scope, scope.files, absences)


def index(scope: Scope, changed: Iterable[str]) -> None:
    """Index anew what these paths are part of. The caller holds the state lock."""
    if isinstance(scope.files, TreeSet):
        indexing.index(scope, scope.files, {path.rpartition("/")[0] for path in changed})
    else:
        listed.write_index(scope, scope.files)


def names(scope: Scope, rows: dict[str, Row]) -> list[str]:
    """Return every path of a set that the archive knows, and those that a files set lists or matches."""
    if isinstance(scope.files, TreeSet):
        return sorted(path for path, row in rows.items() if scope.files.covers(path, _directory(row)))
    return listed.names(scope.files, rows)


def _directory(row: Row) -> bool:
    state = row.seen or row.agreed
    return state is not None and state.kind == "directory"


def marked(scope: Scope, watches: Iterable[str]) -> set[str] | None:
    """Return the folders of a tree that have these watches, or without any those that something waits in.

    None when only a look at the whole set will do.
    """
    wanted = set(watches)
    if not isinstance(scope.files, TreeSet):
        return None
    if not wanted:
        return {path.rpartition("/")[0] for path in scope.archive.pending()}
    known = watch.watches(scope.files)
    return None if wanted - known.keys() else {known[one] for one in wanted}


def next_look(scope: Scope, found: Survey, moving: Iterable[Change], events: Iterable[str]) -> set[str] | None:
    """Return the folders that a run has to look at once more: what moved meanwhile, and what new events say."""
    if not isinstance(scope.files, TreeSet):
        return None
    folders = marked(scope, events) if events else set()
    if folders is None:
        return None
    seen = [*found.unsettled, *(change.path for change in moving)]
    folders |= {tree.nearest(scope.files, path.rpartition("/")[0]) for path in seen}  # it may have been moved away
    for change in moving:
        if change.source:  # what is below was not looked at until it was agreed where it is
            folders |= {change.source.rpartition("/")[0], change.path}
            folders |= {path.rpartition("/")[0] for path in scope.archive.below(change.path)}
    return folders


def keep_unsent(scope: Scope, large: bool = False) -> None:
    """Keep a copy of what a tree has and the peer could not be given; a files set has its own already.

    large: of what runs have left aside, which is otherwise left alone: it may be under way just now.
    """
    files = scope.files
    if not isinstance(files, TreeSet):
        return
    pending = scope.archive.pending()
    aside = {problem.path for problem in scope.archive.problems(LARGE)} if pending else set()
    unsent = {path: row.seen for path, row in pending.items() if row.seen is not None and (path in aside) == large}
    moved = {} if large else {path: source for path, source in scope.moved.items() if not _moved(scope, path)}
    if not unsent and not moved:
        return
    with locks.state(files.name):
        for path, source in moved.items():
            unsent.update(_edited_below(scope, files, path, source))
        for path, state in unsent.items():
            try:
                keep.aside(files, path, state)
            except (Later, FileNotFoundError):  # a user is at work, or the disk is gone
                continue
            except OSError as error:
                what = f"cannot be kept until the peer has it: {error.strerror}"
                scope.archive.problem(path, "unreadable", "", what)


def _moved(scope: Scope, path: str) -> bool:
    """Say whether the peer has moved a directory there too: only then it is one for the archive."""
    return is_directory(scope.archive.row(path).seen)


def _edited_below(scope: Scope, files: TreeSet, path: str, source: str) -> Iterator[tuple[str, State]]:
    """Yield what is not as agreed below a directory that was moved: nobody looks there until the peer has moved it."""
    queue = deque([path])
    while queue:
        directory = queue.popleft()
        seen = indexing.look(files, directory)
        rows = scope.archive.folder(source + directory[len(path) :])
        for name, record in seen.records.items() if seen else ():
            if seen and name in seen.directories:
                queue.append(f"{directory}/{name}")
            elif record and (name not in rows or rows[name][2] != record):
                with suppress(Unsettled, OSError):
                    state, _ = scan.look(f"{directory}/{name}", carried=files.carried)
                    if state is not None and (name not in rows or state != row_of(*rows[name]).agreed):
                        yield f"{directory}/{name}", state
