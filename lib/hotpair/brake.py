"""The brake: what removes or rewrites too much of a tree waits whole until a person approves of it."""

import time
from collections.abc import Iterable

from hotpair import log
from hotpair.detect import Change, Scope
from hotpair.pauses import lasts
from hotpair.treeset import Share, TreeSet

FEW = 9  # deletes or changes that are always passed on; not deletes that empty the tree
APPROVED = 3600.0  # seconds that an approval lasts


def too_many(tree: TreeSet, deletes: int, changes: int, total: int) -> bool:
    """Say whether so many deletes and changes, of a tree of `total` paths, need a person's word. Pure."""
    return lost_too_much(deletes, total, tree.max_delete) or (changes > FEW and changes > tree.max_change.of(total))


def lost_too_much(lost: int, total: int, most: Share) -> bool:
    """Say whether so many deletes, of `total` paths, are more than may pass: all of them are, even if few. Pure."""
    return (lost > 1 and lost >= total) or (lost > FEW and lost > most.of(total))


def deletes(changes: list[Change]) -> int:
    """Return how many paths the peer would lose, those not counted that only move."""
    moved = {change.source for change in changes if change.source}
    return sum(change.new is None and change.path not in moved for change in changes)


def rewrites(changes: Iterable[Change]) -> int:
    """Return how many paths that both nodes have would get another content or other attributes."""
    return sum(change.base is not None and change.new is not None and not change.source for change in changes)


def pass_on(scope: Scope, changes: list[Change]) -> list[Change]:
    """Return the changes, or none of them when they are too many; that is then a problem until it is approved."""
    if not isinstance(scope.files, TreeSet):
        return changes
    lost, rewritten = deletes(changes), rewrites(changes)
    detail = held(scope, scope.files, lost, rewritten, scope.archive.count())
    if not detail:
        scope.archive.solved("", "brake")
        return changes
    if scope.archive.problem("", "brake", f"{lost} {rewritten}", detail):
        log.error(f"{scope.files.title}: {detail}: if that is right: hotpair approve {scope.files.name}")
    return []


def held(scope: Scope, tree: TreeSet, lost: int, rewritten: int, total: int) -> str:
    """Return why so many deletes and changes, of a tree of `total` paths, wait; "" when they do not."""
    if tree.source not in ("", scope.node.name):
        return ""  # nothing is changed by us: the source puts it back
    fact = scope.archive.fact
    approved = lasts(fact("approved until"), APPROVED)
    if too_many(tree, lost, 0, total) and not (approved and fact("approved") >= lost):
        return f"{lost} of {total} paths are gone here: nothing is sent"
    if too_many(tree, 0, rewritten, total) and not (approved and fact("approved changes") >= rewritten):
        return f"{rewritten} of {total} paths were changed here: nothing is sent"
    return ""


def approve(scope: Scope) -> str:
    """Let pass what is held; return how much that is in words, "" when nothing is held."""
    held = scope.archive.problems("brake")
    if not held:
        return ""
    lost, rewritten = map(int, held[0].subject.split())
    scope.archive.note("approved", lost)
    scope.archive.note("approved changes", rewritten)
    scope.archive.note("approved until", time.time() + APPROVED)
    found = {"deletes": lost, "changes": rewritten}
    return " and ".join(f"{count} {what}" for what, count in found.items() if count)
