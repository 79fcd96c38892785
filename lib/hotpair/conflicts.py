"""Conflicts for a person: what both nodes changed, what is live, where the other is, and the word that ends it.

A conflict that was decided has a winner, live on both nodes, and a loser, which stands beside it or is a generation on
the node that wrote it. One that is held has two live states, and neither node takes the other's until a person says
which.
"""

import os
import shlex
from contextlib import suppress
from typing import Any, NamedTuple

from hotpair import beside, compare, detect, keep, locks, log, restore, run, scan, survey, tasks
from hotpair.archive import Problem, transaction
from hotpair.config import Config
from hotpair.detect import Scope
from hotpair.exits import Later, NoInput, Refused
from hotpair.keep import Generation
from hotpair.peer import conversation
from hotpair.scan import State
from hotpair.treeset import Unmounted

KINDS = ("conflict", "held")


class Conflict(NamedTuple):
    """One listed path: what this node wrote is live here, or is generation `kept`, or stands beside it, or neither."""

    set_name: str
    problem: Problem
    ours_live: bool
    kept: int
    copies: list[str]  # that stand beside it, whoever wrote them


def listed(configuration: Config) -> list[tuple[Scope, Conflict]]:
    """Return every conflict of every set, oldest first in each."""
    found = []
    for name in configuration.sets:
        scope = run.scope(configuration, name)
        found += [(scope, _conflict(scope, p)) for p in scope.archive.problems(*KINDS)]
    return found


def _conflict(scope: Scope, problem: Problem) -> Conflict:
    """Find what this node wrote: the problem remembers its state."""
    live = scope.archive.row(problem.path).seen
    ours_live = problem.kind == "held" or scan.subject(live) == problem.subject
    loser = None if ours_live else _loser(scope, problem)
    return Conflict(scope.files.name, problem, ours_live, loser.number if loser else 0, beside.copies(problem.path))


def _loser(scope: Scope, problem: Problem) -> Generation | None:
    copy = beside.lost(scope.files, problem.path, problem.subject)
    if copy is not None:
        return Generation(0, *copy)
    try:
        kept = keep.generations(scope.files, problem.path)
    except Unmounted:
        return None
    return next((g for g in kept if scan.subject(g.state) == problem.subject), None)


def as_json(conflict: Conflict) -> dict[str, Any]:
    problem = conflict.problem
    return {
        "set": conflict.set_name,
        "path": problem.path,
        "kind": problem.kind,
        "since": problem.since,
        "detail": problem.detail,
        "live": _live(conflict),
        "kept_generation": conflict.kept or None,
        "copies": conflict.copies,
        "resolve": f"hotpair resolve {shlex.quote(problem.path)} --take here|peer",
    }


def _live(conflict: Conflict) -> str:
    if conflict.problem.kind == "held":
        return "each node's own"
    return "what this node wrote" if conflict.ours_live else "what the peer wrote"


def as_lines(conflict: Conflict) -> list[str]:
    problem = conflict.problem
    kept = "each is live on its own node"
    if conflict.copies:
        kept = "beside it: " + ", ".join(copy.rpartition("/")[2] for copy in conflict.copies)
    elif problem.kind == "conflict":
        kept = "the other is kept on the peer (`hotpair history` there)"
        if not conflict.ours_live:
            kept = f"ours is generation {conflict.kept} here" if conflict.kept else "ours is not among the generations"
    return [
        log.escape(line)
        for line in (
            f"{conflict.set_name}: {problem.path}: {problem.kind} since {restore.moment(problem.since)}",
            f"    {problem.detail}",
            f"    live: {_live(conflict)}; {kept}",
            f"    hotpair resolve {shlex.quote(problem.path)} --take here|peer",
        )
    ]


def resolve(scope: Scope, live: str, take: str) -> int:
    """End the conflict of a path by taking what this node ("here") or the peer wrote. Returns the exit code."""
    mine = {p.kind: p for p in scope.archive.problems(*KINDS) if p.path == live}
    if not mine:
        raise NoInput(f"{live} has no conflict", "see `hotpair conflicts`")
    code = os.EX_OK
    if "held" in mine:
        code = _take_here(scope, live) if take == "here" else _take_peer(scope, live)
    elif (take == "here") != _conflict(scope, mine["conflict"]).ours_live:
        code = _swap(scope, mine["conflict"], take)
    if code == os.EX_OK:
        _acknowledge(scope, live)
        print(log.escape(f"{live}: resolved: what {take_name(take)} wrote is live on both nodes"))
    else:
        print(log.escape(f"{live}: not resolved yet: try again when {scope.node.peer} can be reached"))
    return code


