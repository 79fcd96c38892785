"""What must be written to a table of xt_recent to make it what the master's is. Pure.

A stock kernel takes "one more hit of this address, now" and "no such address", nothing else. So each hit that the
standby has not had is written once, in the order of the hits: hit counts are kept, the ring has the same number of
stamps, and what the kernel throws out first stays the same. An entry written whole looks younger than it is.
"""

from collections.abc import Mapping
from math import inf
from operator import itemgetter
from typing import NamedTuple

from hotpair.sessions.record import SAME_STAMP, Entry, Table

SLACK = 50.0  # milliseconds by which the time that a dump took to get here may be misjudged
LIVE = 2500.0  # milliseconds that an entry which was mirrored live may look too young: the usual interval, and transit

Ages = tuple[float, ...]  # since each hit, in milliseconds, the oldest hit first
Seen = tuple[float, Ages]  # what the master had of an address, and when that was by its clock


class Limits(NamedTuple):
    """What the table here can have."""

    span: float = inf  # milliseconds after which an entry matches no rule
    ring: int = 0  # stamps of an address, 0: not known
    total: int = 0  # addresses, 0: not known
    exact: bool = False  # stamps of IPv4 can be written as they are


class Plan(NamedTuple):
    """What to write, in this order."""

    removed: list[str]
    added: list[tuple[float, str]]  # age and address of each hit, the oldest first
    seen: dict[str, Seen]  # what is new in what the table will have had
    due: dict[str, float]  # by address: the milliseconds after which an entry that looks too young must go


def unseen(before: Ages, after: Ages, passed: float) -> int | None:
    """Return how many hits there are in `after` since `before`; None when it is another entry, or the ring has turned.

    The ring forgets its oldest hit for each new one: the end of `before` is the beginning of `after`.
    """
    if len(after) < len(before):
        return None
    for new in range(len(after)):
        kept = len(after) - new
        if kept <= len(before) and _same(before[-kept:], after[:kept], passed):
            return new
    return None


def _still(before: Ages, after: Ages, passed: float, ring: int) -> bool:
    """Say whether there has been no hit. Only in a ring that is full can one leave their number and the last as is."""
    if len(before) != len(after) or not -SAME_STAMP <= after[-1] - before[-1] - passed <= SAME_STAMP:
        return False
    return len(after) < ring or _same(before, after, passed)


def _same(some: Ages, others: Ages, passed: float) -> bool:
    return len(some) == len(others) and all(
        abs(one + passed - other) <= SAME_STAMP for one, other in zip(some, others, strict=True)
    )


def behind(here: Ages, there: Ages, least: int, ring: int) -> int | None:
    """Return how many of the master's last hits an entry lacks that an earlier conversation wrote; None: it is another.

    A replayed stamp is later than its hit, never earlier. least: how many of the master's stamps still count.
    """
    for new in range(len(there) + 1):
        count = len(here) + new
        if count > len(there) and len(here) == ring:
            count = ring
        kept = count - new
        if kept > 0 and least <= count <= len(there):
            pairs = zip(here[len(here) - kept :], there[len(there) - count : len(there) - new], strict=True)
            if all(mine <= its + SLACK for mine, its in pairs):
                return new
    return None


def plan(
    now: Table, known: Mapping[str, Seen], here: Mapping[str, Entry] | None, limits: Limits, recent: float = -1.0
) -> Plan:
    """Return what makes the table here the master's, without what has disappeared there.

    known: what this conversation has brought of each address. here: the table, None: it is as the conversation left it.
    recent: milliseconds since the last dump; a hit before that looks too young when it is written now.
    """
    if not known and not here and not limits.exact:
        return _all(now, limits, recent)
    found = Plan([], [], {}, {})
    clock, ring, exact, span = now.clock_ms, limits.ring, limits.exact, limits.span
    for key, entry in now.entries.items():
        ages = entry.ages_ms[-ring:]
        if not ages:
            continue
        old = known.get(key)
        old = old and (old[0], old[1][-ring:])  # all that a smaller ring can have of it
        if old is not None and here is None and _still(old[1], ages, clock - old[0], ring):
            continue
        found.seen[key] = (clock, ages)
        if exact:
            span = inf if ":" not in key else limits.span
        row = here.get(key) if here else None
        if old is not None and (here is None or _fits(row, old[1], clock - old[0], span)):
            _step(found, key, ages, unseen(old[1], ages, clock - old[0]), row, span, recent)
        elif row is not None:
            least = sum(age < span for age in ages)
            _step(found, key, ages, behind(row.ages_ms, ages, least, ring), row, span, recent)
        else:
            _whole(found, key, ages, span, recent)
    found.added.sort(key=itemgetter(0), reverse=True)  # by the bare numbers: a third of the time
    return found


def _all(now: Table, limits: Limits, recent: float) -> Plan:
    """Write everything, as the loop of `plan` would with nothing there, in half the time."""
    clock, ring, span = now.clock_ms, limits.ring, limits.span
    seen = {key: (clock, entry.ages_ms[-ring:]) for key, entry in now.entries.items() if entry.ages_ms}
    added = [(age, key) for key, (_, ages) in seen.items() for age in ages if age < span]
    added.sort(key=itemgetter(0), reverse=True)
    due = {key: span - ages[-1] for key, (_, ages) in seen.items() if recent < ages[-1] < span} if span < inf else {}
    return Plan([], added, seen, due)


def _whole(found: Plan, key: str, ages: Ages, span: float, recent: float) -> None:
    """Write an entry that is not there: those of its hits that still count."""
    hits = ages if ages[0] < span else [age for age in ages if age < span]
    if hits:
        for age in hits:
            found.added.append((age, key))
        if recent < ages[-1] and span < inf:
            found.due[key] = span - ages[-1]


def _step(found: Plan, key: str, ages: Ages, new: int | None, row: Entry | None, span: float, recent: float) -> None:
    """Write the new hits of an entry that is there; or remove it, and write it anew when it is another (None)."""
    if new is None:
        found.removed.append(key)
        _whole(found, key, ages, span, recent)
    elif new:
        _whole(found, key, ages[-new:], span, recent)
    elif row is not None and row.ages_ms[-1] + LIVE < ages[-1] and row.ages_ms[-1] < span < inf:
        if ages[-1] < span:
            found.due[key] = span - ages[-1]
        else:
            found.removed.append(key)  # it would match a rule here, and does not there


def _fits(row: Entry | None, old: Ages, passed: float, span: float) -> bool:
    """Say whether an entry has as many stamps as were written of it; those that do not count need not have been."""
    return sum(age + passed < span for age in old) <= (len(row.ages_ms) if row else 0) <= len(old)
