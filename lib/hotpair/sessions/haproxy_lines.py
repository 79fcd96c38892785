"""What HAProxy's runtime socket says of stick tables and servers, and how a command names an entry. Pure.

The format is that of src/stick_table.c: table_dump_head_to_buffer() and table_dump_entry_to_buffer(). 2.2 to 3.x differ
in what stands between `exp` and the first datum (`shard=3`), and in what data there are.
"""

import re
import socket
from collections.abc import Callable
from itertools import repeat
from typing import Any, NamedTuple

from hotpair.sessions.record import Entry

FAMILIES = {"ip": socket.AF_INET, "ipv6": socket.AF_INET6}
WRITABLE = (*FAMILIES, "integer", "string")  # the types whose keys `set table` takes
HEADER = re.compile(r"# table: (\S+), type: (\w+), size: *(\d+), used: *(\d+)")
# A blank of a string key is written as a backslash and a blank. The possessive repeats cannot go back and forth.
KEY = r"([^\\ \n]*+(?:\\.[^\\ \n]*+)*+)"
ROW = re.compile(rf"^0x[0-9a-f]+: key={KEY} use=\d+ exp=(\d+)((?: [^\n]*)?)\n", re.MULTILINE)
TITLE = re.compile(r"(\w+)(?:\(\d+\))?")  # of a rate with its period, in milliseconds
NAME = re.compile(r"[a-z][a-z0-9_]*")
TABLE = re.compile(r"[A-Za-z0-9_.:/-]+")  # a proxy's name, or a peers section's with the table's own behind a slash
# How many connections there are now is true of the node that has them: nothing would ever count them down elsewhere.
LEFT_OUT = {"server_id", "server_key", "conn_cur", "shard"}
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


class Rows:
    """Reads the rows of one table, the entries of which have few different data: what is said of them is read once."""

    def __init__(self, name: Callable[[str, str], str]) -> None:
        self.whole = False  # the answer has come to its end
        self._rest = ""  # of a line that is not whole yet
        self._data = _Data(name)

    def read(self, block: bytes) -> dict[str, Entry]:
        """Return, by key, the entries of some more bytes of an answer. Raises ValueError for a line that is no row."""
        text, newline, self._rest = (self._rest + block.decode("latin-1")).rpartition("\n")
        text += newline
        if newline:
            self.whole = not self._rest and (text == "\n" or text.endswith("\n\n"))
        rows = ROW.findall(text)
        if len(rows) != text.count("\n"):
            self._others(text)
        if not rows:
            return {}
        keys, spans, said_ = zip(*rows, strict=True)
        left = [float(span) or None for span in spans]
        fields = zip(keys, repeat(0), repeat(()), left, map(self._data.__getitem__, said_), strict=False)
        return dict(zip(keys, map(tuple.__new__, repeat(Entry), fields), strict=True))

    def _others(self, text: str) -> None:
        """Raise ValueError for a line that is neither a row nor the head of the table, nor empty."""
        for line in ROW.sub("", text).split("\n"):
            if line and not line.startswith("# table: "):
                raise ValueError(line[:200])


class _Data(dict[str, dict[str, Any]]):
    """The data of entries, by how HAProxy says them."""

    def __init__(self, name: Callable[[str, str], str]) -> None:
        super().__init__()
        self._name = name
        self._titles: dict[str, str] = {}  # names of data, by how they are titled

    def __missing__(self, text: str) -> dict[str, Any]:
        values = {}
        for word in text.split():
            title, equals, value = word.partition("=")
            if not equals:
                raise ValueError(word[:200])
            values[self._titles.get(title) or self._titled(title)] = value
        number = values.get("server_id", "0")
        found: dict[str, Any] = {"server": self._name(number, values.get("server_key", "-"))} if number != "0" else {}
        for name, value in values.items():
            if value != "0" and name not in LEFT_OUT and value.isdecimal():
                found[name] = int(value)
        self[text] = found
        return found

    def _titled(self, title: str) -> str:
        found = TITLE.fullmatch(title)
        if not found:
            raise ValueError(title[:200])
        self._titles[title] = found[1]
        return found[1]
