"""Flow entries of the kernel's connection tracking: what a firewall lets through because it has seen it begin.

The table here also has this node's own flows, so a load only takes away what an earlier one brought. A flow between the
two nodes themselves, such as the ssh that carries the mirror, stays where it is: one end is an address of the master,
the other of this node. The shared address is the master's, and its clients are neither's, so their flows are carried.

Lost are labels, helpers with what they expect, and the counters. SCTP and DCCP need what conntrack(8) does not show.
"""

import errno
import os
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import NamedTuple

from hotpair.sessions import conntrack_lines, conntrack_netlink, tool
from hotpair.sessions.backend import Loaded, Missing, TableError
from hotpair.sessions.conntrack_messages import Flow, Unfit, flow
from hotpair.sessions.record import SAME_DEADLINE, Entry, Table

MOST = "/proc/sys/net/netfilter/nf_conntrack_max"
LIST = ("conntrack", "-L", "-u", "ASSURED", "-o", "extended")
SHOWN = 100  # characters of a key


class Conntrack:
    """The one table of this network namespace."""

    name = "conntrack"

    def __init__(self) -> None:
        self._written: dict[str, Written] = {}

    def names(self) -> list[str]:
        """Return the one table, where the kernel tracks connections."""
        return [""] if os.path.exists(MOST) else []

    def dump(self, name: str) -> Table:
        """Return the table as it is now. Raises TableError."""
        facts, own = {"nf_conntrack_max": _most(name)}, _own()
        clock, at = time.monotonic() * 1000, time.time()
        return Table(self.name, name, at, clock, _listed(own), facts)

    def load(self, wanted: Table, last: Table | None) -> Loaded:
        """Write what is new or different, and end what is gone since `last`. Raises TableError.

        The first load of a conversation looks at what is here, and writes what differs from that.
        """
        most, own = _most(wanted.name), _own()
        if last is None or last.origin != wanted.origin or not self._written:
            here = _listed(own) if wanted.entries else {}
            self._written = {key: Written(one, wanted.clock_ms) for key, one in here.items() if key in wanted.entries}
        work = Work()
        for key, entry in last.entries.items() if last else ():
            if key not in wanted.entries and not _between(entry, own):
                work.end(key, entry)
                self._written.pop(key, None)
        carried = {key: entry for key, entry in wanted.entries.items() if not _between(entry, own)}
        for key, entry in carried.items():
            before = self._written.get(key)
            if before is None or not before.holds(entry, wanted.clock_ms):
                work.write(key, entry, before)
        work.carry_out()
        self._written |= {key: Written(carried[key], wanted.clock_ms) for key in work.written}
        for key in work.failed:
            self._written.pop(key, None)
        return Loaded(len(carried) - sum(key in carried for key in work.failed), problems(work.failed, most))

    def reap(self, name: str, due: dict[str, str]) -> None:
        """Do nothing: each flow has the time that it had left on the master."""


class Written(NamedTuple):
    """A flow that is here, and when that was so, by the master's clock."""

    entry: Entry
    clock_ms: float

    def holds(self, entry: Entry, clock_ms: float) -> bool:
        """Say whether a flow need not be written."""
        if self.entry.data.get("mark") != entry.data.get("mark") or not self.translates(entry):
            return False
        was, now = self.entry.remaining_ms or 0.0, entry.remaining_ms or 0.0
        return abs(was - (clock_ms - self.clock_ms) - now) <= SAME_DEADLINE

    def translates(self, entry: Entry) -> bool:
        """Say whether the way back is the same, which cannot be changed while a flow lives."""
        return bool(self.entry.data.get("reply") == entry.data.get("reply"))


class Work:
    """What is to be done to the table, and what became of it."""

    def __init__(self) -> None:
        self.gone: dict[str, Flow] = {}
        self.changed: dict[str, Flow] = {}
        self.new: dict[str, Flow] = {}
        self.written: set[str] = set()
        self.failed: dict[str, str] = {}  # by key: why

    def end(self, key: str, entry: Entry) -> None:
        """Have a flow ended; one that could not be written is not there."""
        with suppress(Unfit):
            self.gone[key] = flow(entry)

    def write(self, key: str, entry: Entry, before: Written | None) -> None:
        """Have a flow written."""
        try:
            one = flow(entry)
        except Unfit as why:
            self.failed[key] = str(why)
            return
        if before and before.translates(entry):
            self.changed[key] = one
            return
        self.new[key] = one
        if before:
            self.gone[key] = one

    def carry_out(self) -> None:
        """Do it. A flow that has vanished here is made again, one that is in the way of a new one makes room."""
        failed = conntrack_netlink.delete(self.gone)
        lost = conntrack_netlink.update(self.changed)
        vanished = {key: self.changed[key] for key, why in lost.items() if why == errno.ENOENT}
        made = {**self.new, **vanished}
        taken = conntrack_netlink.create(made)
        in_the_way = {key: made[key] for key, why in taken.items() if why == errno.EEXIST}
        conntrack_netlink.delete(in_the_way)
        failed |= {key: why for key, why in (lost | taken).items() if key not in vanished and key not in in_the_way}
        failed |= {key: why for key, why in taken.items() if key in vanished and key not in in_the_way}
        failed |= conntrack_netlink.create(in_the_way)
        self.failed |= {key: os.strerror(why) for key, why in failed.items()}
        self.written = {*self.changed, *self.new} - self.failed.keys()


def problems(failed: Mapping[str, str], most: int) -> tuple[str, ...]:
    """Return what could not be done: a line for each reason, with the first flow that it was so for. Pure."""
    full = os.strerror(errno.ENOMEM)
    return tuple(
        f"{_short(one)}{f' and {len(more)} more' if more else ''}: "
        + (f"{why}, or there are nf_conntrack_max = {most} flows" if why == full else why)
        for why, (one, *more) in tool.by_reason(failed).items()
    )


def _short(key: str) -> str:
    return key if len(key) <= SHOWN and key.isprintable() else f"{key[:SHOWN]!r}"


def _between(entry: Entry, own: Collection[str]) -> bool:
    """Say whether a flow is one between the two nodes: it has an end of its own here."""
    end, orig = entry.data.get("own"), entry.data.get("orig")
    if end not in ("src", "dst") or not isinstance(orig, list) or len(orig) < 2:
        return False
    return isinstance(other := orig[1 if end == "src" else 0], str) and other in own


def _most(name: str) -> int:
    """Return how many flows there can be. Raises Missing where the kernel tracks none."""
    if name:
        raise Missing(f"conntrack has one table, which has no name: {name!r}")
    try:
        with open(MOST, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        raise Missing("this kernel tracks no connections: a rule of the firewall that does has it begin") from None


def _own() -> frozenset[str]:
    """Return the addresses that this node has now."""
    return conntrack_lines.addresses("".join(tool.printed(("ip", "-j", "address"))))


def _listed(own: Collection[str]) -> dict[str, Entry]:
    try:
        return {entry.key: entry for text in tool.printed(LIST) for entry in conntrack_lines.entries(text, own)}
    except ValueError as error:
        raise TableError(f"conntrack(8) shows {error}") from error
