"""Large contents: left aside by the run, and carried under a lock of their own when it is over.

A run that carried them itself would hold up every small change for as long as that takes. What is left aside stands in
the archive as a problem of the kind LARGE: whoever holds the lock carries it, and after a crash cron's minute job does.
"""

import os
from collections.abc import Iterable
from typing import Any

from hotpair import compare, locks, paths, pauses, peer, quiet, send, standby, survey
from hotpair.archive import Problem
from hotpair.detect import LARGE, Change, Scope
from hotpair.exits import Later, Refused
from hotpair.peer import Peer

Tried = set[tuple[str, str]]  # path and subject


def left_in(scope: Scope, changes: list[Change]) -> list[Change]:
    """Return the changes that are the run's own: those that are not left aside already."""
    known = {(problem.path, problem.subject) for problem in aside(scope)}
    return [change for change in changes if (change.path, change.subject) not in known]


def are(scope: Scope, differences: Iterable[compare.Difference]) -> list[bool]:
    """Return for each difference whether it is a large content, on its way to the one or the other node."""
    pairs = [(one.here, one.there) for one in differences]
    return [any(state and send.is_large(scope, state) for state in pair) for pair in pairs]


def carry(scope: Scope, force: bool = False, turn: bool = False) -> int | None:
    """Carry what is left aside here. The run lock is not wanted.

    Returns EX_OK, EX_TEMPFAIL when something stays, or None when another is at it already, here or with the peer: he
    carries our part too, and is not waited for, since he may be waiting for somebody who waits for us.
    force: do not wait for a pause to end. turn: let the peer then carry its own.
    """
    busy = False
    name, tried = scope.files.name, Tried()
    while (wanted := _untried(scope, tried)) or turn:
        lock = locks.try_large(name)
        if lock is None:
            return None
        try:
            with _conversation(scope, force) as other:
                _carry(scope, other, wanted, force)
                if turn:
                    other.wire.send(**compare.request(scope, "turn", "large"))
                    busy = other.wire.expect("done", compare.TURN) == compare.BUSY
        except (Later, Refused) as fail:
            pauses.away(scope, fail)
            return os.EX_TEMPFAIL
        finally:
            survey.keep_unsent(scope, large=True)
            os.close(lock)
        tried |= {(problem.path, problem.subject) for problem in wanted}
        turn = False
    if busy:
        return None
    return os.EX_TEMPFAIL if aside(scope) else os.EX_OK


def _conversation(scope: Scope, force: bool) -> Any:
    standby.check(scope.files)
    if not force:
        pauses.wait(scope)
    return peer.conversation(scope)


def aside(scope: Scope) -> list[Problem]:
    """Return what runs have left aside."""
    return scope.archive.problems(LARGE)


def _untried(scope: Scope, tried: Tried) -> list[Problem]:
    return [problem for problem in aside(scope) if (problem.path, problem.subject) not in tried]


def _carry(scope: Scope, other: Peer, wanted: list[Problem], force: bool) -> None:
    pauses.back(scope)
    changes = [change for problem in wanted if (change := _as_it_is(scope, problem))]
    outcome = send.send(scope, other, pauses.due(scope, changes, force), aside=True)
    if outcome.turn and not scope.turned:
        other.wire.send(turn=True)
        other.wire.expect("done", compare.TURN)


def _as_it_is(scope: Scope, problem: Problem) -> Change | None:
    """Return the change that was left aside, None when that is no longer what stands there: the next run sees to it."""
    with locks.state(scope.files.name):
        row = scope.archive.row(problem.path)
        change = Change(problem.path, row.agreed, row.seen)
        untouched = row.signature in ("", quiet.signature(paths.under(problem.path)))
        if row.seen == row.agreed or change.subject != problem.subject or not untouched:
            scope.archive.solved(problem.path, LARGE)
            return None
    return change
