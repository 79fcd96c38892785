"""What `ipset save` and `ipset list` print of a set, and lines for `ipset restore`. Pure.

The time that an entry has left is told in whole seconds: half of one is added, so that it is at most that much off; and
0 stands for no end. An entry comes from another node: ipset would look names up, and a line's end begins a command.
"""

import re
import socket
from collections.abc import Iterable
from itertools import chain, repeat
from typing import Any

from hotpair.sessions.record import Entry

HALF = 500.0  # milliseconds that a whole second stands for more than it says, on the average
LEAST = 1000.0  # milliseconds: less would be written as 0, which is for ever
LONGEST = 2147483  # seconds; ipset(8), "timeout"
MOST = 1 << 64
NAME = re.compile(r"[A-Za-z0-9_.:][A-Za-z0-9_.:+@%/-]{0,30}")
FLAGS = {"counters", "comment", "skbinfo", "forceadd"}
OWN = {"hashsize", "bucketsize", "initval"}  # options that are no matter of what the set holds
HEADER = re.compile(r"^Type: (\S+)$.*?^Header: ([^\n]*)$", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^add \S+ (\S+)(?: timeout (\d+))?(?: packets (\d+) bytes (\d+))?(.*)$", re.MULTILINE)
MORE = re.compile(r' (?:comment "([^"]*)"|(nomatch|wildcard)|([a-z]+) ([0-9a-fx/:]+))')
# no dash at the start: ipset would take `-f`, as a key of bitmap:port, for an option
PORT = re.compile(r"(?:[a-z0-9][a-z0-9-]{0,19}:)?[0-9A-Za-z][0-9A-Za-z-]{0,39}(?:/[0-9]{1,3})?")
MAC = re.compile(r"[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}")
MARK = re.compile(r"0x[0-9a-f]{1,8}|[0-9]{1,10}")
INTERFACE = re.compile(r"(?:physdev:)?[A-Za-z0-9_.@+-][A-Za-z0-9_.:@+-]{0,14}")
ALIKE = re.compile(r"add \S+ \S+( timeout \d+)?( packets \d+ bytes \d+)?\n")
SHAPES = {"port": PORT, "mac": MAC, "mark": MARK, "iface": INTERFACE}
COMMENT = re.compile(r'[^"\\\x00-\x1f\x7f]{1,255}')
SKB = {
    "skbmark": re.compile(r"0x[0-9a-f]{1,8}(?:/0x[0-9a-f]{1,8})?"),
    "skbprio": re.compile(r"[0-9a-f]{1,4}:[0-9a-f]{1,4}"),
    "skbqueue": re.compile(r"[0-9]{1,5}"),
}
BARE = ("nomatch", "wildcard")
SINGLE = ["ip"]


class Unsayable(ValueError):
    """An entry that must not go into a line, or that has no form there."""


class Head:
    """What a set is."""

    def __init__(self, type_: str, options_: dict[str, str]) -> None:
        self.type = type_  # hash:ip,port
        self.options = options_  # of its create line; "" for one that takes no value
        self.parts = type_.partition(":")[2].split(",")  # what an entry's name is made of
        self.family = socket.AF_INET6 if options_.get("family") == "inet6" else socket.AF_INET

    def facts(self) -> dict[str, Any]:
        """Return what both nodes must have alike."""
        return {"type": self.type} | {key: value or True for key, value in self.options.items() if key not in OWN}

    def create(self, name: str) -> str:
        """Return the line that makes a set like it."""
        words = [word for key, value in self.options.items() if key not in OWN - {"hashsize"} for word in (key, value)]
        return " ".join(["create", name, self.type, *filter(None, words)])


def options(words: list[str]) -> dict[str, str]:
    """Return the options of a create line. Raises ValueError for an option without its value."""
    found, rest = {}, iter(words)
    for word in rest:
        found[word] = "" if word in FLAGS else next(rest, "")
        if word not in FLAGS and not found[word]:
            raise ValueError(word)
    return found


def listed(text: str) -> Head:
    """Return what `ipset list -terse` says of a set. Raises ValueError."""
    header = HEADER.search(text)
    if not header:
        raise ValueError(text[:80])
    return Head(header[1], options(header[2].split()))


def saved(blocks: Iterable[str]) -> tuple[Head, dict[str, Entry]]:
    """Return the set that `ipset save` prints, and its entries by their keys. Raises ValueError.

    blocks: of whole lines.
    """
    rest = iter(blocks)
    first, _, rows = next(rest, "").partition("\n")
    words = first.split()
    if len(words) < 3 or words[0] != "create":
        raise ValueError(first[:80])
    head = Head(words[2], options(words[3:]))
    left = _Left({"0": None}) if "timeout" in head.options else None
    found: dict[str, Entry] = {}
    count = 0
    for some in chain([rows], rest):
        entries = _alike(some, left)
        found |= _each(some, left) if entries is None else entries
        count += some.count("\n")
    if len(found) != count:
        raise ValueError("a line that is no entry")
    return head, found


class _Left(dict[str, float | None]):
    """The milliseconds that entries have left, by what is said of it: most say the same few numbers."""

    def __missing__(self, timeout: str) -> float:
        found = self[timeout] = int(timeout) * 1000 + HALF
        return found


def _each(rows: str, left: _Left | None) -> dict[str, Entry]:
    """Return the entries of rows of any kind."""
    found = {}
    for key, timeout, packets, octets, rest in ROW.findall(rows):
        data: dict[str, Any] = {"bytes": int(octets)} if octets else {}
        hits = _more(rest, data) if rest else 0
        found[key] = Entry(key, int(packets or hits), (), left[timeout] if left and timeout else None, data)
    return found


def _alike(rows: str, left: _Left | None) -> dict[str, Entry] | None:
    """Return the entries of rows that all have a time, counters or both, and nothing else; None where some differ.

    They are read a column at a time, which takes a third of the time that a row at a time does.
    """
    titles = ALIKE.match(rows)
    words, count = rows.split(), rows.count("\n")
    if not titles or (titles[1] and left is None):
        return None
    plain = ["add", "", ""] + ["timeout", ""] * bool(titles[1]) + ["packets", "", "bytes", ""] * bool(titles[2])
    if len(words) != len(plain) * count:
        return None
    columns = [words[at :: len(plain)] for at in range(len(plain))]
    if any(title and column.count(title) != count for title, column in zip(plain, columns, strict=True)):
        return None
    keys = columns[2]
    lasts = map(left.__getitem__, columns[4]) if titles[1] and left else repeat(None)
    hits = map(int, columns[-3]) if titles[2] else repeat(0)
    data = [{"bytes": number} for number in map(int, columns[-1])] if titles[2] else repeat({})
    return dict(zip(keys, map(tuple.__new__, repeat(Entry), zip(keys, hits, repeat(()), lasts, data)), strict=False))


def _more(rest: str, data: dict[str, Any]) -> int:
    """Put into the data what else a row has; return its packets. Raises ValueError for what is not known."""
    at = hits = 0
    while at < len(rest):
        found = MORE.match(rest, at)
        if not found:
            raise ValueError(rest[:80])
        comment, bare, title, value = found.groups()
        if bare:
            data[bare] = True
        elif title == "packets":
            hits = int(value)
        elif title == "bytes":
            data["bytes"] = int(value)
        elif title in SKB:
            data[title] = value
        elif title:
            raise ValueError(rest[:80])
        else:
            data["comment"] = comment
        at = found.end()
    return hits


def lasting(entry: Entry) -> bool:
    """Say whether an entry has long enough left to be written."""
    return entry.remaining_ms is None or entry.remaining_ms >= LEAST


def key_of(head: Head, entry: Entry) -> str:
    """Return the name of an entry for a line. Raises Unsayable."""
    kinds = head.parts
    if kinds == SINGLE and _network(head.family, "ip", entry.key):
        return entry.key
    parts = entry.key.split(",")
    if len(parts) != len(kinds) and not (head.type == "bitmap:ip,mac" and len(parts) == 1):
        raise Unsayable(f"it is no entry of {head.type}")
    for kind, part in zip(kinds, parts, strict=False):
        if not (_network(head.family, kind, part) if kind in ("ip", "net") else kind in SHAPES and _fits(kind, part)):
            raise Unsayable(f"it is no entry of {head.type}")
    return entry.key


def _fits(kind: str, part: str) -> bool:
    return bool(SHAPES[kind].fullmatch(part))


def _network(family: int, kind: str, text: str) -> bool:
    address, slash, bits = text.partition("/")
    if slash and (kind != "net" or not (bits.isascii() and bits.isdecimal() and int(bits[:4]) <= 128)):
        return False
    try:
        socket.inet_pton(family, address)
    except (OSError, ValueError):
        return False
    return True


def words(head: Head, entry: Entry) -> str:
    """Return an entry for a line, with all that belongs to it and that the set here has room for. Raises Unsayable."""
    found, options, data, left = key_of(head, entry), head.options, entry.data, entry.remaining_ms
    if "timeout" in options:
        found += f" timeout {0 if left is None else min(int((left + HALF) / 1000), LONGEST)}"
    elif left is not None:
        raise Unsayable("nothing expires in the set here")
    if "counters" in options:
        found += f" packets {_number(entry.hits)} bytes {_number(data.get('bytes', 0))}"
    if len(data) <= ("bytes" in data):
        return found
    if "comment" in options and "comment" in data:
        found += f' comment "{_checked(COMMENT, data["comment"])}"'
    if "skbinfo" in options:
        for key in SKB.keys() & data.keys():
            found += f" {key} {_checked(SKB[key], data[key])}"
    return found + "".join(f" {word}" for word in BARE if data.get(word) is True)


def _checked(shape: re.Pattern[str], value: Any) -> str:
    if type(value) is not str or not shape.fullmatch(value):
        raise Unsayable("it has data that cannot be written")
    return value


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value < MOST:
        raise Unsayable("it has a number that is none")
    return value
