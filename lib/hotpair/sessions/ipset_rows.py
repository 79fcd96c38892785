"""What `ipset save` and `ipset list` print of a set, and lines for `ipset restore`. Pure.

The time that an entry has left is told in whole seconds: half of one is added, so that it is at most that much off; and
0 stands for no end. An entry comes from another node: ipset would look names up, and a line's end begins a command.
"""

import re
import socket
from typing import Any, NamedTuple

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
SHAPES = {"port": PORT, "mac": MAC, "mark": MARK, "iface": INTERFACE}
COMMENT = re.compile(r'[^"\\\x00-\x1f\x7f]{1,255}')
SKB = {
    "skbmark": re.compile(r"0x[0-9a-f]{1,8}(?:/0x[0-9a-f]{1,8})?"),
    "skbprio": re.compile(r"[0-9a-f]{1,4}:[0-9a-f]{1,4}"),
    "skbqueue": re.compile(r"[0-9]{1,5}"),
}
BARE = ("nomatch", "wildcard")


class Unsayable(ValueError):
    """An entry that must not go into a line, or that has no form there."""


class Head(NamedTuple):
    """What a set is."""

    type: str  # hash:ip,port
    options: dict[str, str]  # of its create line; "" for one that takes no value

    @property
    def parts(self) -> list[str]:
        """Return what an entry's name is made of."""
        return self.type.partition(":")[2].split(",")

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


def saved(text: str) -> tuple[Head, dict[str, Entry]]:
    """Return the set that `ipset save` prints, and its entries by their keys. Raises ValueError."""
    first, _, rows = text.partition("\n")
    words = first.split()
    if len(words) < 3 or words[0] != "create":
        raise ValueError(first[:80])
    head = Head(words[2], options(words[3:]))
    expires = "timeout" in head.options
    entries = {}
    for key, timeout, packets, octets, rest in ROW.findall(rows):
        data: dict[str, Any] = {"bytes": int(octets)} if octets else {}
        if rest:
            _more(rest, data)
        left = int(timeout) * 1000 + HALF if expires and timeout and timeout != "0" else None
        entries[key] = Entry(key, int(packets or 0), (), left, data)
    if len(entries) != rows.count("\n"):
        raise ValueError("a line that is no entry")
    return head, entries


def _more(rest: str, data: dict[str, Any]) -> None:
    """Put into the data what else a row has. Raises ValueError for what is not known."""
    at = 0
    while at < len(rest):
        found = MORE.match(rest, at)
        if not found or (found[3] and found[3] not in SKB):
            raise ValueError(rest[:80])
        if found[2]:
            data[found[2]] = True
        elif found[3]:
            data[found[3]] = found[4]
        else:
            data["comment"] = found[1]
        at = found.end()


def lasting(entry: Entry) -> bool:
    """Say whether an entry has long enough left to be written."""
    return entry.remaining_ms is None or entry.remaining_ms >= LEAST


def key_of(head: Head, entry: Entry) -> str:
    """Return the name of an entry for a line. Raises Unsayable."""
    parts, kinds = entry.key.split(","), head.parts
    if len(parts) != len(kinds) and not (head.type == "bitmap:ip,mac" and len(parts) == 1):
        raise Unsayable(f"it is no entry of {head.type}")
    family = socket.AF_INET6 if head.options.get("family") == "inet6" else socket.AF_INET
    for kind, part in zip(kinds, parts, strict=False):
        if not (_network(family, kind, part) if kind in ("ip", "net") else kind in SHAPES and _fits(kind, part)):
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
    found = key_of(head, entry)
    if "timeout" in head.options:
        left = entry.remaining_ms
        found += f" timeout {0 if left is None else min(int((left + HALF) / 1000), LONGEST)}"
    elif entry.remaining_ms is not None:
        raise Unsayable("nothing expires in the set here")
    if "counters" in head.options:
        found += f" packets {_number(entry.hits)} bytes {_number(entry.data.get('bytes', 0))}"
    if "comment" in head.options and "comment" in entry.data:
        found += f' comment "{_checked(COMMENT, entry.data["comment"])}"'
    if "skbinfo" in head.options:
        for key in SKB.keys() & entry.data.keys():
            found += f" {key} {_checked(SKB[key], entry.data[key])}"
    return found + "".join(f" {word}" for word in BARE if entry.data.get(word) is True)


def _checked(shape: re.Pattern[str], value: Any) -> str:
    if type(value) is not str or not shape.fullmatch(value):
        raise Unsayable("it has data that cannot be written")
    return value


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value < MOST:
        raise Unsayable("it has a number that is none")
    return value
