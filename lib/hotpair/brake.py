"""The brake: a batch that removes too much of a tree waits whole until a person approves of it."""

import time

from hotpair import log
from hotpair.detect import Change, Scope
from hotpair.treeset import TreeSet

FEW = 9  # deletes that are always passed on, unless they empty the tree
APPROVED = 3600.0  # seconds that an approval lasts


def too_many(tree: TreeSet, deletes: int, total: int) -> bool:
    """Say whether so many deletes, of a tree of `total` paths, need a person's word. Pure."""
    return deletes > 1 and (deletes >= total or (deletes > FEW and deletes > tree.max_delete.of(total)))


def deletes(changes: list[Change]) -> int:
    """Return how many paths the peer would lose, those not counted that only move."""
    moved = {change.source for change in changes if change.source}
    return sum(change.new is None and change.path not in moved for change in changes)


def pass_on(scope: Scope, changes: list[Change]) -> list[Change]:
    """Return the changes, or none of them when they remove too much; that is then a problem until it is approved."""
    if not isinstance(scope.files, TreeSet):
        return changes
    lost = deletes(changes)
    detail = held(scope, scope.files, lost)
    if not detail:
        scope.archive.solved("", "brake")
        return changes
    if scope.archive.problem("", "brake", str(lost), detail):
        log.error(f"{scope.files.name}: {detail}: if that is right: hotpair approve {scope.files.name}")
    return []


def held(scope: Scope, tree: TreeSet, lost: int) -> str:
    """Return why so many deletes wait, "" when they do not."""
    total = scope.archive.count()
    approved = scope.archive.fact("approved") >= lost and time.time() < scope.archive.fact("approved until")
    if approved or not too_many(tree, lost, total):
        return ""
    return f"{lost} of {total} paths are gone here: nothing is sent"


def approve(scope: Scope) -> int:
    """Let the deletes that are held pass; return how many they are, 0 when none are held."""
    held = [problem for problem in scope.archive.problems() if problem.kind == "brake"]
    if not held:
        return 0
    scope.archive.note("approved", float(held[0].subject))
    scope.archive.note("approved until", time.time() + APPROVED)
    return int(held[0].subject)
