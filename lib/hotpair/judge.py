"""Judge: whether what the peer proposes is safe to act on, and what becomes of it against our own live files."""

import os
from contextlib import suppress
from typing import Any, NamedTuple

from hotpair import apply, beside, decide, descend, detect, paths, payload, plausible, scan, sections
from hotpair.archive import Row
from hotpair.config import AnySet
from hotpair.detect import Change, Scope, is_directory
from hotpair.exits import Refused
from hotpair.scan import State, Unsettled
from hotpair.stage import Decided
from hotpair.treeset import TreeSet

SPARE = 16 << 20  # bytes of disk that a content must leave free, for the archive and the logs


class Pending(NamedTuple):
    """A decided change on its way: the answer given, what is to be applied, and what both agreed on before."""

    answer: dict[str, Any]
    change: Decided


def parse(files: AnySet, item: Any) -> Change:
    """Return a proposal that is safe to act on. Raises Refused for any that is not."""
    try:
        shared, base, new, source, twin = item if len(item) == 5 else (*item, "")
        base, new = scan.from_json(base), scan.from_json(new)
    except (TypeError, ValueError) as error:
        raise Refused(f"not a proposal: {str(item)[:80]!r}") from error
    directory = any(state is not None and state.kind == "directory" for state in (base, new))
    if (source, twin) != ("", "") and not isinstance(files, TreeSet):
        raise Refused("a move or a hard link, which only trees have")
    for name in (shared, *(other for other in (source, twin) if other != "")):
        if not plausible.path(name) or not files.covers(files.live(name), directory):
            raise Refused(f"path {str(name)[:80]!r} is not in set {files.name!r} here")
    for state in (base, new):
        if state is not None and not plausible.state(state):
            raise Refused(f"impossible state for {shared!r}")
        if state is not None and state.kind in scan.SPECIALS and not files.carried.specials:
            raise Refused(f"a {state.kind}, which set {files.name!r} does not share, at {shared!r}")
    return Change(files.live(shared), base, new, source and files.live(source), twin and files.live(twin))


