"""[failover]: what a promotion starts and takes over on this node, and what a demotion gives back."""

from typing import NamedTuple

from hotpair import ini, options, sections
from hotpair.options import Option, limit, shaped

ADDRESS = r"[0-9A-Fa-f.:]+/[0-9]{1,3} dev [A-Za-z0-9_.@-]{1,15}"
OPTIONS = {
    "address": Option("", str, "addresses, one a line: 192.0.2.10/24 dev eth0"),
    "services": Option("", str, "systemd units, one a line"),
    "fence": Option("", str, "a command line"),
    "hook-timeout": Option("600", limit, "seconds, 1 at least"),
}
unit = shaped(r"[A-Za-z0-9@:_.\\-]+")


def address(line: str) -> str:
    """Return a line that names an address, as ip(8) wants it, and an interface. Raises ValueError."""
    from ipaddress import ip_interface  # what is imported here, each event imports

    ip_interface(shaped(ADDRESS)(line).split()[0])
    return line


CHECKS = {"address": (address, "ADDRESS/LENGTH dev INTERFACE"), "services": (unit, "the name of a systemd unit")}


class Failover(NamedTuple):
    """What one section says."""

    address: tuple[str, ...] = ()  # "ADDRESS/LENGTH dev INTERFACE"
    services: tuple[str, ...] = ()  # systemd units, in the order they are started
    fence: str = ""  # a command line as it is written; it must end with 0 before a promotion goes on
    hook_timeout: float = 600.0  # seconds that each hook, dump or fence may take


def read(section: ini.Section) -> Failover:
    """Return what a section says; what is wrong with it is noted there."""
    found = options.values(section, OPTIONS, ())
    for key, (parse, write) in CHECKS.items():
        found[key] = tuple(section.items(key))
        for line in found[key]:
            try:
                parse(line)
            except ValueError:
                section.problem(f"{key} cannot be {line!r}", f"write {write}", key, line)
    if found["fence"]:
        sections.split(section, "fence", found["fence"])
    return Failover(**found)
