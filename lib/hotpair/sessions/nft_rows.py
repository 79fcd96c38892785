"""What `nft -j` lists of a set or a map, and the batch for `nft -f -` that writes its elements. Pure.

JSON is listed in half the time that text takes, in whole seconds: half of one is added, so that an element is at most
that much off. It cannot be loaded, for counters get lost; in text the counter comes first, then timeout and expires.
"""

import json
import math
import re
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from hotpair.sessions import nft_values
from hotpair.sessions.nft_values import Unsayable
from hotpair.sessions.record import Entry

HALF = 500.0  # milliseconds that a whole second stands for more than it says, on the average
LEAST = 1000.0  # milliseconds; `expires 0s` would give an element its full time again
COMMENT = re.compile(r'[^"\\\x00-\x1f\x7f]{1,128}')
MOST = 1 << 64


class Head(NamedTuple):
    """What a set or map is."""

    kind: str  # set, map
    key: tuple[str, ...]  # types
    data: tuple[str, ...]  # types of a map's data
    flags: tuple[str, ...]
    timeout: int  # seconds, 0 for none
    size: int
    counter: bool  # its elements count packets and bytes

    @property
    def expires(self) -> bool:
        """Say whether its elements can expire."""
        return "timeout" in self.flags or self.timeout > 0

    def facts(self) -> dict[str, Any]:
        """Return what both nodes must have alike."""
        found: dict[str, Any] = {"kind": self.kind, "type": " . ".join(self.key), "flags": " ".join(self.flags)}
        found |= {"timeout": self.timeout, "size": self.size, "counter": self.counter}
        return found | ({"data": " . ".join(self.data)} if self.data else {})


def listed(text: bytes) -> tuple[Head, list[Any]]:
    """Return the set or map that an answer lists, and its elements. Raises ValueError."""
    for found in json.loads(text)["nftables"]:
        for kind in ("set", "map"):
            if kind in found:
                return _head(kind, found[kind]), found[kind].get("elem", [])
    raise ValueError("no set and no map")


def _head(kind: str, found: dict[str, Any]) -> Head:
    flags = found.get("flags", ())
    return Head(
        kind,
        nft_values.types(found["type"]),
        nft_values.types(found["map"]) if "map" in found else (),
        tuple(sorted([flags] if isinstance(flags, str) else flags)),
        int(found.get("timeout", 0)),
        int(found.get("size", 0)),
        any("counter" in one for one in found.get("stmt", ()) if isinstance(one, dict)),
    )


def entries(head: Head, elements: Iterable[Any]) -> dict[str, Entry]:
    """Return the elements of a list by their keys."""
    found: dict[str, Entry] = {}
    shown = nft_values.shown
    for item in elements:
        data: dict[str, Any] = {}
        one = item
        if head.kind == "map":
            one, data["value"] = item[0], shown(item[1])
        hits, left, value = 0, None, one
        if type(one) is dict and "elem" in one:
            inner = one["elem"]
            value = inner["val"]
            hits = _more(inner, data)
            if "expires" in inner:
                left = inner["expires"] * 1000 + HALF
        key = value if type(value) is str else shown(value)
        found[key] = Entry(key, hits, (), left, data)
    return found


def _more(element: dict[str, Any], data: dict[str, Any]) -> int:
    """Put into the data what else an element has, and return its packets."""
    if "timeout" in element:
        data["timeout"] = element["timeout"]
    if "comment" in element:
        data["comment"] = element["comment"]
    counter = element.get("counter")
    if not counter:
        return 0
    data["bytes"] = counter["bytes"]
    return int(counter["packets"])


def lasting(entry: Entry) -> bool:
    """Say whether an entry has long enough left to be written."""
    return entry.remaining_ms is None or entry.remaining_ms >= LEAST


def name_of(head: Head, entry: Entry) -> str:
    """Return the words that name an element alone. Raises Unsayable."""
    return nft_values.said(head.key, entry.key)


def value_of(head: Head, entry: Entry) -> str:
    """Return the data of an element of a map behind a colon, "" of a set. Raises Unsayable."""
    if head.kind == "set":
        return ""
    value = entry.data.get("value")
    if type(value) is not str:
        raise Unsayable("it has no data")
    return f" : {nft_values.said(head.data, value)}"


def element(head: Head, entry: Entry, default: int) -> str:
    """Return the words that make an element. Raises Unsayable.

    default: the timeout of the set that the entry is from, which may be another than the one here.
    """
    words = name_of(head, entry)
    if head.counter:
        words += f" counter packets {entry.hits} bytes {_number(entry.data.get('bytes', 0))}"
    if entry.remaining_ms is not None:
        if not head.expires:
            raise Unsayable("nothing expires in the set here")
        timeout = _number(entry.data.get("timeout", default)) or max(head.timeout, math.ceil(entry.remaining_ms / 1000))
        if timeout != head.timeout:
            words += f" timeout {timeout}s"
        words += f" expires {min(round(entry.remaining_ms), timeout * 1000)}ms"
    elif head.timeout:
        raise Unsayable("it does not expire, and everything does in the set here")
    if comment := entry.data.get("comment"):
        if type(comment) is not str or not COMMENT.fullmatch(comment):
            raise Unsayable("its comment cannot be written")
        words += f' comment "{comment}"'
    return words + value_of(head, entry)


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value < MOST:
        raise Unsayable("it has a number that is none")
    return value


class Batch:
    """Commands for one transaction, an element a line, so that a complaint about a line is one about an element."""

    def __init__(self, place: str) -> None:
        self.place = place  # "FAMILY TABLE NAME"
        self.lines: list[str] = []
        self.keys: dict[int, str] = {}  # by the number of the line

    def flush(self, kind: str) -> None:
        """Have all elements go."""
        self.lines.append(f"flush {kind} {self.place}")

    def singly(self, verb: str, words: dict[str, str], without: Collection[str]) -> None:
        """Have each element added by a command of its own: takes longer, and every bad one is complained of."""
        for key, one in words.items():
            if key not in without:
                self.lines.append(f"{verb} element {self.place} {{ {one} }}")
                self.keys[len(self.lines)] = key

    def elements(self, verb: str, words: dict[str, str]) -> None:
        """Have elements added or deleted: what names or makes each, by its key."""
        if not words:
            return
        self.lines.append(f"{verb} element {self.place} {{")
        self.keys |= dict(enumerate(words, len(self.lines) + 1))
        self.lines += [f"{one}," for one in words.values()]
        self.lines.append("}")

    def text(self) -> bytes:
        """Return what nft reads."""
        return "".join(f"{line}\n" for line in self.lines).encode()


def heads(kind: str, text: bytes) -> dict[str, Head]:
    """Return the sets of `nft -j list sets`, or the maps of `list maps`, by their names."""
    found = [one[kind] for one in json.loads(text)["nftables"] if kind in one]
    return {f"{one['family']} {one['table']} {one['name']}": _head(kind, one) for one in found}