class Judgement:
    """Of one batch: `others` are the changes of it that are decided already, `aside` says which inbox is theirs."""

    def __init__(self, scope: Scope, peer: str, aside: bool, others: dict[str, Pending]) -> None:
        self.scope, self.peer, self.aside, self.others = scope, peer, aside, others
        self.asked: dict[int, int] = {}  # bytes of contents that are asked for, by the device they go to
        self.above: dict[str, bool] = {}  # directories that hold proposed paths, and whether the way to them is blocked

    def decide(self, change: Change) -> Pending:
        """Return what becomes of a proposed change. The caller holds the state lock."""
        scope, files, path, new = self.scope, self.scope.files, change.path, change.new
        nothing = Decided(path, None, None, "")
        try:
            row = detect.current(scope, path, scope.archive.row(path))
        except (Unsettled, OSError) as error:
            return Pending({"action": "busy", "why": str(error)}, nothing)
        if what := self._in_the_way(change, row):
            return Pending({"action": "failed", "why": f"{what} is in the way at {path}"}, nothing)
        nodes = (scope.node.name, self.peer)
        answer = decide.decide(change.base, new, row.seen, row.agreed, row.from_peer, files.prefer, nodes, files.source)
        if answer.action == "lost" and change.source and files.source:  # each path of it is to be put back
            return Pending({"action": "unmoved"}, nothing)
        reply: dict[str, Any] = {"action": answer.action, "conflict": answer.conflict}
        loser = beside.loser(scope.files, path, row, scope.node.name) if answer.conflict else None
        decided = Decided(path, row.seen, new, "", row.signature, loser=loser)
        if answer.conflict:
            reply["why"] = f"{scope.node.name} has {scan.brief(row.seen)}, {self.peer} has {scan.brief(new)}"
        if answer.action == "take" and change.source:
            decided = decided._replace(source=change.source)
            if row.seen is not None or not self._can_move(change):
                reply["action"] = "unmoved"
        elif answer.action == "take" and new is not None and new.kind == "file" and not _holds(row.seen, new):
            if why := self._no_place(path, row):
                return Pending({"action": "lost", "conflict": False, "why": why}, nothing)
            return self._content(change, new, reply, decided)
        if answer.action == "lost":
            self._unagree(path, row, new)
        return Pending(reply, decided)

    def _in_the_way(self, change: Change, row: Row) -> str:
        """Return what stands at a path that no change may replace, or ""."""
        if row.seen is not None and not self.scope.files.covers(change.path, row.seen.kind == "directory"):
            return "what the filter leaves out"
        if change.new is not None and row.seen is not None and row.seen.kind == "other":
            return "what is neither a file, a link nor a directory"
        return ""

    def _content(self, change: Change, new: State, reply: dict[str, Any], decided: Decided) -> Pending:
        """Ask for a content, unless it is here under another name that is to be linked."""
        if change.twin and self._can_link(change):
            return Pending(reply, decided._replace(twin=change.twin))
        stage = payload.stage_name(self.scope.files.shared(change.path), new)
        place = f"{apply.stage_directory(self.scope.files, change.path, self.aside)}/{stage}"
        return Pending({**reply, **self._room(change.path, new)}, decided._replace(stage=place))

    def _unagree(self, path: str, row: Row, there: State | None) -> None:
        """Call what won here a change of ours, so that we send it."""
        agreed = decide.after_loss(row.seen, row.agreed, there, self.scope.files.source)
        if agreed != row.agreed:
            self.scope.archive.put(path, row._replace(agreed=agreed, from_peer=False))

    def _can_move(self, change: Change) -> bool:
        """Say whether the peer's move can be done here as one: of a file only while it is what both agreed on."""
        try:
            row = detect.current(self.scope, change.source, self.scope.archive.row(change.source))
        except (Unsettled, OSError):
            return False
        if row.seen is None or change.new is None or row.seen.kind != change.new.kind:
            return False
        if change.new.kind == "directory":
            return not change.path.startswith(change.source + "/")
        return row.seen == row.agreed and row.seen.content == change.new.content

    def _no_place(self, path: str, row: Row) -> str:
        """Return why a content could not be put at a path of a tree, whatever else this batch does, or "".

        It would be carried for nothing, and again at each attempt: our own change, which is in the way, comes first.
        """
        if not isinstance(self.scope.files, TreeSet):
            return ""
        parent = path.rpartition("/")[0]
        if parent not in self.above:
            self.above[parent] = self._blocked(parent)
        if self.above[parent]:
            return f"{path}: a directory above it is none here"
        if self.aside and not self.scope.files.source and is_directory(row.seen) and os.listdir(paths.under(path)):
            self.scope.archive.put(path, row._replace(agreed=None, from_peer=False))  # it goes back to the peer
            return f"{path} is a directory that is not empty"
        return ""

    def _blocked(self, directory: str) -> bool:
        """Say whether something else than a directory is in the way to one, and stays there."""
        try:
            os.close(descend.open_directory(directory))
        except NotADirectoryError:
            return not any(
                is_directory(earlier.change.new) and earlier.answer["action"] == "take"
                for above, earlier in self.others.items()
                if f"{directory}/".startswith(f"{above}/")
            )
        except OSError:
            return False
        return False

    def _can_link(self, change: Change) -> bool:
        """Say whether the peer's hard link can be one here: of what holds the content, or will when it is its turn."""
        if any(section.check for section in sections.for_path(self.scope.sections, change.path, here=False)):
            return False  # which wants a staged file
        earlier = self.others.get(change.twin)
        if earlier is not None:
            return earlier.change.new == change.new and earlier.answer["action"] in ("want", "take", "have")
        with suppress(Unsettled, OSError):
            return detect.current(self.scope, change.twin, self.scope.archive.row(change.twin)).seen == change.new
        return False

    def _room(self, path: str, new: State) -> dict[str, Any]:
        """Make the inbox and return "want", or "failed" when the content would not fit or has no place."""
        try:
            inbox = apply.inbox_of(self.scope.files, path, self.aside)
            disk, device = os.fstatvfs(inbox), os.fstat(inbox).st_dev
            os.close(inbox)
        except OSError as error:
            return {"action": "failed", "why": f"no inbox beside {path}: {error.strerror}"}
        asked = self.asked.get(device, 0) + new.size
        if disk.f_bavail * disk.f_frsize < asked + SPARE:
            return {"action": "failed", "why": f"disk full: {new.size} bytes do not fit beside {path}"}
        self.asked[device] = asked
        return {"action": "want"}


def _holds(state: State | None, new: State) -> bool:
    return state is not None and state.content == new.content
