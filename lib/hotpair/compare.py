"""Compare a whole set with the peer's, so that "in sync" is said of what was looked at; let the peer send its part."""

import json
import os
import time
from typing import Any, NamedTuple

from hotpair import detect, locks, plausible, scan
from hotpair.detect import Change, Scope
from hotpair.exits import Refused
from hotpair.peer import Peer
from hotpair.scan import State
from hotpair.wire import Wire

CHUNK = 300_000  # bytes of states in one message
TURN = 3600.0  # seconds the peer's own run may take


class Difference(NamedTuple):
    """A path whose states differ; `theirs_changed`: the peer's own run will send it."""

    path: str
    here: State | None
    there: State | None
    theirs_changed: bool


def states(scope: Scope) -> dict[str, State]:
    """Return the live state of every path of the set that is there, as last looked at."""
    found = {path: row.seen for path, row in scope.archive.rows().items() if scope.files.covers(path)}
    return {path: state for path, state in found.items() if state is not None and state.kind != "other"}


def ask(scope: Scope, peer: Peer) -> list[Difference]:
    """Compare what the last survey saw here with a survey made there now."""
    mine = states(scope)
    chunk: list[Any] = []
    size = 0
    for path, state in mine.items():
        size += len(json.dumps((path, state)))
        chunk.append((path, state))
        if size > CHUNK:
            peer.wire.send(compare=chunk, more=True)
            chunk, size = [], 0
    peer.wire.send(compare=chunk, more=False)
    differences = []
    more = True
    while more:
        message = peer.wire.receive()
        if "refused" in message:
            raise Refused(f"the peer refuses: {message['refused']}")
        try:
            for path, there, changed in message["differ"]:
                differences.append(Difference(path, mine.get(path), scan.from_json(there), bool(changed)))
        except (KeyError, TypeError, ValueError) as error:
            raise Refused("not a list of differences") from error
        more = bool(message.get("more"))
    return differences


def answer(scope: Scope, wire: Wire, message: dict[str, Any]) -> None:
    """Survey our side and say which paths differ from what the peer sent."""
    theirs: dict[str, State | None] = {}
    while True:
        try:
            for path, state in message["compare"]:
                if plausible.path(path) and scope.files.covers(path):  # others would only cost memory
                    theirs[path] = scan.from_json(state)
        except (KeyError, TypeError, ValueError) as error:
            raise Refused("not a list of states") from error
        if not message.get("more"):
            break
        message = wire.receive()
    with locks.state(scope.files.name):
        found = detect.survey(scope, {})
        mine = states(scope)
    changed = {change.path for change in found.changes} | set(found.unsettled)
    differ = [
        (path, mine.get(path), path in changed)
        for path in sorted(mine.keys() | theirs.keys() | set(found.unsettled))
        if scope.files.covers(path) and (mine.get(path) != theirs.get(path) or path in found.unsettled)
    ]
    if not differ:
        scope.archive.note("proved", time.time())
    while len(differ) > 50:
        wire.send(differ=differ[:50], more=True)
        differ = differ[50:]
    wire.send(differ=differ, more=False)


def orphans(differences: list[Difference], mine: set[str]) -> list[Change]:
    """Return what neither side counts as its own change, though they differ: proposed as if never agreed."""
    return [Change(d.path, None, d.here) for d in differences if not d.theirs_changed and d.path not in mine]


def turn(scope: Scope) -> int:
    """Let this node send its own part now; returns the run's exit code, EX_TEMPFAIL when a run is under way."""
    from hotpair import run

    code = run.unless_under_way(scope, force=True)
    return os.EX_TEMPFAIL if code is None else code


def acknowledge(scope: Scope, path: Any) -> bool:
    """Drop the conflict that a path has, as a person on the peer said; return whether it had one."""
    if not plausible.path(path) or not scope.files.covers(path):
        raise Refused("not a path of this set")
    had = any(p.path == path and p.kind in ("conflict", "held") for p in scope.archive.problems())
    scope.archive.solved(path, "conflict", "held")  # one that is not over comes back with the next proposal
    return had
