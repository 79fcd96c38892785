"""What /proc/net/xt_recent/NAME says, as entries. Pure.

    src=192.0.2.7 ttl: 64 last_seen: 4295038746 oldest_pkt: 3 4295038596, 4295038671, 4295038746

The stamps are in the order of a ring, of which `oldest_pkt` is the next place (net/netfilter/xt_recent.c). They are
sorted by age instead: that is right for a ring of any size, and where a kernel before 6.11 has 256 places, of which it
never shows the last. The table is not locked while it is read: a row may come twice, and then the later one counts.
"""

import re
from functools import partial
from socket import AF_INET6, inet_ntop, inet_pton
from typing import Any

from hotpair.sessions.jiffies import signed
from hotpair.sessions.record import Entry

HIDDEN = 255  # stamps that are shown where the 256th never is
AHEAD = 1000.0  # milliseconds that the clock may be behind the stamps; more is a stamp that somebody made up
ROW = re.compile(rb"src=(\S+) ttl: \d+ last_seen: (\d+)")

# half of the time that Entry(...) takes, and a dump is little else
_entry: Any = partial(tuple.__new__, Entry)


def shortest(address: str) -> str:
    """Return an IPv6 address in its shortest form. Raises ValueError."""
    try:
        return inet_ntop(AF_INET6, inet_pton(AF_INET6, address))
    except OSError as error:
        raise ValueError(f"no address: {address}") from error


class _Data(dict[str, dict[str, int]]):
    """The data of entries by their time to live: one for all that have the same."""

    def __missing__(self, ttl: str) -> dict[str, int]:
        found = self[ttl] = {"ttl": int(ttl)}
        return found


def entries(text: bytes, now: int, tick: float, bits: int = 64) -> tuple[dict[str, Entry], int]:
    """Return the entries of a table by address, and the number of ticks they were counted from.

    That is `now`, unless a stamp is younger: the clock may have been read a tick too early.
    Raises ValueError for what no kernel writes.
    """
    if not text:
        return {}, now
    if not (text.startswith(b"src=") and text.endswith(b"\n")):
        raise ValueError("it has a row that does not begin with src=")
    number = int if bits == 64 else partial(_unwrapped, now, bits)
    found: dict[str, Entry] = {}
    data = _Data()
    youngest = 0.0
    for row in text[4:-1].decode("ascii").split("\nsrc="):
        key, _, ttl, _, last, _, _, stamps = row.split(" ", 7)
        ages = [(now - number(stamp)) * tick for stamp in stamps.split(", ")]
        if len(ages) > 1:
            ages.sort(reverse=True)
            if len(ages) == HIDDEN and (age := (now - number(last)) * tick) < ages[-1]:
                ages.append(age)
        if ages[-1] < youngest:
            if ages[-1] < -AHEAD:
                ages = [max(age, 0.0) for age in ages]
            else:
                youngest = ages[-1]
        if ":" in key:
            key = shortest(key)
        found[key] = _entry((key, len(ages), tuple(ages), None, data[ttl]))
    if youngest < 0:
        return entries(text, now + round(-youngest / tick), tick, bits)
    return found, now


def _unwrapped(now: int, bits: int, stamp: str) -> int:
    return now - signed(now - int(stamp), bits)


def marks(text: bytes) -> dict[str, str]:
    """Return the newest stamp of each address, as it is written there."""
    found = {}
    for address, last in ROW.findall(text):
        key = address.decode()
        found[shortest(key) if ":" in key else key] = last.decode()
    return found
