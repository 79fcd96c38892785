"""What HAProxy's runtime socket says of stick tables and servers, and how a command names an entry. Pure.

The format is that of src/stick_table.c: table_dump_head_to_buffer() and table_dump_entry_to_buffer(). 2.2 to 3.x differ
in what stands between `exp` and the first datum (`shard=3`), and in what data there are.
"""

import re
import socket
from collections.abc import Callable
from operator import itemgetter
from typing import Any, NamedTuple

from hotpair.sessions.record import Entry

FAMILIES = {"ip": socket.AF_INET, "ipv6": socket.AF_INET6}
WRITABLE = (*FAMILIES, "integer", "string")  # the types whose keys `set table` takes
HEADER = re.compile(r"# table: (\S+), type: (\w+), size: *(\d+), used: *(\d+)")
# A blank of a string key is written as a backslash and a blank. The possessive repeats cannot go back and forth.
KEY = r"([^\\ \n]*+(?:\\.[^\\ \n]*+)*+)"
LEAD = rf"0x[0-9a-f]+: key={KEY} use=\d+ exp=(\d+)"
ROW = re.compile(LEAD + r"((?: \w+(?:\(\d+\))?=\S*)*) *")
FIELD = re.compile(r" (\w+)(\(\d+\))?=(\S*)")
NAME = re.compile(r"[a-z][a-z0-9_]*")
TABLE = re.compile(r"[A-Za-z0-9_.:/-]+")  # a proxy's name, or a peers section's with the table's own behind a slash
PLACES = {"server_id", "server_key"}
# How many connections there are now is true of the node that has them: nothing would ever count them down elsewhere.
LEFT_OUT = PLACES | {"conn_cur", "shard"}
SHOWN = {"t": b"\t", "n": b"\n", "r": b"\r", "e": b"\x1b"}  # dump_text() of src/tools.c
ESCAPE = re.compile(r"\\(?:x([0-9A-F]{2})|(.))", re.DOTALL)
# All that means something to a command. A line that ends with `<<` would wait for more (management guide, section 9.3).
SPECIAL = re.compile(rb"[^A-Za-z0-9_.:\x80-\xff-]")
NEVER = re.compile(rb"[\0\r\n]")  # would end the command
LONGEST = 4096  # bytes of a key
MOST = 1 << 64

Servers = dict[str, dict[str, str]]  # name by id, by backend


class Unsayable(ValueError):
    """An entry that no command can name or describe."""


class Head(NamedTuple):
    """What HAProxy says of a table."""

    type: str
    size: int
    used: int


def heads(text: str) -> dict[str, Head]:
    """Return the tables of an answer to `show table`, by name."""
    found = map(HEADER.match, text.splitlines())
    return {one[1]: Head(one[2], int(one[3]), int(one[4])) for one in found if one}


def servers(text: str) -> Servers:
    """Return the servers of an answer to `show servers state`. Raises ValueError when it is none."""
    found: Servers = {}
    columns: list[int] = []
    for line in text.splitlines():
        if line.startswith("# "):
            titles = line[2:].split()
            columns = [titles.index(title) for title in ("be_name", "srv_id", "srv_name")]
        elif columns and line:
            words = line.split()
            if len(words) <= max(columns):
                raise ValueError(line)
            backend, number, name = (words[column] for column in columns)
            found.setdefault(backend, {})[number] = name
    if not columns:
        raise ValueError(text[:80])
    return found


def namer(known: Servers, table: str) -> Callable[[str, str], str]:
    """Return what names the server of an entry of a table from its server_id and server_key.

    A table of a backend with servers holds those: "backend/server". One that stands apart, in a backend without servers
    or in a peers section, holds servers of whoever refers to it: "server", or "#id" when that is not clear. HAProxy
    prefers the key, which is the server's name unless `srvkey addr` is set (sticking_rule_find_target()).
    """
    own = known.get(table)

    def name(number: str, key: str) -> str:
        if own is not None:
            found = key if key in own.values() else own.get(number)
            return f"{table}/{found}" if found else f"#{number}"
        named = {one[number] for one in known.values() if number in one}
        if key in named:
            return key
        return named.pop() if len(named) == 1 else f"#{number}"

    return name


def server_id(known: Servers, table: str, server: str) -> str:
    """Return the id that a server has here. Raises Unsayable when there is no such server, or more than one."""
    backend, slash, name = server.partition("/")
    places = [known.get(backend, {})] if slash else list(known.values())
    numbers = {number for place in places for number, one in place.items() if one == (name or backend)}
    if slash and backend != table:
        raise Unsayable(f"server {server} is of another backend")
    if len(numbers) != 1:
        raise Unsayable(f"server {server} is not clear here" if numbers else f"there is no server {server} here")
    return numbers.pop()


def key_bytes(shown: str) -> bytes:
    """Return the bytes of a string key that is shown so. Raises Unsayable."""
    if "\\" not in shown and shown.isascii():
        return shown.encode()
    found, at = b"", 0
    for escape in ESCAPE.finditer(shown):
        found += _plain(shown[at : escape.start()])
        byte, letter = escape.groups()
        found += bytes.fromhex(byte) if byte else SHOWN.get(letter) or _plain(letter)
        at = escape.end()
    return found + _plain(shown[at:])


