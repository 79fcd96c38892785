"""Lineage: whether the peer's archive is still the one that ours speaks of, or was lost, or set back to an older state.

Whoever proposes notes a random number first, and the peer notes it as the last one it was told. A peer that knows it no
more has forgotten what it sent: then nothing here counts as its own, and what differs is decided as if never agreed.
"""

import secrets
from typing import Any

from hotpair import log
from hotpair.archive import Archive, transaction
from hotpair.detect import Scope

KEPT = 8  # numbers that are told: of so many conversations that began beside the one that the peer heard last
LAST = "told by the peer"


def told(archive: Archive) -> list[float]:
    """Return the numbers of our last conversations in which something was proposed."""
    return [number for slot in range(KEPT) if (number := archive.fact(f"proposal {slot}"))]


def begin(archive: Archive) -> float:
    """Return a new number, which is on the disk before anything is proposed under it."""
    number = float(secrets.randbits(52) + 1)
    with transaction(archive.db):
        count = archive.fact("proposals")
        archive.note(f"proposal {int(count) % KEPT}", number)
        archive.note("proposals", count + 1)
    return number


def forgotten(archive: Archive, numbers: Any) -> bool:
    """Say whether a peer that tells these numbers has forgotten what it last proposed to us."""
    last = archive.fact(LAST)
    return bool(last) and isinstance(numbers, list) and last not in numbers


def heard(scope: Scope, peer: str, forgotten: bool, number: Any) -> None:
    """Note what the peer proposes under, and that it knows nothing of what came before. Within a transaction."""
    if forgotten:
        scope.archive.disown()
        log.notice(f"{scope.files.title}: {peer} has forgotten what it sent: its archive is another one, or an older")
    if isinstance(number, float | int) and 0 < number <= 1 << 52:
        scope.archive.note(LAST, number)
