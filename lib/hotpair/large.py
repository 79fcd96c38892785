"""Large contents: left aside by the run, and carried under a lock of their own when it is over.

A run that carried them itself would hold up every small change for as long as that takes. What is left aside stands in
the archive as a problem of the kind LARGE: whoever holds the lock carries it, and after a crash cron's minute job does.
"""

import os
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


def all_are(scope: Scope, differences: list[compare.Difference]) -> bool:
    """Say whether all that differs are large contents, on their way either way."""
    states = [(one.here, one.there) for one in differences]
    return all(any(state and send.is_large(scope, state) for state in pair) for pair in states)


def carry(scope: Scope, force: bool = False, wait: bool = False, turn: bool = False) -> int:
    """Carry what is left aside here. Returns EX_OK, or EX_TEMPFAIL when something stays. The run lock is not wanted.

    force: do not wait for a pause to end. wait: for another who is at it; without that he is left our part too.
    turn: let the peer then carry its own.
    """
    name, tried = scope.files.name, Tried()
    while (wanted := _untried(scope, tried)) or turn:
        lock = locks.try_large(name, wait)
        if lock is None:
            return os.EX_OK
        try:
            with _conversation(scope, force) as other:
                _carry(scope, other, wanted, force)
                if turn:
                    other.wire.send(**compare.request(scope, "turn", "large"))
                    other.wire.expect("done", compare.TURN)
        except (Later, Refused) as fail:
            pauses.away(scope, fail)
            return os.EX_TEMPFAIL
        finally:
            survey.keep_unsent(scope, large=True)
            os.close(lock)
        tried |= {(problem.path, problem.subject) for problem in wanted}
        turn = False
    return os.EX_TEMPFAIL if aside(scope) else os.EX_OK


def _conversation(scope: Scope, force: bool) -> Any:
    standby.check(scope.files)
    if not force:
        pauses.wait(scope)
    return peer.conversation(scope.node, scope.files)


def aside(scope: Scope) -> list[Problem]:
    """Return what runs have left aside."""
    return [problem for problem in scope.archive.problems() if problem.kind == LARGE]


def _untried(scope: Scope, tried: Tried) -> list[Problem]:
    return [problem for problem in aside(scope) if (problem.path, problem.subject) not in tried]


def _carry(scope: Scope, other: Peer, wanted: list[Problem], force: bool) -> None:
    pauses.back(scope)
    changes = [change for problem in wanted if (change := _as_it_is(scope, problem))]
    outcome = send.send(scope, other, pauses.due(scope, changes, force), aside=True)
    if outcome.turn:
        other.wire.send(turn="large")
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
