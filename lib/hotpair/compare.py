"""Compare a whole set with the peer's, so that "in sync" is said of what was looked at; let the peer send its part."""

import hashlib
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from hotpair import apply, beside, chunks, locks, marks, plausible, scan, survey
from hotpair.archive import Row, row_of, transaction
from hotpair.config import AnySet
from hotpair.detect import Change, Scope, Survey
from hotpair.exits import Refused
from hotpair.peer import Peer
from hotpair.scan import State
from hotpair.stage import Decided
from hotpair.treeset import TreeSet
from hotpair.wire import Wire

TURN = 3600.0  # seconds the peer's own run may take
BUSY = "busy"  # the answer of a peer that is at a run already


class Difference(NamedTuple):
    """A path whose states differ; `theirs_changed`: the peer's own run will send it."""

    path: str
    here: State | None
    there: State | None
    theirs_changed: bool


def states(scope: Scope, folders: Iterable[str] | None = None) -> dict[str, State]:
    """Return the live state of every path that is there, as last looked at, by what both nodes call it.

    folders: those of a tree that are asked about, by what both nodes call them.
    """
    files, rows = scope.files, dict[str, Row]()
    if folders is None:
        rows = scope.archive.rows()
    for shared in folders or ():
        directory = files.live(shared)
        for name, columns in scope.archive.folder(directory).items():
            rows[f"{directory}/{name}"] = row_of(*columns)
    found = {path: row.seen for path, row in rows.items() if row.seen is not None and row.seen.kind != "other"}
    return {files.shared(p): state for p, state in found.items() if files.covers(p, state.kind == "directory")}


def ask(scope: Scope, peer: Peer, found: Survey) -> list[Difference]:
    """Compare what the last survey saw here with a survey made there now."""
    folders = None
    if isinstance(scope.files, TreeSet):
        folders = folders_that_differ(scope, peer.wire, found)
        if not folders:
            return []
    mine = states(scope, folders)
    chunks.send(peer.wire, "compare", list(mine.items()))
    differences = []
    try:
        for shared, there, changed in chunks.receive(peer.wire, "differ"):
            path = scope.files.live(shared)
            differences.append(Difference(path, mine.get(shared), scan.from_json(there), bool(changed)))
    except (TypeError, ValueError) as error:
        raise Refused("not a list of differences") from error
    return differences


def request(scope: Scope, key: str, value: object) -> dict[str, Any]:
    """Return a message that narrows the peer's look to what a person asked about."""
    below = scope.below and scope.files.shared(scope.below)
    return {key: value, "below": below, "reread": scope.reread}


def narrowed(scope: Scope, message: dict[str, Any]) -> Scope:
    """Return the scope that the peer's request is about. Raises Refused for what is no path."""
    below = message.get("below")
    if below and not plausible.path(below):
        raise Refused("not a path of this set")
    return scope._replace(below=scope.files.live(below) if below else "", reread=bool(message.get("reread")))


def folders_that_differ(scope: Scope, wire: Wire, found: Survey) -> list[str]:
    """Ask which folders of a tree differ, the peer's unsettled ones included; none when both trees are equal."""
    wire.send(**request(scope, "tree", digest_of(found)))
    if wire.expect("equal", TURN):
        return []
    chunks.send(wire, "folders", list(found.folders.items()))
    return [str(shared) for shared in chunks.receive(wire, "folders")]


def digest_of(found: Survey) -> str:
    """Return a digest of a whole tree as both nodes agreed on it, "" while not everything is so."""
    if found.changes or found.unsettled or found.later or not all(found.folders.values()):
        return ""
    return hashlib.blake2b(repr(sorted(found.folders.items())).encode(), digest_size=16).hexdigest()


