"""Plan: what a sweep would do, found by looking alone. Nothing is written on either node.

Both nodes look at their live files without taking notice of what they see. Then the conversation of a sweep is played
through with the same decisions, path by path: our changes first, then what neither counts as its own, then the peer's.
"""

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from hotpair import beside, brake, chunks, compare, decide, detect, lineage, paths, quiet, scan, standby, survey, tree
from hotpair.archive import Row
from hotpair.config import AnySet
from hotpair.decide import Answer
from hotpair.detect import Scope
from hotpair.exits import Refused
from hotpair.peer import conversation
from hotpair.scan import State, Unsettled
from hotpair.treeset import TreeSet
from hotpair.wire import Wire

CONFLICT = " (conflict: "
READING = 6 * 3600.0  # seconds that one end may read all contents again while the other waits for it
ROUNDS = 3  # proposals until one side's state has won
LOOKS = 3  # at both nodes, while a run changes what was seen


class Seen(NamedTuple):
    """A row with its live state as it is now."""

    row: Row
    moving: bool = False  # it cannot be told yet
    source: str = ""  # the path that a user moved here
    decayed: bool = False  # it changed though neither its size nor its times did


NOTHING = Seen(Row())


def plan(scope: Scope) -> list[str]:
    """Return one line for each thing that a sweep would do now. Raises Later or Refused when the peer cannot say."""
    at_work, mine, theirs, nodes = _at_once(scope)
    rewritten = foreign = 0
    lines, moved = at_work, {seen.source for side in (mine, theirs) for seen in side.values() if seen.source}
    for path in sorted(mine.keys() | theirs.keys()):
        here, there = mine.get(path, NOTHING), theirs.get(path, NOTHING)
        source = here.source or there.source
        if here.moving or there.moving:
            lines.append(f"later: {path} is still being written on {nodes[0] if here.moving else nodes[1]}")
        elif step := _play(here.row, there.row, scope.files, nodes):
            rewritten += step[0].startswith("send ") and not source and _rewritten(here.row, there.row, scope.files)
            foreign += step[0] == "send delete" and here.row.agreed is None
            if source and step[0].endswith(("put", "mkdir")):
                lines.append(f"{step[0].split()[0]} move {source} to {path}")
            elif path not in moved or not step[0].endswith("delete"):
                lines.append(f"{step[0]} {path}{step[1]}")
                lines += _copy(scope, path, step, (here.row, there.row), nodes)
    return _passed_on(scope, lines, rewritten, scope.archive.count() + foreign)


def _rewritten(mine: Row, theirs: Row, files: AnySet) -> bool:
    """Say whether what is sent rewrites what both had, or in a tree that goes one way what the peer made of it."""
    base = theirs.seen if files.source and mine.seen == mine.agreed else mine.agreed
    return base is not None and mine.seen is not None and mine.seen != base


def _copy(
    scope: Scope, path: str, step: tuple[str, str], rows: tuple[Row, Row], nodes: tuple[str, str]
) -> Iterator[str]:
    """Yield what becomes of the loser of a conflict that is to stand beside the winner: it crosses as well."""
    if CONFLICT in step[1]:
        loses, way = (1, "receive") if step[0].startswith("send") else (0, "send")
        lost = beside.loser(scope.files, path, rows[loses], nodes[loses])
        if lost is not None:
            yield f"{way} {_operation(None, lost.state)} {lost.copy}{_size(lost.state)}"


def _passed_on(scope: Scope, lines: list[str], rewritten: int, total: int) -> list[str]:
    """Leave out what is not sent: while a person has to approve of it, or a standby file or program is there."""
    if not isinstance(scope.files, TreeSet):
        return lines
    lost = sum(line.startswith("send delete ") for line in lines)
    why = brake.held(scope, scope.files, lost, rewritten, total)
    try:
        standby.check(scope.files)
    except standby.Standby as fail:
        why = fail.message
    return [f"hold: {why}", *(line for line in lines if not line.startswith("send "))] if why else lines


def _at_once(scope: Scope) -> tuple[list[str], dict[str, Seen], dict[str, Seen], tuple[str, str]]:
    """Return what both nodes see, looking anew while a run, which both archives tell of, is at work on it."""
    for _ in range(LOOKS):
        version = scope.archive.version()
        seen = both(scope)
        if scope.archive.version() == version:
            return [], *seen
    return ["later: a run is at work, and some of this may be done by now"], *seen


def both(scope: Scope) -> tuple[dict[str, Seen], dict[str, Seen], tuple[str, str]]:
    """Return what both nodes see of every path, and their names. Nothing is written on either."""
    with conversation(scope) as other:
        other.wire.timeout = READING if scope.reread else other.wire.timeout
        other.wire.send(**compare.request(scope, "peek", True))
        mine = peek(scope)  # meanwhile
        if lineage.forgotten(scope.archive, other.answer.get("proposals")):
            mine = _distrusted(mine)
        return mine, _receive(scope, other.wire), (scope.node.name, other.name)


def peek(scope: Scope) -> dict[str, Seen]:
    """Return every path of the set with its live state, which is neither recorded nor kept."""
    if isinstance(scope.files, TreeSet):
        return _peek_tree(scope._replace(archive=scope.archive.in_memory(), dry=True), scope.files)
    rows = scope.archive.rows()
    found = {}
    for path in survey.names(scope, rows):
        row = rows.get(path, Row())
        try:
            known = quiet.signature(paths.under(path)) == row.signature
            if known and not scope.reread:
                found[path] = Seen(row)
                continue
            state = scan.look(path, scope.files.settle)[0]
            found[path] = Seen(row._replace(seen=state), decayed=known and state != row.seen)
        except (Unsettled, OSError):
            found[path] = Seen(row, moving=True)
    return found


