"""What the rules of iptables(8) say of a table of xt_recent: how long its entries count, and how many stamps they have.

iptables-save(8) writes `-m recent --update --seconds 60 --hitcount 4 --name NAME --mask M --rsource`, a name with
spaces without quotes.
"""

import re
from typing import NamedTuple

from hotpair.sessions import tool
from hotpair.sessions.backend import TableError

MATCH = re.compile(r"-m recent (?:! )?(--.*?) ?--name (.+?)(?: --mask \S+)? --r(?:source|dest)\b")
SECONDS = re.compile(r"--seconds (\d+)")
HITCOUNT = re.compile(r"--hitcount (\d+)")
LEGACY = {"iptables": "/proc/thread-self/net/ip_tables_names", "ip6tables": "/proc/thread-self/net/ip6_tables_names"}
RING = 32  # stamps of an entry, by a rule without --hitcount
WAIT = 20.0  # seconds that iptables-save may take


class Uses(NamedTuple):
    """How the rules use one table."""

    seconds: int | None  # after which an entry matches no rule any more; None: there is a rule that it always matches
    ring: int  # stamps that the table remembers of an address


def parse(text: str, least: int = 0) -> dict[str, Uses]:
    """Return the tables of some rules by name. least: the module's ip_pkt_list_tot."""
    found: dict[str, tuple[list[int | None], int]] = {}
    for line in text.splitlines():
        if " -m recent " not in line:
            continue
        for options, name in MATCH.findall(line):
            spans, ring = found.get(name, ([], 1))
            if "--rcheck" in options or "--update" in options:
                seconds = SECONDS.search(options)
                spans.append(int(seconds[1]) if seconds else None)
            hits = HITCOUNT.search(options)
            found[name] = (spans, max(ring, size(int(hits[1]) if hits else 0, least)))
    return {name: Uses(_longest(spans), ring) for name, (spans, ring) in found.items()}


def _longest(spans: list[int | None]) -> int | None:
    known = [span for span in spans if span]  # the kernel takes 0 for none
    return max(known) if known and len(known) == len(spans) else None


def size(hits: int, least: int) -> int:
    """Return how many stamps one rule makes a table remember (recent_mt_check in net/netfilter/xt_recent.c)."""
    wanted = max(hits, least) or RING
    return 1 << (wanted - 1).bit_length()


def text() -> str:
    """Return all rules of this network namespace; "" where they cannot be read."""
    said = [_says(f"{family}-save") for family in LEGACY]
    said += [_says(f"{family}-legacy-save") for family, names in LEGACY.items() if _some(names)]
    return "\n".join(said)


def _some(names: str) -> bool:
    """Say whether the older kind of tables is in use beside those of nftables."""
    try:
        with open(names, "rb") as file:
            return bool(file.read(1))
    except OSError:
        return False


def _says(program: str) -> str:
    try:
        return tool.run([program], timeout=WAIT).out.decode(errors="replace")
    except TableError:
        return ""
