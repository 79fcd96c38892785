"""The run of a set: look, propose, carry, record, until nothing moves. `run` and `sweep` want its run lock."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from hotpair import (
    archive,
    brake,
    compare,
    detect,
    hooks,
    large,
    locks,
    marks,
    pauses,
    peer,
    sections,
    send,
    standby,
    storm,
    survey,
    watch,
)
from hotpair.config import Config
from hotpair.detect import Change, Scope, Survey
from hotpair.exits import Later, Refused

PATIENCE = 5.0  # seconds a run waits for files that move; then cron's minute job looks again
BLIND = 3.0  # seconds that incrond is given to watch again after a mkdir, which blinds it for one
PAUSE = 0.02  # seconds between two looks at files that move
ROUNDS = 5  # comparisons until a sweep says that the nodes do not come to rest


class Result(NamedTuple):
    """What a sweep found."""

    code: int
    repaired: int = 0
    differences: tuple[compare.Difference, ...] = ()
    compared: bool = True
    busy: bool = False  # the peer could not take its turn: a run of its own was under way


def scope(configuration: Config, set_name: str) -> Scope:
    """Open everything that a run of one set works with."""
    node = configuration.node
    return Scope(
        node,
        configuration.named(set_name),
        archive.Archive(archive.connect(), node.peer, set_name),
        sections.load(),
        configuration.signature,
        set(),
        {},
    )


@contextmanager
def alone(scope: Scope, seconds: float, force: bool = True) -> Iterator[None]:
    """Hold the run lock, then run for the events that came meanwhile and carry what is large.

    force: do not wait for a pause to end. Raises Later when the lock stays taken so long.
    """
    with locks.run(scope.files.name, seconds):
        yield
    whole = scope._replace(below="", emptying=False)
    while storm.unattended(scope.files.name) and unless_under_way(whole) is not None:
        pass
    large.carry(whole, force)


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


def after_blindness(scope: Scope) -> None:
    """Look at all of a tree once incrond watches again, after directories came from the peer or in a sweep."""
    marks.add(scope.files.name, marks.MISSED)
    unless_under_way(scope)
    large.carry(scope)


def run(scope: Scope, force: bool = False, ahead: subprocess.Popen[bytes] | None = None) -> int:
    """Send every change of the set. Returns EX_OK, or EX_TEMPFAIL when something is left for later.

    force: do not wait for a pause to end. ahead: the peer's end, started before we looked.
    """
    started = [ahead] if ahead else []
    try:
        return _until_calm(scope, force, started)
    except (Later, Refused) as fail:
        pauses.away(scope, fail)
        return os.EX_TEMPFAIL
    finally:
        survey.keep_unsent(scope)
        storm.end(scope.files.name)
        for process in started:
            peer.close(process)


def _until_calm(scope: Scope, force: bool, started: list[subprocess.Popen[bytes]]) -> int:
    """Look and send until nothing moves, no storm lasts, and incrond watches what is there."""
    name, absences, deadline = scope.files.name, dict[str, float](), time.monotonic() + PATIENCE
    marks.take(name)
    claimed, unwatched, watched = marks.claimed(name), 0, True
    folders = survey.marked(scope, claimed)
    blind = missed = marks.MISSED in claimed
    while True:
        began = time.monotonic()
        found = survey.survey(scope, absences, folders)
        unwatched += found.new_folders
        ours = large.left_in(scope, found.changes)
        wanted = brake.pass_on(scope, pauses.due(scope, ours, force))
        outcome = _send(scope, wanted, force, started.pop() if started else None) if wanted else send.Outcome()
        calm, again = storm.over(name, time.monotonic() - began), found.unsettled or outcome.again
        if calm and watch.follow(scope.files, unwatched):  # not before: in a storm the table is away
            blind, unwatched = True, 0
        if not calm:
            deadline = time.monotonic() + PATIENCE  # a storm tries nobody's patience
        elif blind and not again:  # what incrond did not see while it was blind
            watched = storm.rearm(name, BLIND) or missed  # once: where nobody answers it would never end
            blind = calm = False
        elif not again or time.monotonic() > deadline:
            break
        time.sleep(PAUSE if again else 0)
        events = marks.take(name)
        folders = survey.next_look(scope, found, wanted if outcome.again else [], events) if calm else None
    left = again or outcome.waiting or len(wanted) < len(ours) or bool(found.later)
    if not left:
        marks.done(name)
    if blind or not watched:  # for the minute job: a run at once would be out of patience as this one is
        marks.claim(name, marks.MISSED)
    return os.EX_TEMPFAIL if left else os.EX_OK


def _send(scope: Scope, wanted: list[Change], force: bool, ahead: subprocess.Popen[bytes] | None) -> send.Outcome:
    standby.check(scope.files)
    if not force:
        pauses.wait(scope)
    with peer.conversation(scope, ahead) as other:
        pauses.back(scope)
        outcome = send.send(scope, other, wanted)
        if outcome.turn and not scope.turned:
            other.wire.send(turn=True)
            other.wire.expect("done", compare.TURN)
        return outcome


def sweep(scope: Scope, force: bool = False, rounds: int = ROUNDS) -> Result:
    """Compare the whole set both ways and repair what differs, until both sides are equal."""
    announced = marks.waiting(scope.files.name) or marks.unfinished(scope.files.name)
    if not scope.below:
        marks.take(scope.files.name)
    absences: dict[str, float] = {}
    repaired = 0
    try:
        found = _settled_survey(scope, absences)  # kept and owed before we know whether the peer is there
        repaired = 0 if announced else found.noticed
        if repaired:
            scope.archive.note("repaired", scope.archive.fact("repaired") + repaired)
        standby.check(scope.files)
        if not force:
            pauses.wait(scope)
        with peer.conversation(scope) as other:
            pauses.back(scope)
            differences, busy = _reconcile(scope, other, found, absences, force, rounds)
    except (Later, Refused) as fail:
        pauses.away(scope, fail)
        return Result(os.EX_TEMPFAIL, repaired)
    finally:
        survey.keep_unsent(scope)
        storm.end(scope.files.name)
    if differences:
        if not all(large.are(scope, differences)):
            what = f"{len(differences)} paths differ, {differences[0].path} among them"
            scope.archive.problem("", "differ", "", what)
        return Result(os.EX_TEMPFAIL, repaired, tuple(differences), busy=busy)
    if not scope.below:
        scope.archive.solved("", "differ", hooks.Unready.kind)
        marks.done(scope.files.name)
    return Result(os.EX_OK, repaired)


def _reconcile(
    scope: Scope, other: peer.Peer, found: Survey, absences: dict[str, float], force: bool, rounds: int
) -> tuple[list[compare.Difference], bool]:
    """Send, compare and let the peer send until both are equal or nothing moves any more.

    Returns what differs, and whether the peer's last turn fell upon a run of its own.
    """
    differences, busy = list[compare.Difference](), False
    for _ in range(rounds):
        wanted = brake.pass_on(scope, pauses.due(scope, large.left_in(scope, found.changes), force))
        outcome = send.send(scope, other, wanted)
        if wanted:
            found = _settled_survey(scope, absences)
        started = time.time()
        differences = compare.ask(scope, other, found)
        differences += [compare.Difference(path, None, None, False) for path in [*found.unsettled, *found.later]]
        if not differences:
            if not scope.below:
                scope.archive.note("proved", started)
            if not pauses.due(scope, large.left_in(scope, found.changes), force):
                break
            continue  # what both have come to have is agreed on by proposing it
        mine = {change.path for change in found.changes} | {*found.unsettled, *found.later}
        mine |= {problem.path for problem in scope.archive.problems("unsupported")}  # neither sent nor called removed
        orphans = compare.orphans(differences, mine)
        outcome = outcome.plus(send.send(scope, other, orphans))
        if outcome.turn or any(d.theirs_changed for d in differences):
            other.wire.send(**compare.request(scope, "turn", True))
            busy = other.wire.expect("done", compare.TURN) == compare.BUSY
        elif not outcome.agreed and not outcome.again and not large.left_in(scope, found.changes):
            break
        found = _settled_survey(scope, absences)
    return differences, busy


def _settled_survey(scope: Scope, absences: dict[str, float]) -> Survey:
    deadline = time.monotonic() + PATIENCE
    while True:
        began = time.monotonic()
        found = survey.survey(scope, absences)
        if watch.follow(scope.files, found.new_folders):
            marks.add(scope.files.name, marks.MISSED)  # looked at by the run that follows
        if not found.unsettled or time.monotonic() > deadline:
            return found
        time.sleep(max(PAUSE, time.monotonic() - began, detect.rest(absences)))
