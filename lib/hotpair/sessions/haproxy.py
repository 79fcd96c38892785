"""HAProxy's stick tables through its runtime socket, for where `peers` cannot be used (etc/haproxy/hotpair-peers.cfg).

`set table` cannot say how long an entry has left: it begins at the table's `expire` again, and the caller's reaper ends
it in time. What has no meaning on another node is not carried: how many connections there are now (conn_cur). Servers
go by their names, for their ids are places in a configuration. A rate arrives as its value, and fades from then on.
"""

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from operator import attrgetter

from hotpair.sessions.backend import Deadline, Loaded, Missing, TableError
from hotpair.sessions.haproxy_lines import TABLE, WRITABLE, Head, Rows, Servers, Unsayable, heads, namer, said, servers
from hotpair.sessions.haproxy_socket import DENIED, Order, ask, carry_out, parts, stream
from hotpair.sessions.haproxy_write import NEAR, Known, Writing, clock, shown
from hotpair.sessions.record import Entry, Table, differs

REFRESHED = 250.0  # milliseconds by which the end of an entry must have moved to say that it was seen
NO_TABLE = "No such table"
LEFT = attrgetter("remaining_ms")


class Haproxy:
    """The stick tables of the HAProxy that has a runtime socket."""

    name = "haproxy"

    def __init__(self, socket_path: str) -> None:
        self.socket = socket_path
        self._known: dict[str, Known] = {}  # by table

    def names(self) -> list[str]:
        """Return the stick tables that are here. Raises TableError."""
        [said_] = ask(self.socket, b"show table", 1)
        return sorted(heads(said_))

    def dump(self, name: str) -> Table:
        """Return a table as it is now. Raises TableError."""
        _checked(name)
        table = Table(self.name, name, time.time(), clock())
        command = f"show servers state;show table {name}".encode()
        first, blocks = parts(stream(self.socket, command))
        rows = Rows(namer(_servers(first.decode("latin-1")), name))
        start = next(blocks)
        while b"\n" not in start:
            start += next(blocks, b"\n")
        head = _head(name, start.decode("latin-1"))
        entries = _lasting(self._entries(rows, start, blocks))
        return table._replace(entries=entries, facts={"type": head.type, "size": head.size})

    def _entries(self, rows: Rows, start: bytes, blocks: Iterator[bytes]) -> dict[str, Entry]:
        try:
            found = rows.read(start)
            for block in blocks:
                found |= rows.read(block)
        except ValueError as line:
            denied = str(line).startswith("# contents not dumped")
            raise TableError(DENIED if denied else f"HAProxy shows what is no entry: {line}") from None
        if not rows.whole:
            raise TableError("HAProxy ended its answer too early")
        return found

    def load(self, wanted: Table, last: Table | None) -> Loaded:
        """Make the table here what `wanted` says. Raises TableError.

        Without `last`, or with a HAProxy that has started anew or has other servers, this looks at the table first and
        writes what differs; what is there beyond `wanted` goes, unless a connection has it.
        """
        now = self._look(wanted)
        before = self._known.get(wanted.name)
        if last is None or before is None or (before.process, before.servers) != (now.process, now.servers):
            self._known[wanted.name] = now
            return self._whole(wanted, now)
        writing = Writing(self.socket, wanted.name, before)
        writing.clear([key for key in last.entries if key not in wanted.entries])
        changed = [
            entry
            for key, entry in wanted.entries.items()
            if key not in last.entries or key in before.again or differs(last, last.entries[key], wanted, entry)
        ]
        writing.write(changed, wanted.entries)
        return _loaded(wanted, before, writing)

    def _look(self, wanted: Table) -> Known:
        """Return what is to be known of a table before it is loaded."""
        _checked(wanted.name)
        info, state, tables = ask(self.socket, b"show info;show servers state;show table", 3)
        head = heads(tables).get(wanted.name)
        if head is None:
            raise Missing(f"there is no stick table {wanted.name} here")
        _writable(wanted.name, head)
        if (kind := wanted.facts.get("type", head.type)) != head.type:
            raise TableError(f"the keys of {wanted.name} are of type {head.type} here, of type {kind} there")
        process = " ".join(line for line in info.splitlines() if line.startswith(("Pid: ", "Start_time_sec: ")))
        return Known(process, head.type, _servers(state))

    def _whole(self, wanted: Table, known: Known) -> Loaded:
        """Make the table what `wanted` says, whatever it is now."""
        here = self.dump(wanted.name)
        looked = clock()
        writing = Writing(self.socket, wanted.name, known)
        writing.clear([key for key in here.entries if key not in wanted.entries])
        changed = []
        for key, entry in wanted.entries.items():
            mine = here.entries.get(key)
            if mine is None or mine.data != entry.data or _left(mine) + NEAR < _left(entry):
                changed.append(entry)
            elif _left(mine) - NEAR > _left(entry) and mine.remaining_ms:
                writing.deadlines[key] = Deadline(_left(entry), f"{looked + mine.remaining_ms:.0f}")
        writing.write(changed, here.entries)
        return _loaded(wanted, known, writing)

    def reap(self, name: str, due: dict[str, str]) -> None:
        """Remove entries whose time is over, by key, unless they were seen meanwhile. Raises TableError."""
        _checked(name)
        [tables] = ask(self.socket, b"show table", 1)
        head = heads(tables).get(name)
        if head is None:
            raise Missing(f"there is no stick table {name} here")
        over = [key for key, left in self._lives(name, head.type, due) if clock() + left <= float(due[key]) + REFRESHED]
        for _ in carry_out(self.socket, _orders("clear", name, head.type, over)):
            continue  # what a connection has now was seen, and HAProxy keeps it

    def _lives(self, name: str, kind: str, keys: Iterable[str]) -> Iterator[tuple[str, float]]:
        """Yield how long each of some entries has left, of those that are there and expire."""
        for batch, answers in carry_out(self.socket, _orders("show", name, kind, keys)):
            for order, answer in zip(batch, answers, strict=True):
                for entry in shown(answer):
                    if entry.remaining_ms is not None:
                        yield order.key, entry.remaining_ms


