"""How entries are written into one of HAProxy's stick tables: in lines of commands, with what did not fit there."""

import re
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from hotpair.sessions.backend import Deadline, TableError
from hotpair.sessions.haproxy_lines import NAME, Rows, Servers, Unsayable, fields, said, server_id
from hotpair.sessions.haproxy_socket import DENIED, Order, ask, carry_out
from hotpair.sessions.record import Entry

NEAR = 1000.0  # milliseconds by which an entry may outlive its time
REFUSED = ("Data type not stored in this table", "Unknown data type")
ARRAY = re.compile(r"(gp[ct])0(_rate)?")  # how the first of gpc(3) and the like is shown; it is set without the number


def clock() -> float:
    """Return milliseconds by a clock that all processes of this boot share and that never jumps."""
    return time.monotonic() * 1000


def shown(answer: str) -> list[Entry]:
    """Return the entry of an answer to `show table NAME key KEY`, none when there is none. Raises TableError."""
    try:
        return list(Rows(lambda number, _: number).read(f"{answer}\n".encode("latin-1")).values())
    except ValueError as line:
        raise TableError(f"HAProxy shows what is no entry: {line}") from None


@dataclass
class Known:
    """What is known of a table here, for as long as one process of HAProxy lives."""

    process: str
    kind: str  # the type of its keys
    servers: Servers
    names: dict[str, str] = field(default_factory=dict)  # of data here, by the name that the dump has; "": none here
    expire: float | None = None  # milliseconds that an entry lives; 0: for ever; None: not seen yet
    lost: set[str] = field(default_factory=set)  # keys that could not be written
    again: set[str] = field(default_factory=set)  # keys to be written once more at the next load