def answer_tree(scope: Scope, wire: Wire, message: dict[str, Any]) -> None:
    """Survey our tree; when it is not the peer's, say which folders differ, then which paths in them."""
    scope = narrowed(scope, message)
    found = survey.survey(scope, {})
    equal = bool(message["tree"]) and digest_of(found) == message["tree"]
    wire.send(equal=equal)
    if equal:
        if not scope.below:
            scope.archive.note("proved", time.time())
        return
    try:
        theirs = {str(shared): str(digest) for shared, digest in chunks.receive(wire, "folders")}
    except (TypeError, ValueError) as error:
        raise Refused("not a list of folders") from error
    names = {shared for shared in theirs if shared == "" or plausible.path(shared)} | found.folders.keys()
    differ = sorted(shared for shared in names if not theirs.get(shared) or theirs[shared] != found.folders.get(shared))
    chunks.send(wire, "folders", differ)
    if differ:
        answer(scope, wire, wire.receive(), found, differ)


def answer(
    scope: Scope,
    wire: Wire,
    message: dict[str, Any],
    found: Survey | None = None,
    folders: list[str] | None = None,
) -> None:
    """Survey our side and say which paths differ from what the peer sent."""
    files = scope.files
    theirs: dict[str, State | None] = {}
    try:
        for shared, state in chunks.receive(wire, "compare", message):
            if plausible.path(shared):  # others would only cost memory
                theirs[shared] = scan.from_json(state)
    except (TypeError, ValueError) as error:
        raise Refused("not a list of states") from error
    found = found or survey.survey(scope, {})
    mine = states(scope, folders)
    unsettled = {files.shared(path) for path in found.unsettled}
    moving = {files.shared(change.path) for change in found.changes if change.source}
    changed = {files.shared(change.path) for change in found.changes} | unsettled
    differ = [
        (shared, mine.get(shared), shared in changed)
        for shared in sorted(mine.keys() | theirs.keys() | unsettled | moving)
        if mine.get(shared) != theirs.get(shared) or shared in unsettled or shared in moving
    ]
    differ = [one for one in differ if _covered(files, one[0], theirs.get(one[0]) or one[1])]
    if not differ and folders is None:
        scope.archive.note("proved", time.time())
    chunks.send(wire, "differ", differ)


def _covered(files: AnySet, shared: str, state: State | None) -> bool:
    return files.covers(files.live(shared), state is not None and state.kind == "directory")


def orphans(differences: list[Difference], mine: set[str]) -> list[Change]:
    """Return what neither side counts as its own change, though they differ: proposed as if never agreed."""
    return [Change(d.path, None, d.here) for d in differences if not d.theirs_changed and d.path not in mine]


def turn(scope: Scope, with_large: bool) -> int | str:
    """Let this node send its own part now; returns the run's exit code, BUSY when one is under way.

    with_large: also what the run leaves aside, which the peer does not wait for while its own run is under way.
    """
    from hotpair import large, run

    if isinstance(scope.files, TreeSet):
        marks.add(scope.files.name, "turn")  # a look at the whole: what a user moved is in no row yet
    scope = scope._replace(turned=True)
    code = run.unless_under_way(scope, force=True)
    if with_large and large.carry(scope, force=True) is None:
        return BUSY
    return BUSY if code is None else code


def acknowledge(scope: Scope, path: Any) -> bool:
    """Drop the conflict that a path has, as a person on the peer said; return whether it had one."""
    if not plausible.path(path):
        raise Refused("not a path of this set")
    path = scope.files.live(path)
    if not scope.files.covers(path):
        raise Refused("not a path of this set")
    had = any(p.path == path for p in scope.archive.problems("conflict", "held"))
    end_conflict(scope, path)
    return had


def end_conflict(scope: Scope, path: str) -> bool:
    """Drop the conflict of a path, and the copy beside it of what this node wrote; return whether there was a copy.

    A generation is kept of the copy, as of all that is removed. One that a user has changed stays.
    """
    with locks.state(scope.files.name), transaction(scope.archive.db):
        subjects = [p.subject for p in scope.archive.problems("conflict") if p.path == path]
        copy = beside.lost(scope.files, path, subjects[0]) if subjects and isinstance(scope.files, TreeSet) else None
        if copy is not None:
            marks.add(scope.files.name, "resolved")
            apply.apply(scope.files, Decided(*copy, None, ""))
        scope.archive.solved(path, "conflict", "held")  # one that is not over comes back with the next proposal
    return copy is not None
