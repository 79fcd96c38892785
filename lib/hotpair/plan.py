"""Plan: what a sweep would do, found by looking alone. Nothing is written on either node.

Both nodes look at their live files without taking notice of what they see. Then the conversation of a sweep is played
through with the same decisions, path by path: our changes first, then what neither counts as its own, then the peer's.
"""

import json
from typing import Any, NamedTuple

from hotpair import decide, detect, paths, quiet, scan
from hotpair.archive import Row
from hotpair.decide import Answer
from hotpair.detect import Scope
from hotpair.exits import Refused
from hotpair.peer import conversation
from hotpair.scan import State, Unsettled
from hotpair.wire import Wire

CHUNK = 300_000  # bytes of rows in one message
ROUNDS = 3  # proposals until one side's state has won


class Seen(NamedTuple):
    """A row with its live state as it is now; `moving` when it cannot be told yet."""

    row: Row
    moving: bool = False


def plan(scope: Scope) -> list[str]:
    """Return one line for each thing that a sweep would do now. Raises Later or Refused when the peer cannot say."""
    with conversation(scope.node, scope.files) as other:
        other.wire.send(peek=True)
        theirs = _receive(other.wire)
        mine = peek(scope)
        nodes = (scope.node.name, other.name)
    lines = []
    for path in sorted(mine.keys() | theirs.keys()):
        here, there = mine.get(path, Seen(Row())), theirs.get(path, Seen(Row()))
        if here.moving or there.moving:
            lines.append(f"later: {path} is still being written on {nodes[0] if here.moving else nodes[1]}")
        elif step := _play(here.row, there.row, scope.files.prefer, nodes):
            lines.append(f"{step[0]} {path}{step[1]}")
    return lines


def peek(scope: Scope) -> dict[str, Seen]:
    """Return every path of the set with its live state, which is neither recorded nor kept."""
    rows = scope.archive.rows()
    found = {}
    for path in detect.names(scope, rows):
        row = rows.get(path, Row())
        try:
            if quiet.signature(paths.under(path)) != row.signature:
                row = row._replace(seen=scan.look(path, scope.files.settle)[0])
            found[path] = Seen(row)
        except (Unsettled, OSError):
            found[path] = Seen(row, moving=True)
    return found


def answer(scope: Scope, wire: Wire) -> None:
    """Tell the peer what we see, for its plan."""
    chunk: list[Any] = []
    size = 0
    for path, (row, moving) in peek(scope).items():
        entry = (path, row.seen, row.agreed, row.from_peer, moving)
        size += len(json.dumps(entry))
        chunk.append(entry)
        if size > CHUNK:
            wire.send(peek=chunk, more=True)
            chunk, size = [], 0
    wire.send(peek=chunk, more=False)


def _receive(wire: Wire) -> dict[str, Seen]:
    found: dict[str, Seen] = {}
    more = True
    while more:
        message = wire.receive()
        if "refused" in message:
            raise Refused(f"the peer refuses: {message['refused']}")
        try:
            for path, seen, agreed, from_peer, moving in message["peek"]:
                row = Row(scan.from_json(agreed), scan.from_json(seen), "", bool(from_peer))
                found[str(path)] = Seen(row, bool(moving))
        except (KeyError, TypeError, ValueError) as error:
            raise Refused("not a list of states") from error
        more = bool(message.get("more"))
    return found


def _play(mine: Row, theirs: Row, prefer: str, nodes: tuple[str, str]) -> tuple[str, str] | None:
    """Play a sweep for one path: what would be done, and a remark; None when both sides are already equal."""
    backwards = (nodes[1], nodes[0])
    if _live(mine) == _live(theirs):
        return None
    for row, node in ((mine, nodes[0]), (theirs, nodes[1])):
        if row.seen is not None and row.seen.kind == "other":
            return "skip", f" (neither a file, a link nor a directory on {node})"
    for _ in range(ROUNDS):
        if mine.seen != mine.agreed or theirs.seen == theirs.agreed:
            base = mine.agreed if mine.seen != mine.agreed else None  # neither side's change: as if never agreed
            said = _decide(base, mine, theirs, prefer, backwards)
            if said.action != "lost":
                return _step("send", said, theirs.seen, mine.seen, nodes[0])
            theirs = _unagreed(theirs)
        if theirs.seen != theirs.agreed:
            said = _decide(theirs.agreed, theirs, mine, prefer, nodes)
            if said.action != "lost":
                return _step("receive", said, mine.seen, theirs.seen, nodes[1])
            mine = _unagreed(mine)
    return "later:", " (neither state wins yet)"


def _live(row: Row) -> State | None:
    return None if row.seen is None or row.seen.kind == "other" else row.seen


def _decide(base: State | None, proposer: Row, decider: Row, prefer: str, nodes: tuple[str, str]) -> Answer:
    """Return what the decider, whose name comes first, says to the proposer's state."""
    return decide.decide(base, proposer.seen, decider.seen, decider.agreed, decider.from_peer, prefer, nodes)


def _unagreed(row: Row) -> Row:
    """What the receiver does when its unchanged state wins: forget that it was agreed, so that it is sent."""
    return row._replace(agreed=None, from_peer=False) if row.seen == row.agreed else row


def _step(way: str, said: Answer, old: State | None, new: State | None, winner: str) -> tuple[str, str]:
    if said.action == "held":
        return "hold", " (both nodes changed it)"
    remark = f" ({new.size} bytes)" if new is not None and new.kind == "file" else ""
    if said.conflict:
        remark += f" (conflict: {winner}'s wins, the other is kept)"
    return f"{way} {_operation(old, new)}", remark


def _operation(old: State | None, new: State | None) -> str:
    """Name what has to be done to make the old state the new one."""
    if new is None:
        return "delete"
    if old is not None and old.content == new.content:
        return "meta"
    return {"file": "put", "link": "link", "directory": "mkdir"}.get(new.kind, new.kind)