class Writing:
    """One load into one table."""

    def __init__(self, path: str, table: str, known: Known) -> None:
        self.deadlines: dict[str, Deadline] = {}
        self._path = path
        self._table = table
        self._known = known
        self._problems: dict[str, list[str]] = {}  # keys by reason
        self._places: dict[str, bytes] = {}  # what leads to a server, by its name
        self._set, self._clear, self._show = (
            f"{verb} table {table} key ".encode() for verb in ("set", "clear", "show")
        )

    def problems(self) -> tuple[str, ...]:
        """Return one line for each reason."""
        return tuple(
            f"{keys[0]}{f' and {len(keys) - 1} more' if keys[1:] else ''}: {reason}"
            for reason, keys in self._problems.items()
        )

    def problem(self, what: str, reason: str) -> None:
        """Note why something was not done as it should be."""
        self._problems.setdefault(reason, []).append(what)

    def write(self, entries: Collection[Entry], present: Collection[str]) -> None:
        """Write entries. Those that may be present are cleared first, for a server_key outweighs a new server_id."""
        self._learn(entries)
        self._known.lost.difference_update([entry.key for entry in entries])
        self._known.again.difference_update([entry.key for entry in entries])
        remaining = {entry.key: entry.remaining_ms for entry in entries}
        self._compare(max((left for left in remaining.values() if left is not None), default=0.0))
        for batch, answers in carry_out(self._path, self._orders(entries, present)):
            if any(answers):
                self._look(batch, answers)
            self._until(batch, remaining)

    def clear(self, keys: Iterable[str]) -> None:
        """Remove entries."""
        for batch, answers in carry_out(self._path, self._clearings(keys)):
            for order, answer in zip(batch, answers, strict=True):
                self._known.lost.discard(order.key)
                self._known.again.discard(order.key)
                if answer:
                    self.problem(order.key, f"not removed: {_first(answer)}")

    def _clearings(self, keys: Iterable[str]) -> Iterator[Order]:
        for key in keys:
            try:
                yield Order(key, self._clear + said(self._known.kind, key), 1)
            except Unsayable as reason:
                self.problem(key, str(reason))

    def _orders(self, entries: Iterable[Entry], present: Collection[str]) -> Iterator[Order]:
        kind, names = self._known.kind, self._known.names
        for entry in entries:
            try:
                key = said(kind, entry.key)
                order = self._set + key + self._place(entry) + fields(entry.data, names)
            except Unsayable as reason:
                self._lose(entry.key, str(reason))
                continue
            if entry.key in present:
                yield Order(entry.key, self._clear + key + b";" + order, 2)
            else:
                yield Order(entry.key, order, 1)

    def _lose(self, key: str, reason: str) -> None:
        self._known.lost.add(key)
        self.problem(key, reason)

    def _place(self, entry: Entry) -> bytes:
        """Return the datum that leads to the server of an entry, b"" without one. One unknown here is a problem."""
        server = entry.data.get("server")
        if server is None or not self._known.names.get("server", "server_id"):
            return b""
        if not isinstance(server, str):
            raise Unsayable("its server is no name")
        try:
            if (place := self._places.get(server)) is None:
                place = f" data.server_id {server_id(self._known.servers, self._table, server)}".encode()
                self._places[server] = place
            return place
        except Unsayable as reason:
            self.problem(entry.key, str(reason))
            return b""

    def _look(self, batch: list[Order], answers: list[str]) -> None:
        """Note what HAProxy refused."""
        at = 0
        for order in batch:
            *clear, set_ = answers[at : at + order.answers]
            at += order.answers
            if set_:
                self._lose(order.key, _first(set_))
            elif any(clear):
                # a connection has it: it is this node's own truth by now, or will be free at the next load
                self._known.again.add(order.key)
                self.problem(order.key, f"not cleared, so its server may stay what it was: {_first(clear[0])}")

    def _until(self, batch: list[Order], remaining: dict[str, float | None]) -> None:
        """Note when the entries of a batch must go that their table keeps longer."""
        expire = self._known.expire
        if not expire:
            return
        mark = f"{clock() + expire:.0f}"
        for order in batch:
            left = remaining[order.key]
            if left is not None and expire - left > NEAR:
                self.deadlines[order.key] = Deadline(left, mark)

    def _compare(self, longest: float) -> None:
        """Note that entries would end at another time than they should."""
        expire = self._known.expire
        if expire is not None and expire + NEAR < longest:
            how = f"{expire / 1000:g} s after their last use" if expire else "never"
            self.problem(self._table, f"entries expire {how} here: have `expire` alike on both nodes")

    def _learn(self, entries: Iterable[Entry]) -> None:
        """Find out which data the table takes here, and how long it keeps an entry: by writing the first of them."""
        names = self._known.names
        used: set[str] = set().union(*[entry.data for entry in entries])
        new = sorted(name for name in used - names.keys() if NAME.fullmatch(name))
        if (new or self._known.expire is None) and (key := self._first(entries)):
            self._tell(self._set + key)
            names |= {name: self._name(name, key) for name in new}
            self._known.expire = self._life(key)
        for name in sorted(used):
            if not names.get(name, name):
                self.problem(name, "the table does not hold that here")

    def _first(self, entries: Iterable[Entry]) -> bytes:
        """Return the first key that a command can name, b"" when there is none."""
        for entry in entries:
            with suppress(Unsayable):
                return said(self._known.kind, entry.key)
        return b""

    def _name(self, name: str, key: bytes) -> str:
        """Return what a datum is called here, "" when the table takes none such."""
        array = ARRAY.fullmatch(name)
        for here in ["server_id" if name == "server" else name, *([f"{array[1]}{array[2] or ''}"] if array else [])]:
            if not self._tell(self._set + key + f" data.{here} 0".encode()).startswith(REFUSED):
                return here
        return ""

    def _life(self, key: bytes) -> float | None:
        """Return how long the table keeps an entry that has just been written: 0 for ever, None when it is gone."""
        found = shown(self._tell(self._show + key))
        return (found[0].remaining_ms or 0.0) if found else None

    def _tell(self, command: bytes) -> str:
        [answer] = ask(self._path, command, 1)
        if answer.startswith("Permission denied"):
            raise TableError(DENIED)
        return answer


def _first(answer: str) -> str:
    return answer.partition("\n")[0]