def take_name(take: str) -> str:
    return "this node" if take == "here" else "the peer"


def _swap(scope: Scope, problem: Problem, take: str) -> int:
    """Put the loser in the winner's place: only the node that wrote it has it."""
    live = problem.path
    if scope.files.source not in ("", scope.node.name):
        raise NoInput(f"{live} is taken from {scope.files.source} alone", "make the change there")
    if take == "peer":
        raise NoInput(
            f"what the peer wrote to {live} is kept there alone",
            f"on {scope.node.peer}: hotpair resolve {shlex.quote(live)} --take here",
        )
    if problem.subject == scan.subject(None):
        raise NoInput(f"this node had removed {live}", f"rm {shlex.quote(live)} if that is what you want")
    with locks.state(scope.files.name):
        loser = _loser(scope, problem)
        if loser is None:
            raise NoInput(
                f"what this node wrote to {live} is not among its generations (metadata alone, or too old)",
                f"see `hotpair history {shlex.quote(live)}`, or --take peer",
            )
        restore.put(scope, live, loser)
    what = f"generation {loser.number}" if loser.number else loser.copy
    return restore.crossed(scope, live, f"{live}: {what}")


def _take_here(scope: Scope, live: str) -> int:
    """Propose our live state as a change of the peer's, so that it is taken, and the peer's is kept there."""
    theirs = _ask(scope, live)
    with run.alone(scope, restore.WAIT):
        with locks.state(scope.files.name), transaction(scope.archive.db):
            row = detect.current(scope, live, scope.archive.row(live))
            scope.archive.put(live, row._replace(agreed=theirs, from_peer=False))
        run.run(scope, force=True)
    return _agreed(scope, live)


def _take_peer(scope: Scope, live: str) -> int:
    """Call our live state one that the peer may replace, and let it send its own; ours is kept here."""
    with locks.state(scope.files.name), transaction(scope.archive.db):
        row = detect.current(scope, live, scope.archive.row(live))
        scope.archive.put(live, row._replace(agreed=row.seen, from_peer=True))
    with conversation(scope) as other:
        other.wire.send(turn=True)
        other.wire.expect("done", compare.TURN)
    return _agreed(scope, live)


def _ask(scope: Scope, live: str) -> State | None:
    """Return the peer's live state of a path."""
    with conversation(scope) as other:
        for difference in compare.ask(scope, other, survey.survey(scope, {})):
            if difference.path == live:
                return difference.there
    return scope.archive.row(live).seen


def _agreed(scope: Scope, live: str) -> int:
    """Run what is owed, and ask whether both nodes have the same by now."""
    tasks.run_due(scope.archive.db, scope.files.name)
    return os.EX_OK if _ask(scope, live) == scope.archive.row(live).seen else os.EX_TEMPFAIL


def _acknowledge(scope: Scope, live: str) -> None:
    """Drop the path from both nodes' lists, and the copy beside it; a peer that is away keeps it in its own list."""
    if compare.end_conflict(scope, live):
        with suppress(Later), run.alone(scope, restore.WAIT):  # the run under way, if one stays, sees the mark
            run.run(scope, force=True)
    try:
        with conversation(scope) as other:
            other.wire.send(resolved=scope.files.shared(live))
            other.wire.expect("resolved")
    except (Later, Refused) as away:
        print(log.escape(f"{scope.node.peer} still lists it ({away.message}): resolve it there as well"))


def retry(configuration: Config, set_name: str | None) -> int:
    """Make everything that waits for a pause, or was given up, due now, and run it. Returns the exit code."""
    names = [configuration.named(set_name).name] if set_name else list(configuration.sets)
    left = 0
    for name in names:
        scope = run.scope(configuration, name)
        with run.alone(scope, restore.WAIT):
            code = run.run(scope, force=True)
        left += bool(code) + tasks.run_due(scope.archive.db, name, force=True)
        for problem in scope.archive.problems("peer", "before", "failed", "held", "unreadable"):
            left += 1
            print(log.escape(f"{name}: {problem.path or scope.node.peer}: still {problem.kind}: {problem.detail}"))
    return os.EX_TEMPFAIL if left else os.EX_OK
