"""Survey a tree: folder by folder, and none is looked at twice as long as it stands as indexed.

A folder as indexed costs one stat for each entry. In any other, each entry that is not as the archive has it is looked
at; the rows that then differ from what was agreed are the changes, however long ago they were seen.
"""

import os
import time
from collections import OrderedDict, deque
from collections.abc import Iterable

from hotpair import archive, beneath, descend, detect, folder, indexing, locks, marks, moves, paths, scan
from hotpair.archive import Row, transaction
from hotpair.detect import Change, Scope, Survey
from hotpair.folder import Look
from hotpair.indexing import Columns
from hotpair.scan import Unsettled
from hotpair.treeset import TreeSet, Unmounted

HOLD = 1.0  # seconds after which a survey lets others have the state lock


def mounted(scope: Scope, tree: TreeSet) -> None:
    """Raise Unmounted unless the root has the marker that the first survey leaves there, and it is ours."""
    root = paths.under(tree.root)
    if not os.path.isdir(root) or os.path.islink(root):
        raise Unmounted(f"{tree.root}: no such directory", "make it, or mount it")
    if not scope.archive.fact("born") and not os.path.lexists(paths.under(tree.marker)):
        if scope.dry:
            return
        with beneath.place(tree.marker) as at:
            beneath.make_directory(0o700, at.fd, tree.marker)
    tree.check_marker()


def survey(scope: Scope, tree: TreeSet, absences: dict[str, float], folders: Iterable[str] | None) -> Survey:
    """Look at these folders of a tree and at what is new below them, at the whole of it when None.

    Raises Unmounted.
    """
    mounted(scope, tree)
    if not scope.dry:
        marks.create(scope.files.name)
        paths.make_private(paths.set_state(scope.files.name, "folders"))
    _look_anew(scope, tree)
    walk = _Walk(scope, tree, absences, whole=folders is None)
    walk.go([_top(scope, tree)] if folders is None else sorted(folders))
    if walk.whole and not walk.unsettled and not scope.below:
        scope.archive.note("born", 1.0)
    changes = [*walk.moves, *_changes(scope, tree, walk)]
    for path in [*(change.path for change in changes), *walk.moved, *walk.unsettled, *walk.later]:
        walk.digests[tree.shared(path.rpartition("/")[0])] = ""
    return Survey(
        changes,
        walk.unsettled,
        walk.noticed,
        walk.digests,
        walk.new_folders,
        walk.later,
    )


def _look_anew(scope: Scope, tree: TreeSet) -> None:
    """Trust no signature once other things belong to a state than when it was read."""
    states = float((not tree.acl) + 2 * (not tree.xattr) + 4 * tree.specials + 8 * tree.owner_map.number)
    if states != scope.archive.fact("other states"):
        with locks.state(tree.name), transaction(scope.archive.db):
            scope.archive.distrust()
            if not scope.dry:
                folder.forget_all(tree.name)  # the map may name users whose numbers changed
            scope.archive.note("other states", states)


def _top(scope: Scope, tree: TreeSet) -> str:
    """Return the folder where a look at the whole begins: the root, or what a person asked about."""
    return nearest(tree, scope.below or tree.root)


def nearest(tree: TreeSet, folder: str) -> str:
    """Return a folder, or what is left of the way to it."""
    while folder != tree.root and not _is_folder(folder):
        folder = folder.rpartition("/")[0]
    return folder


def _is_folder(live: str) -> bool:
    try:
        os.close(descend.open_directory(live))
    except OSError:
        return False
    return True


def _changes(scope: Scope, tree: TreeSet, walk: "_Walk") -> list[Change]:
    found, left = [], {*walk.unsettled, *walk.later, *walk.unreadable}  # what is there is not known
    placed = {change.path for change in walk.moves}  # what was there before is of no interest any more
    for path, row in scope.archive.pending().items():
        state = row.seen or row.agreed
        if state is None or "other" in (state.kind, row.seen and row.seen.kind) or _is_in(path, left):
            continue
        if path in placed or (state.kind in scan.SPECIALS and not tree.specials):  # shared once
            continue
        if not tree.covers(path, state.kind == "directory") or not scope.asked_for(path):
            continue
        if row.seen is None and (state.digest in walk.moving or _is_back(scope, path)):
            walk.unsettled.append(path)
        else:
            found.append(Change(path, row.agreed, row.seen))
    return moves.pair(found, scope.unmovable)


def _is_back(scope: Scope, path: str) -> bool:
    """Say whether something stands where something was removed, in a folder that this walk did not look at."""
    return os.path.lexists(paths.under(path)) and detect.no_link_leads_to(scope, path)


def _is_in(path: str, tops: set[str]) -> bool:
    """Say whether a path or a directory that it is in is one of `tops`."""
    while tops and path:
        if path in tops:
            return True
        path = path.rpartition("/")[0]
    return False


