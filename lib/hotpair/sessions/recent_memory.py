"""What a conversation remembers of one table of xt_recent: what it has brought, what has not been seen of late. Pure.

A dump is not atomic: under traffic one in thirty lacks an address that is there. A disappearance is believed after
ABSENCES dumps. A table that is empty is held for longer: its rules are being loaded again, or its node has restarted.
"""

from collections.abc import Mapping
from math import inf

from hotpair.sessions.recent_replay import Seen
from hotpair.sessions.record import Entry, Table

ABSENCES = 3  # dumps without an address, one after the other, that make it gone
HELD = 30_000.0  # milliseconds that an empty table may last before it is believed
LOOK = (
    5.0  # seconds after which the table here is read again: somebody may have emptied it, or have had hits of his own
)


class Memory:
    """One table's."""

    def __init__(self, last: Table | None) -> None:
        self.known: dict[str, Seen] = {}
        if last is not None:
            self.known = {key: (last.clock_ms, entry.ages_ms) for key, entry in last.entries.items() if entry.ages_ms}
        self._absent: dict[str, int] = {}
        self._empty: float | None = None
        self._looked = -inf  # when the table here was read, on the monotonic clock

    def stale(self, now: Table, moment: float) -> bool:
        """Say whether the table here must be read at this moment of the monotonic clock, and remember that it is."""
        strange = self._absent.keys() - self.known.keys()  # it is here, but what stamps it has is not known any more
        if moment - self._looked < LOOK and strange.isdisjoint(now.entries):
            return False
        self._looked = moment
        return True

    def held(self, now: Table) -> bool:
        """Say whether the table is empty on the master, and has not been for long."""
        if now.entries:
            self._empty = None
            return False
        if self._empty is None:
            self._empty = now.clock_ms
        return now.clock_ms - self._empty < HELD

    def gone(self, now: Table, here: Mapping[str, Entry] | None, total: int) -> list[str]:
        """Count the absences of a dump, and return the addresses that are to be removed, the oldest first.

        total: addresses that the table can have, 0: not known. What the kernel would throw out is not held.
        """
        missing = [key for some in (self.known, self._absent, here or ()) for key in some if key not in now.entries]
        self._absent = {key: self._absent.get(key, 0) + 1 for key in missing}
        believed = [key for key, times in self._absent.items() if times >= ABSENCES]
        if here and total:
            strange = sorted(
                here.keys() & self._absent.keys() - set(believed), key=lambda key: -(here[key].age_ms or 0)
            )
            over = len(now.entries.keys() | here.keys()) - len(believed) - total
            believed += strange[: max(over, 0)]
        for key in believed:
            del self._absent[key]
            self.known.pop(key, None)
        return believed

    def learn(self, seen: Mapping[str, Seen], failed: Mapping[str, object]) -> None:
        """Take over what has been written. An address that could not be is tried again as a new one."""
        self.known.update(seen)
        for key in failed:
            self.known.pop(key, None)

    def counting(self, clock: float, span: float) -> int:
        """Return how many entries there are that still match a rule: the others need not have been written."""
        if span == inf:
            return len(self.known)
        return sum(clock - then + ages[-1] < span for then, ages in self.known.values())
