"""Verify: hold the two sides of a set against each other, and repair nothing. What psync's own rcheck did."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from hotpair import detect, log, plan, scan
from hotpair.archive import Archive
from hotpair.detect import Scope
from hotpair.plan import Seen
from hotpair.scan import State

# Exit codes, as psync's rcheck has them.
EQUAL, FAILED, DIVERGED, UNDER_WAY = 0, 1, 2, 3


class Difference(NamedTuple):
    """A path that is not the same on both; `under_way`: the next run knows what to do about it."""

    path: str
    here: State | None
    there: State | None
    under_way: bool
    decayed: bool = False


class Report(NamedTuple):
    """What was found in one set: the names of both nodes, and the differences."""

    nodes: tuple[str, str]
    differences: list[Difference]

    @property
    def code(self) -> int:
        if any(not one.under_way for one in self.differences):
            return DIVERGED
        return UNDER_WAY if self.differences else EQUAL


def verify(scope: Scope, lite: bool) -> Report:
    """Compare both sides now. lite: kinds and sizes alone. Raises Later or Refused when the peer cannot say."""
    before = scope.archive.in_memory()
    mine, theirs, nodes = plan.both(scope)
    nothing = plan.NOTHING
    found = []
    for path in sorted(mine.keys() | theirs.keys()):
        here, there = mine.get(path, nothing), theirs.get(path, nothing)
        if _seen(here, lite) != _seen(there, lite):
            decayed = here.decayed or there.decayed
            under_way = not decayed and (_under_way(here) or _under_way(there) or _crossed(scope, before, path))
            found.append(Difference(path, here.row.seen, there.row.seen, under_way, decayed))
    return Report(nodes, [one for one in found if not (lite and one.under_way)])


def due(hours: Sequence[int], last: float, now: float) -> bool:
    """Say whether everything is to be read again now: in one of the hours, and not yet since it struck."""
    return time.localtime(now).tm_hour in hours and time.localtime(last)[:4] != time.localtime(now)[:4]


def remember(scope: Scope, report: Report) -> None:
    """List what differs though nothing is under way, and say it once; or that it is over."""
    wrong = [one.path for one in report.differences if not one.under_way]
    if not wrong:
        scope.archive.solved("", detect.DECAYED)
        return
    what = f"contents of {len(wrong)} paths differ, and no time or size tells why: {wrong[0]}"
    if scope.archive.problem("", detect.DECAYED, wrong[0], what):
        log.error(f"{scope.files.title}: {what}: see `psync --check --checksum {scope.files.name}`")


def _seen(one: Seen, lite: bool) -> Any:
    state = one.row.seen
    if state is None or state.kind == "other":
        return None
    return (state.kind, state.size) if lite else state


def _under_way(one: Seen) -> bool:
    return one.moving or bool(one.source) or one.row.seen != one.row.agreed


def _crossed(scope: Scope, before: Archive, path: str) -> bool:
    """Say whether the nodes have agreed on another state of a path since, and looked at it before and after that."""
    return before.row(path).agreed != scope.archive.row(path).agreed


def as_lines(report: Report) -> list[str]:
    """Return one line a difference, with what stands on either side."""
    here, there = report.nodes
    return [
        log.escape(
            f"{one.path}: {here} has {scan.brief(one.here)}, {there} has {scan.brief(one.there)}"
            f"{' (under way)' if one.under_way else ''}{' (its times did not change)' if one.decayed else ''}"
        )
        for one in report.differences
    ]


def as_json(report: Report) -> dict[str, Any]:
    return {
        "code": report.code,
        "nodes": report.nodes,
        "differences": [
            {"path": one.path, "here": scan.brief(one.here), "there": scan.brief(one.there), "under_way": one.under_way}
            for one in report.differences
        ],
    }