def _plain(text: str) -> bytes:
    if not text.isascii():
        raise Unsayable("its key is not as HAProxy shows keys")
    return text.encode()


def said(kind: str, key: str) -> bytes:
    """Return how a command names the key of an entry of a table of some type. Raises Unsayable.

    HAProxy takes what is no address for 0.0.0.0 or for what the entry before it was: only an address may reach it.
    """
    if family := FAMILIES.get(kind):
        try:
            socket.inet_pton(family, key)
            return key.encode()
        except (OSError, ValueError):
            raise Unsayable("its key is no address") from None
    if kind == "integer":
        if not (key.isascii() and key.isdecimal() and int(key[:12]) < 1 << 32):
            raise Unsayable("its key is no number")
        return key.encode()
    if kind != "string":
        raise Unsayable(f"no command can name a key of type {kind}")
    found = key_bytes(key)
    if not found:
        raise Unsayable("its key is empty")
    if NEVER.search(found) or len(found) > LONGEST:
        raise Unsayable("its key does not fit into a command")
    return SPECIAL.sub(rb"\\\g<0>", found)


def fields(data: dict[str, Any], names: dict[str, str]) -> bytes:
    """Return the counters of an entry for `set table`, by the names they have here. Raises Unsayable."""
    found = ""
    for name, value in data.items():
        if name == "server":
            continue
        if not NAME.fullmatch(name) or type(value) is not int or not 0 <= value < MOST:
            raise Unsayable("its data are not as HAProxy shows data")
        if here := names.get(name, name):
            found += f" data.{here} {value}"
    return found.encode()


def _nowhere(_: tuple[str, ...]) -> tuple[str, ...]:
    return "0", "-"


class Rows:
    """Reads the rows of one table. All rows of a table have the same data, so one expression reads them at a stroke."""

    def __init__(self, name: Callable[[str, str], str]) -> None:
        self.name = name
        self.whole = False  # the answer has come to its end
        self._rest = ""  # of a line that is not whole yet
        self._shape: re.Pattern[str] | None = None
        self._names: list[str] = []  # of the counters in it
        # these get from its groups the values of the counters, and two more, and what leads to the server
        self._pick: Callable[[tuple[str, ...]], tuple[str, ...]] = itemgetter(0, 0)
        self._place: Callable[[tuple[str, ...]], tuple[str, ...]] = _nowhere
        self._keyed = False  # both server_id and server_key do
        self._servers: dict[tuple[str, ...], dict[str, Any]] = {}  # data, as far as they say the server

    def read(self, block: bytes) -> list[Entry]:
        """Return the entries of some more bytes of an answer. Raises ValueError for a line that is no row."""
        text, newline, self._rest = (self._rest + block.decode("latin-1")).rpartition("\n")
        text += newline
        if newline:
            self.whole = not self._rest and (text == "\n" or text.endswith("\n\n"))
        found: list[Entry] = []
        while text and not self._shape:
            line, _, text = text.partition("\n")
            found += self._line(line)
        rows = self._shape.findall(text) if self._shape else []
        if len(rows) == text.count("\n") - text.endswith("\n\n"):
            return found + self._entries(rows)
        for line in text.split("\n"):
            found += self._line(line)
        return found

    def _line(self, line: str) -> list[Entry]:
        if not line or line.startswith("# table: "):
            return []
        if not (self._shape and self._shape.fullmatch(line + "\n")):
            row = ROW.fullmatch(line)
            if not row:
                raise ValueError(line[:200])
            self._learn(row[3])
        assert self._shape
        return self._entries(self._shape.findall(line + "\n"))

    def _learn(self, rest: str) -> None:
        """Make the expression for rows with these data."""
        self._servers = {}
        self._names = []
        groups: list[int] = []
        places: dict[str, int] = {}
        shape, group = "", 2  # behind key and exp
        for name, period, value in FIELD.findall(rest):
            counter = name not in LEFT_OUT and value.isdecimal()
            shape += f" {name}{re.escape(period)}="
            shape += "(\\d++)" if counter else "(\\S*+)" if name in PLACES else "\\S*+"
            if counter:
                self._names.append(name)
                groups.append(group)
            elif name in PLACES:
                places[name] = group
            group += counter or name in PLACES
        self._shape = re.compile(f"^{LEAD}{shape} *\n", re.MULTILINE)
        self._pick = itemgetter(*groups, 0, 0)  # of two or more it makes a tuple
        self._keyed = len(places) == len(PLACES)
        number = places.get("server_id", 0)
        self._place = itemgetter(number, places.get("server_key", number)) if number else _nowhere

    def _entries(self, rows: list[tuple[str, ...]]) -> list[Entry]:
        names, pick, place, servers = self._names, self._pick, self._place, self._servers
        found = []
        for row in rows:
            at = place(row)
            data = servers[at] if at in servers else self._described(at)
            if names:
                data = data.copy()
                for name, value in zip(names, pick(row), strict=False):
                    if value != "0":
                        data[name] = int(value)
            found.append(Entry(row[0], 0, (), float(row[1]) or None, data))
        return found

    def _described(self, at: tuple[str, ...]) -> dict[str, Any]:
        number, key = at
        data = {"server": self.name(number, key if self._keyed else "-")} if number != "0" else {}
        self._servers[at] = data
        return data