def _orders(verb: str, name: str, kind: str, keys: Iterable[str]) -> Iterator[Order]:
    for key in keys:
        with suppress(Unsayable):  # never written then
            yield Order(key, f"{verb} table {name} key ".encode() + said(kind, key), 1)


def _left(entry: Entry) -> float:
    return math.inf if entry.remaining_ms is None else entry.remaining_ms


def _lasting(entries: dict[str, Entry]) -> dict[str, Entry]:
    """Return the entries without those whose time is just over, where entries expire at all: `exp` is 0 for either."""
    if all(map(LEFT, entries.values())):
        return entries
    return {key: entry for key, entry in entries.items() if entry.remaining_ms} or entries


def _loaded(wanted: Table, known: Known, writing: Writing) -> Loaded:
    lost = sum(key in wanted.entries for key in known.lost)
    return Loaded(len(wanted.entries) - lost, writing.problems(), writing.deadlines)


def _checked(name: str) -> None:
    """Raise Missing for what cannot be a table's name, and would be commands."""
    if not TABLE.fullmatch(name):
        raise Missing(f"no stick table is called {name!r}")


def _writable(name: str, head: Head) -> None:
    if head.type not in WRITABLE:
        raise TableError(f"no command can write keys of type {head.type}: give {name} to `peers`")


def _head(name: str, text: str) -> Head:
    """Return what the first line of an answer to `show table NAME` says."""
    line = text.partition("\n")[0]
    if line.startswith(NO_TABLE):
        raise Missing(f"there is no stick table {name} here")
    head = heads(line).get(name)
    if head is None:
        raise TableError(f"HAProxy shows what is no table: {line[:200]}")
    _writable(name, head)
    return head


def _servers(text: str) -> Servers:
    try:
        return servers(text)
    except ValueError as line:
        raise TableError(
            DENIED if str(line).startswith("Permission") else f"HAProxy shows no servers: {line}"
        ) from None
