"""The run of a set: look, propose, carry, record, until nothing moves. `run` and `sweep` want its run lock."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from hotpair import archive, compare, detect, locks, log, marks, peer, sections, send, storm
from hotpair.config import Config
from hotpair.detect import Change, Scope
from hotpair.exits import Fail, Later, Refused
from hotpair.pauses import growing

PATIENCE = 5.0  # seconds a run waits for files that move; then cron's minute job looks again
PAUSE = 0.02  # seconds between two looks at files that move
ROUNDS = 5  # comparisons until a sweep says that the nodes do not come to rest


class Result(NamedTuple):
    """What a sweep found."""

    code: int
    repaired: int = 0
    differences: tuple[compare.Difference, ...] = ()


def scope(configuration: Config, set_name: str) -> Scope:
    """Open everything that a run of one set works with."""
    node = configuration.node
    return Scope(
        node,
        configuration.named(set_name),
        archive.Archive(archive.connect(), node.peer, set_name),
        sections.load(),
        configuration.signature,
    )


def due(scope: Scope, changes: list[Change], force: bool) -> list[Change]:
    """Leave out what is held or failed and not to be tried again yet."""
    now = time.time()
    waiting = {(p.path, p.subject) for p in scope.archive.problems() if p.kind in ("held", "failed") and p.due > now}
    return [change for change in changes if force or (change.path, change.subject) not in waiting]


@contextmanager
def alone(scope: Scope, seconds: float) -> Iterator[None]:
    """Hold the run lock, and run for the events that came meanwhile. Raises Later when it stays taken so long."""
    with locks.run(scope.files.name, seconds):
        yield
    while storm.unattended(scope.files.name) and unless_under_way(scope) is not None:
        pass


def unless_under_way(scope: Scope, force: bool = False) -> int | None:
    """Run, and again for the events that came meanwhile; return the exit code, None when a run is under way already."""
    code = None
    while code is None or storm.unattended(scope.files.name):
        lock = locks.try_run(scope.files.name)
        if lock is None:
            return code
        try:
            code = run(scope, force)
        finally:
            os.close(lock)
    return code


def run(scope: Scope, force: bool = False, ahead: subprocess.Popen[bytes] | None = None) -> int:
    """Send every change of the set. Returns EX_OK, or EX_TEMPFAIL when something is left for later.

    force: do not wait for a pause to end. ahead: the peer's end, started before we looked.
    """
    name, absences, deadline = scope.files.name, dict[str, float](), time.monotonic() + PATIENCE
    try:
        while True:
            marks.take(name)
            began = time.monotonic()
            found = _survey(scope, absences)
            wanted = due(scope, found.changes, force)
            outcome = send.Outcome()
            if wanted:
                outcome, ahead = _send(scope, wanted, force, ahead), None
            calm, again = storm.over(name, time.monotonic() - began), found.unsettled or outcome.again
            if calm and not again:
                break
            if calm and time.monotonic() > deadline:
                return os.EX_TEMPFAIL
            time.sleep(PAUSE if again else 0)
        marks.done(name)
        return os.EX_TEMPFAIL if outcome.waiting or len(wanted) < len(found.changes) else os.EX_OK
    except (Later, Refused) as fail:
        _away(scope, fail)
        return os.EX_TEMPFAIL
    finally:
        storm.end(name)
        if ahead:
            peer.close(ahead)


def _survey(scope: Scope, absences: dict[str, float]) -> detect.Survey:
    with locks.state(scope.files.name):
        return detect.survey(scope, absences)


def _send(scope: Scope, wanted: list[Change], force: bool, ahead: subprocess.Popen[bytes] | None) -> send.Outcome:
    if not force:
        _wait_for_pause(scope)
    with peer.conversation(scope.node, scope.files, ahead) as other:
        _back(scope)
        outcome = send.send(scope, other, wanted)
        if outcome.turn:
            other.wire.send(turn=True)
            other.wire.expect("done", compare.TURN)
        return outcome


def _wait_for_pause(scope: Scope) -> None:
    for problem in scope.archive.problems():
        if problem.kind == "peer" and problem.due > time.time():
            raise Later(problem.detail)


def _away(scope: Scope, fail: Fail) -> None:
    """Remember that the peer is away and when to try again; say it once."""
    known = [p for p in scope.archive.problems() if p.kind == "peer"]
    if known and known[0].due > time.time():
        return
    pause = growing(known[0].attempts + 1 if known else 1, 5, 900)
    if scope.archive.problem("", "peer", "", str(fail), time.time() + pause):
        log.error(f"{scope.files.name}: {scope.node.peer}: {fail}")


def _back(scope: Scope) -> None:
    if any(p.kind == "peer" for p in scope.archive.problems()):
        scope.archive.solved("", "peer")
        log.notice(f"{scope.files.name}: {scope.node.peer} is back")


def sweep(scope: Scope, force: bool = False) -> Result:
    """Compare the whole set both ways and repair what differs, until both sides are equal."""
    announced = marks.waiting(scope.files.name) or marks.unfinished(scope.files.name)
    marks.take(scope.files.name)
    absences: dict[str, float] = {}
    found = _settled_survey(scope, absences)  # kept and owed before we know whether the peer is there
    repaired = 0 if announced else found.noticed
    if repaired:
        scope.archive.note("repaired", scope.archive.fact("repaired") + repaired)
    try:
        if not force:
            _wait_for_pause(scope)
        with peer.conversation(scope.node, scope.files) as other:
            _back(scope)
            differences = _reconcile(scope, other, found, absences, force)
    except (Later, Refused) as fail:
        _away(scope, fail)
        return Result(os.EX_TEMPFAIL, repaired)
    finally:
        storm.end(scope.files.name)
    if differences:
        scope.archive.problem("", "differ", "", f"{len(differences)} paths differ, {differences[0].path} among them")
        return Result(os.EX_TEMPFAIL, repaired, tuple(differences))
    scope.archive.solved("", "differ")
    marks.done(scope.files.name)
    return Result(os.EX_OK, repaired)


def _reconcile(
    scope: Scope, other: peer.Peer, found: detect.Survey, absences: dict[str, float], force: bool
) -> list[compare.Difference]:
    """Send, compare and let the peer send until both are equal or nothing moves any more; return what differs."""
    differences: list[compare.Difference] = []
    for _ in range(ROUNDS):
        outcome = send.send(scope, other, due(scope, found.changes, force))
        found = _settled_survey(scope, absences)
        started = time.time()
        differences = compare.ask(scope, other)
        differences += [compare.Difference(path, None, None, False) for path in found.unsettled]
        if not differences:
            scope.archive.note("proved", started)
            break
        mine = {change.path for change in found.changes} | set(found.unsettled)
        orphans = compare.orphans(differences, mine)
        outcome = outcome.plus(send.send(scope, other, orphans))
        if outcome.turn or any(d.theirs_changed for d in differences):
            other.wire.send(turn=True)
            other.wire.expect("done", compare.TURN)
        elif not outcome.agreed and not outcome.again and not found.changes:
            break
        found = _settled_survey(scope, absences)
    return differences


def _settled_survey(scope: Scope, absences: dict[str, float]) -> detect.Survey:
    deadline = time.monotonic() + PATIENCE
    while True:
        found = _survey(scope, absences)
        if not found.unsettled or time.monotonic() > deadline:
            return found
        time.sleep(PAUSE)