class _Walk:
    """One survey under way."""

    def __init__(self, scope: Scope, tree: TreeSet, absences: dict[str, float], whole: bool) -> None:
        self.scope, self.tree, self.absences, self.whole = scope, tree, absences, whole
        self.queue: deque[str] = deque()
        self.absent: OrderedDict[str, None] = OrderedDict()  # it may turn up elsewhere, and is looked at last
        self.unsettled: list[str] = []
        self.later: list[str] = []
        self.unreadable: list[str] = []
        self.noticed = self.new_folders = 0
        self.moves: list[Change] = []
        self.moved: set[str] = set()
        self.moving: set[str] = set()  # digests: their deletes wait for what is to be looked at once more
        self.digests: dict[str, str] = {}

    def go(self, folders: Iterable[str]) -> None:
        """Look at folders, and let go of the lock now and then: a first survey may take hours."""
        self.queue.extend(folders)
        while self.queue or self.absent:
            with locks.state(self.scope.files.name), transaction(self.scope.archive.db):
                until = time.monotonic() + HOLD
                while (self.queue or self.absent) and time.monotonic() < until:
                    if self.queue:
                        self._folder(self.queue.popleft())
                    else:
                        self._absent(self.absent.popitem(last=False)[0])

    def _folder(self, directory: str) -> None:
        seen = indexing.look(self.tree, directory)
        if seen is None:  # gone: its parent's entries tell
            detect.forget_index(self.scope, directory)
            return
        digest = None if self.scope.reread else indexing.indexed(self.scope, directory, seen)
        if digest is None:
            self._examine(directory, seen)
            digest = indexing.index_folder(self.scope, directory, seen)
        if self.whole:
            self.digests[self.tree.shared(directory)] = digest
            arrived = {change.path for change in self.moves}  # what is below is looked at where the archive has it
            below = (f"{directory}/{name}" for name in seen.directories)
            self.queue.extend(path for path in below if path not in arrived)

    def _examine(self, directory: str, seen: Look) -> None:
        rows = self.scope.archive.folder(directory)
        if directory != self.tree.root:
            self._look(directory, self.scope.archive.row(directory))
        directories = set(seen.directories)
        for name, record in seen.records.items():
            columns = rows.pop(name, None)
            if record == folder.UNREADABLE:
                self._look(f"{directory}/{name}", Row() if columns is None else archive.row_of(*columns))
                continue
            agreed = columns and indexing.as_agreed(self.tree, columns, record, name in directories)
            if record and (self.scope.reread or not agreed):
                self._entry(f"{directory}/{name}", columns, record, name in directories)
        self.absent.update(dict.fromkeys(f"{directory}/{name}" for name in rows))

    def _entry(self, path: str, columns: Columns | None, record: str, directory: bool) -> None:
        """Look at an entry that is there and not as agreed."""
        row = Row() if columns is None else archive.row_of(*columns)
        if directory:
            if row.seen is None or row.seen.kind != "directory":
                if self._came_from_elsewhere(path, row, record):
                    return
                if not self.whole:
                    self.queue.append(path)
        elif row.agreed is None and (sources := self._moved_from(path, record)):
            self.absent.update(dict.fromkeys(sources))  # their folders may not be among those that are looked at
            if waiting := {row.seen.digest for source, row in sources.items() if row.seen and self._waits(source)}:
                self.moving |= waiting
                self.unsettled.append(path)  # alone it would be new, and be sent
        elif self._too_early(record):
            self.later.append(path)
            return
        fresh = self._look(path, row)
        self.new_folders += directory and fresh is not None and not detect.is_directory(row.seen)

    def _too_early(self, record: str) -> bool:
        size, ctime_ns = int(record.split(" ")[2]), int(record.split(" ")[4])
        return size > self.tree.bigfile.size and 0 <= time.time() - ctime_ns / 1e9 < self.tree.bigfile.delay

    def _moved_from(self, path: str, record: str) -> dict[str, Row]:
        """Return where a file that is new here is known to have been, and is no more."""
        if path in self.scope.unmovable:
            return {}
        known = record.split(" ")[:4]  # without the ctime: a rename changes that
        rows = {source: self.scope.archive.row(source) for source in self.scope.archive.by_inode(" ".join(known[:2]))}
        return {
            source: row
            for source, row in rows.items()
            if row.signature.split(" ")[:4] in (known, [""]) and not os.path.lexists(paths.under(source))
        }

    def _waits(self, path: str) -> bool:
        try:
            detect.believe_absence(path, self.absences)
        except Unsettled:
            return True
        return False

    def _came_from_elsewhere(self, path: str, row: Row, record: str) -> bool:
        """Take note of a directory that a user moved here, which is one change whatever is below it."""
        if path in self.scope.unmovable:
            return False
        for source in self.scope.archive.by_inode(" ".join(record.split(" ")[:2])):
            known = self.scope.archive.row(source)
            agreed = known.agreed is not None and known.agreed.kind == "directory"
            if agreed and not os.path.lexists(paths.under(source)):
                state, _ = scan.look(path, carried=self.tree.carried)
                if state is not None and state.kind == "directory":
                    self.moves.append(Change(path, row.agreed, state, source))
                    self.moved.add(source)
                    self.scope.moved[path] = source
                    return True
        return False

    def _absent(self, path: str) -> None:
        row = self.scope.archive.row(path)
        known = row.seen or row.agreed
        if path in self.moved or known is None or not self.tree.covers(path, known.kind == "directory"):
            return
        if row.seen is None:
            return
        fresh = self._look(path, row)
        if fresh is None or fresh.seen is not None:
            return
        if row.agreed is None:  # came and went between two runs
            self.scope.archive.forget(path)

    def _look(self, path: str, row: Row) -> Row | None:
        """Bring a row up to date; None when that must wait, or cannot be done."""
        try:
            if row.seen is not None:
                detect.believe_absence(path, self.absences)
            fresh = detect.current(self.scope, path, row, self.tree.settle)
        except Unsettled:
            self.unsettled.append(path)
            return None
        except OSError as error:
            self.scope.archive.problem(path, "unreadable", "", f"cannot be looked at or kept: {error.strerror}")
            self.unreadable.append(path)
            return None
        self.scope.archive.solved(path, "unreadable")
        self.noticed += fresh.seen != row.seen
        if detect.is_directory(row.seen) and not detect.is_directory(fresh.seen):
            self.noticed += len(self.scope.archive.below(path))
        return fresh