def _peek_tree(scope: Scope, tree_set: TreeSet) -> dict[str, Seen]:
    """Survey a tree into an archive that nobody keeps."""
    absences: dict[str, float] = {}
    found = tree.survey(scope, tree_set, absences, None)
    if absences:  # an absence must last for a moment
        time.sleep(detect.ABSENT)
        found = tree.survey(scope, tree_set, absences, None)
    rows = scope.archive.rows()
    paths_ = [path for path in survey.names(scope, rows) if scope.asked_for(path)]
    moving = {*found.unsettled, *found.later}
    decayed = {problem.path for problem in scope.archive.problems(detect.DECAYED)}
    seen = {path: Seen(rows[path], moving=path in moving, decayed=path in decayed) for path in paths_}
    for change in found.changes:
        if change.source:
            seen[change.path] = Seen(Row(change.base, change.new), source=change.source)
    return seen


def _distrusted(found: dict[str, Seen]) -> dict[str, Seen]:
    return {path: seen._replace(row=seen.row._replace(from_peer=False)) for path, seen in found.items()}


def answer(scope: Scope, wire: Wire, message: dict[str, Any], forgotten: bool) -> None:
    """Tell the peer what we see, for its plan. forgotten: its archive knows nothing of what it last proposed."""
    files, entries = scope.files, []
    wire.timeout = READING if message.get("reread") else wire.timeout
    found = peek(compare.narrowed(scope, message))
    for path, (row, moving, source, decayed) in (_distrusted(found) if forgotten else found).items():
        moved = source and files.shared(source)
        entries.append((files.shared(path), row.seen, row.agreed, row.from_peer, moving, moved, decayed))
    chunks.send(wire, "peek", entries)


def _receive(scope: Scope, wire: Wire) -> dict[str, Seen]:
    found: dict[str, Seen] = {}
    live = scope.files.live
    try:
        for shared, seen, agreed, from_peer, moving, source, decayed in chunks.receive(wire, "peek"):
            row = Row(scan.from_json(agreed), scan.from_json(seen), "", bool(from_peer))
            moved = live(str(source)) if source else ""
            found[live(str(shared))] = Seen(row, bool(moving), moved, bool(decayed))
    except (TypeError, ValueError) as error:
        raise Refused("not a list of states") from error
    return found


def _play(mine: Row, theirs: Row, files: AnySet, nodes: tuple[str, str]) -> tuple[str, str] | None:
    """Play a sweep for one path: what would be done, and a remark; None when both sides are already equal."""
    backwards = (nodes[1], nodes[0])
    if _live(mine) == _live(theirs):
        return None
    for row, node in ((mine, nodes[0]), (theirs, nodes[1])):
        if row.seen is not None and row.seen.kind == "other":
            return "skip", f" (neither a file, a link nor a directory on {node})"
    conflict = False  # once it is one, both nodes list it
    for _ in range(ROUNDS):
        if mine.seen != mine.agreed or theirs.seen == theirs.agreed:
            base = mine.agreed if mine.seen != mine.agreed else None  # neither side's change: as if never agreed
            said = _decide(base, mine, theirs, files, backwards)
            conflict |= said.conflict
            if said.action != "lost":
                return _step("send", Answer(said.action, conflict), theirs.seen, mine.seen, nodes[0])
            theirs = _unagreed(theirs, mine.seen, files)
        if theirs.seen != theirs.agreed:
            said = _decide(theirs.agreed, theirs, mine, files, nodes)
            conflict |= said.conflict
            if said.action != "lost":
                return _step("receive", Answer(said.action, conflict), mine.seen, theirs.seen, nodes[1])
            mine = _unagreed(mine, theirs.seen, files)
    return "later:", " (neither state wins yet)"


def _live(row: Row) -> State | None:
    return None if row.seen is None or row.seen.kind == "other" else row.seen


def _decide(base: State | None, proposer: Row, decider: Row, files: AnySet, nodes: tuple[str, str]) -> Answer:
    """Return what the decider, whose name comes first, says to the proposer's state."""
    here, agreed, from_peer = decider.seen, decider.agreed, decider.from_peer
    return decide.decide(base, proposer.seen, here, agreed, from_peer, files.prefer, nodes, files.source)


def _unagreed(row: Row, there: State | None, files: AnySet) -> Row:
    """What the decider does when its state wins: call it a change of its own, so that it is sent."""
    agreed = decide.after_loss(row.seen, row.agreed, there, files.source)
    return row if agreed == row.agreed else row._replace(agreed=agreed, from_peer=False)


def _step(way: str, said: Answer, old: State | None, new: State | None, winner: str) -> tuple[str, str]:
    if said.action == "held":
        return "hold", " (both nodes changed it)"
    remark = _size(new)
    if said.conflict:
        remark += f"{CONFLICT}{winner}'s wins, the other is kept)"
    return f"{way} {_operation(old, new)}", remark


def _size(state: State | None) -> str:
    return f" ({state.size} bytes)" if state is not None and state.kind == "file" else ""


def _operation(old: State | None, new: State | None) -> str:
    """Name what has to be done to make the old state the new one."""
    if new is None:
        return "delete"
    if old is not None and old.content == new.content:
        return "meta"
    return {"file": "put", "link": "link", "directory": "mkdir"}.get(new.kind, new.kind)
