"""The write of a kernel with ssyncd's patch, which takes stamps as they are: `*ADDRESS;TTL;STAMP;STAMP;...;` and a NUL.

As its source has it (github.com/zevenet/ssyncd, src/kmodule/xt_recent-4.9.13.c; also for 3.2.93 and 3.16.43): a new
address gets the time to live and the stamps, one that is there the stamps only, after its own. A write of more than 421
bytes is refused. What is written is read as a string although nothing ends it, hence the NUL. The kind of an address is
told by what comes after it, so that IPv6 cannot be written. The first stamp must be a good one.

Recognised by what modinfo(8) says of the module; whether that one is loaded shows at the first write, which any other
kernel refuses with EINVAL and without a change (and a line in its log, which is why nothing is tried without the hint).
"""

import os
from collections.abc import Sequence
from socket import AF_INET, inet_pton

from hotpair.sessions import tool
from hotpair.sessions.backend import TableError

AUTHOR = b"Abdessamad El Abbassi"
LOADED = "/sys/module/xt_recent/initstate"  # only what was loaded has a state (kernel/module/sysfs.c)
LONGEST = 421  # bytes of one write
TTL = 255  # the largest, of eight bits
WAIT = 10.0  # seconds that modinfo may take


def here() -> bool:
    """Say whether this node's module has the patch; it comes as one, and is never a part of the kernel's own file."""
    if not os.path.exists(LOADED):
        return False
    try:
        said = tool.run(["modinfo", "-F", "author", "xt_recent"], timeout=WAIT)
    except TableError:
        return False
    return not said.code and AUTHOR in said.out


def takes(key: str) -> bool:
    """Say whether an address can be written that way."""
    try:
        inet_pton(AF_INET, key)
    except (OSError, ValueError):
        return False
    return True


def rebased(ages_ms: Sequence[float], now: int, tick: float, bits: int) -> list[int]:
    """Return ages as stamps of this kernel, the oldest first."""
    return [(now - round(age / tick)) % (1 << bits) for age in sorted(ages_ms, reverse=True)]


def writes(key: str, ttl: object, stamps: Sequence[int]) -> list[bytes]:
    """Return what is written for an address, one write each. The stamps of a later one are added to the earlier's."""
    hops = ttl if isinstance(ttl, int) and 0 <= ttl <= TTL else 0
    head = f"*{key};{hops};".encode()
    found: list[bytes] = []
    line = head
    for stamp in stamps:
        word = b"%d;" % stamp
        if len(line) + len(word) + 1 > LONGEST:
            found.append(line + b"\0")
            line = head
        line += word
    return [*found, line + b"\0"] if line != head else found
