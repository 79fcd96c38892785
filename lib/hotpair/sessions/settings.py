"""[sessions]: the session tables that follow the master, and where the proxies that hold them are asked."""

from typing import NamedTuple

from hotpair import ini, options
from hotpair.options import Option, between, number, seconds, shaped

WORDS = {  # how many words each kind of table takes in a line of `tables`
    "recent": (0, 1),
    "nft": (3, 3),
    "ipset": (1, 1),
    "haproxy": (1, 1),
    "pound": (1, 1),
    "http": (1, 1),
    "conntrack": (0, 0),
}
SHAPES = "recent [NAME], nft FAMILY TABLE SET, ipset NAME, haproxy NAME, pound LISTENER/SERVICE, http FARM or conntrack"
SOCKET = "an absolute path"
OPTIONS = {
    "tables": Option("", str, "tables, one a line"),
    "every": Option("2", between(seconds, 0.1, 30), "seconds, from 0.1 to 30"),
    "haproxy-socket": Option("/run/haproxy/admin.sock", shaped(r"/.+"), SOCKET),
    "pound-socket": Option("/run/pound/poundctl.socket", shaped(r"/.+"), SOCKET),
    "http-socket": Option("/tmp/ssync_%s.socket", shaped(r"/.*%s.*"), "an absolute path with %s for the farm"),
    "http-control": Option("/tmp/%s_pound.socket", shaped(r"/.*%s.*"), "an absolute path with %s for the farm"),
    "http-poundctl": Option("poundctl", shaped(r"[^/].*|/.+"), "the path of a program"),
    "http-ttl": Option("0", number, "seconds, or 0"),
}


class Sessions(NamedTuple):
    """What one section says."""

    tables: tuple[str, ...] = ()  # "BACKEND NAME", the name may be missing
    every: float = 2.0  # seconds between two dumps
    haproxy_socket: str = OPTIONS["haproxy-socket"].default
    pound_socket: str = OPTIONS["pound-socket"].default
    http_socket: str = OPTIONS["http-socket"].default
    http_control: str = OPTIONS["http-control"].default
    http_poundctl: str = OPTIONS["http-poundctl"].default
    http_ttl: int = 0  # seconds, 0: not known


def read(section: ini.Section) -> Sessions:
    """Return what a section says; what is wrong with it is noted there."""
    found = options.values(section, OPTIONS, ())
    found["tables"] = tuple(" ".join(line.split()) for line in section.items("tables"))
    for line in found["tables"]:
        if why := unfit(line):
            section.problem(f"{line!r}: {why}", f"write {SHAPES}", "tables", line)
    return Sessions(**found)


def unfit(label: str) -> str:
    """Return what keeps a line from naming a table, or ""."""
    kind, *words = label.split() or [""]
    if kind not in WORDS:
        return f"there is no kind of table {kind!r}"
    least, most = WORDS[kind]
    return "" if least <= len(words) <= most else f"{kind} takes {least}{f' or {most}' * (most > least)} more words"
