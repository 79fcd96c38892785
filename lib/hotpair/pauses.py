"""Pauses: what stands in the way of sending, and how long until it is tried again."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from hotpair import hooks, log
from hotpair.exits import Fail, Later

AWAY = 5.0, 900.0  # seconds, first and longest, until the peer is asked again
LONGEST = 3600.0  # seconds of a pause after a change failed
PAUSED = {kind.kind: kind for kind in (Later, hooks.Unready)}  # what is tried again after growing pauses

if TYPE_CHECKING:  # detect owes commands, whose retries want `growing`
    from hotpair.detect import Change, Scope


def growing(attempts: int, first: float, most: float) -> float:
    """Return the seconds to wait after so many failures: `first`, doubled by each further one, at most `most`."""
    if attempts < 1:
        return 0.0
    return min(first * 2.0 ** min(attempts - 1, 60), most)  # 2**60 s: any `most` is reached, and no float overflows


def lasts(until: float, longest: float) -> bool:
    """Say whether a pause goes on: more is left of it than it was long only where the clock was set back."""
    return 0 < until - time.time() <= longest


def due(scope: Scope, changes: list[Change], force: bool) -> list[Change]:
    """Leave out what is held or failed and not to be tried again yet."""
    problems = scope.archive.problems("held", "failed")
    waiting = {(p.path, p.subject) for p in problems if p.due == math.inf or lasts(p.due, LONGEST)}
    return [change for change in changes if force or (change.path, change.subject) not in waiting]


def wait(scope: Scope) -> None:
    """Raise Later while the peer that was away, or what runs before a batch, is not to be asked again yet."""
    for problem in scope.archive.problems(*PAUSED):
        if lasts(problem.due, AWAY[1]):
            raise PAUSED[problem.kind](problem.detail)


def away(scope: Scope, fail: Fail) -> None:
    """Remember what stands in the way, the peer's absence most often, and when to try again; say it once."""
    kind = fail.kind if isinstance(fail, Later) else "peer"
    known = scope.archive.problems(kind)
    if known and lasts(known[0].due, AWAY[1]):
        return
    pause = growing(known[0].attempts + 1 if known else 1, *AWAY) if kind in PAUSED else 0.0
    if scope.archive.problem("", kind, "", str(fail), time.time() + pause) and kind != "standby":
        log.error(f"{scope.files.title}: {scope.node.peer + ': ' if kind == 'peer' else ''}{fail}")


def back(scope: Scope) -> None:
    """Forget what stood in the way: the peer answers."""
    scope.archive.solved("", "unmounted", "standby")
    if scope.archive.problems("peer"):
        scope.archive.solved("", "peer")
        log.notice(f"{scope.files.title}: {scope.node.peer} is back")
