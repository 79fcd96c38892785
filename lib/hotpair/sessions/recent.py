"""Session tables of xt_recent, the `-m recent` of iptables(8): read and written below /proc.

A stock kernel takes no time with an address, so a table that is loaded from a file looks as if everybody had just been
here: what the rules would not match any more is left out, and the rest has a deadline. A live mirror repeats each hit
within its interval and needs none. Lost are the time to live of the packets (`--rttl` matches any), and, for hits that
came within one dump, what lay between them.

What is here and not on the master goes after three dumps without it; a single load, as at a promotion, adds only. A
table without entries on the master is not believed for half a minute. The rules are no part of it: they make the table.
"""

import errno
import os
import time
from collections.abc import Mapping
from math import inf
from typing import Any

from hotpair.sessions import recent_patched, recent_proc, recent_rows, recent_rules
from hotpair.sessions.backend import Deadline, Loaded, TableError
from hotpair.sessions.jiffies import Clock
from hotpair.sessions.recent_memory import Memory
from hotpair.sessions.recent_replay import Limits, plan
from hotpair.sessions.recent_rules import Uses
from hotpair.sessions.record import Entry, Table

RULES = 30.0  # seconds for which what the rules say is believed


class Recent:
    """The tables of this network namespace."""

    name = "recent"

    def __init__(self) -> None:
        self._clock = Clock()
        self._uses: dict[str, Uses] = {}
        self._asked = -inf
        self._total: int | None = None
        self._patched: bool | None = None
        self._memories: dict[str, Memory] = {}

    def names(self) -> list[str]:
        """Return the tables of this kind that are here: their rules make them."""
        return recent_proc.names()

    def dump(self, name: str) -> Table:
        """Return a table as it is now. Raises TableError."""
        facts = self._facts(name)  # takes its time now and then, and an age is of the moment of the reading
        with recent_proc.opened(name, os.O_RDONLY) as fd:
            text = recent_proc.text(fd)
        entries, now = self._entries(name, text)
        return Table("recent", name, time.time(), self._clock.ms(now), entries, facts)

    def load(self, wanted: Table, last: Table | None) -> Loaded:
        """Repeat the hits that the table here has not had. Raises TableError."""
        with recent_proc.opened(wanted.name, os.O_RDWR) as fd:
            memory = self._memory(wanted, last)
            if memory.held(wanted):
                return Loaded(memory.counting(wanted.clock_ms, inf))
            table, problems = _fitting(wanted, self._most())
            here = self._here(fd, table, memory)
            limits = self._limits(wanted, asked=bool(here or memory.known))
            gone = memory.gone(table, here, limits.total)
            steps = plan(table, memory.known, here, limits, table.clock_ms - last.clock_ms if last else -1.0)
            failed = recent_proc.write(fd, b"-", [*gone, *steps.removed])
            failed |= self._add(fd, steps.added, table)
            memory.learn(steps.seen, failed)
            problems += [f"{key}: {error.strerror}" for key, error in failed.items()]
            return Loaded(memory.counting(table.clock_ms, limits.span), tuple(problems), _deadlines(fd, steps.due))

    def reap(self, name: str, due: dict[str, str]) -> None:
        """Remove entries whose time is over, by key, unless they were seen since. Raises TableError."""
        with recent_proc.opened(name, os.O_RDWR) as fd:
            marks = recent_rows.marks(recent_proc.text(fd))
            recent_proc.write(fd, b"-", [key for key, mark in due.items() if marks.get(key) == mark])

    def _memory(self, wanted: Table, last: Table | None) -> Memory:
        """Return what the conversation remembers of a table, which is nothing when it or the master is another."""
        same = last is not None and last.origin.boot == wanted.origin.boot
        if not same or wanted.name not in self._memories:
            self._memories[wanted.name] = Memory(last if same else None)
        return self._memories[wanted.name]

    def _here(self, fd: int, table: Table, memory: Memory) -> dict[str, Entry] | None:
        """Return the table here when it must be looked at, None when it is as the last load left it."""
        if memory.stale(table, time.monotonic()):
            return self._entries(table.name, recent_proc.text(fd))[0]
        return None

    def _entries(self, name: str, text: bytes) -> tuple[dict[str, Entry], int]:
        try:
            return recent_rows.entries(text, self._clock.now(), self._clock.tick, self._clock.bits)
        except ValueError as error:
            raise TableError(f"recent {name}: a row that cannot be read: {error}") from error

    def _facts(self, name: str) -> dict[str, Any]:
        """Return what both nodes must have alike. iptables-save takes longer than a dump: it is asked now and then."""
        if time.monotonic() - self._asked >= RULES:
            self._uses = recent_rules.parse(recent_rules.text(), recent_proc.parameter("ip_pkt_list_tot"))
            self._asked = time.monotonic()
        facts = {"ip_list_tot": self._most()} if self._most() else {}
        uses = self._uses.get(name)
        if uses:
            facts |= {"ring": uses.ring, **({"seconds": uses.seconds} if uses.seconds else {})}
        return facts

    def _most(self) -> int:
        """Return how many addresses a table can have; 0: not known."""
        if self._total is None:
            self._total = recent_proc.parameter("ip_list_tot")
        return self._total

    def _limits(self, wanted: Table, asked: bool) -> Limits:
        """Return what a table here can have, and how long the master's rules look back.

        asked: whether the rules here are asked as well, which takes longer than it takes to fill an empty table.
        """
        if self._patched is None:
            self._patched = recent_patched.here()
        seconds, ring = wanted.facts.get("seconds"), wanted.facts.get("ring")
        if asked:
            ring = self._facts(wanted.name).get("ring", ring)
        span = seconds * 1000.0 if isinstance(seconds, int) and seconds > 0 else inf
        return Limits(span, ring if isinstance(ring, int) else 0, self._most(), self._patched)

    def _add(self, fd: int, added: list[tuple[float, str]], table: Table) -> dict[str, OSError]:
        """Write hits and return what was refused, by address."""
        failed: dict[str, OSError] = {}
        if self._patched:
            failed = self._add_exactly(fd, added, table)
            again = {key for key, error in failed.items() if error.errno == errno.EINVAL}
            self._patched = not again  # the module that is loaded is not the one on the disk
            added = [one for one in added if one[1] in again or not recent_patched.takes(one[1])]
            failed = {key: error for key, error in failed.items() if key not in again}
        return failed | recent_proc.write(fd, b"+", [key for _, key in added])

    def _add_exactly(self, fd: int, added: list[tuple[float, str]], table: Table) -> dict[str, OSError]:
        """Write hits with their times: an address at a time, the one seen last at the end."""
        ages: dict[str, list[float]] = {}
        for age, key in reversed(added):
            if recent_patched.takes(key):
                ages.setdefault(key, []).append(age)
        now, failed = self._clock.now(), {}
        for key in reversed(ages):
            stamps = recent_patched.rebased(ages[key], now, self._clock.tick, self._clock.bits)
            for line in recent_patched.writes(key, table.entries[key].data.get("ttl"), stamps):
                if error := recent_proc.put(fd, line):
                    failed[key] = error
        return failed


def _fitting(wanted: Table, total: int) -> tuple[Table, list[str]]:
    """Return a table with the addresses that there is room for here, which are those seen last."""
    over = len(wanted.entries) - total
    if not total or over <= 0:
        return wanted, []
    oldest = sorted(wanted.entries.values(), key=lambda entry: -(entry.age_ms or 0))[:over]
    left = wanted.entries.keys() - {entry.key for entry in oldest}
    problem = f"{over} addresses are more than ip_list_tot = {total} has room for here: the oldest are left out"
    return wanted._replace(entries={key: one for key, one in wanted.entries.items() if key in left}), [problem]


def _deadlines(fd: int, due: Mapping[str, float]) -> dict[str, Deadline]:
    """Return the deadlines of entries that look too young, with the stamps that they have now."""
    if not due:
        return {}
    marks = recent_rows.marks(recent_proc.text(fd))
    return {key: Deadline(remaining, marks[key]) for key, remaining in due.items() if key in marks}
