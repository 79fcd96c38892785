"""What /etc/hotpair/hotpair.ini means: this node, its peer, and the sets that both share."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from hotpair import filesset, ini, options, paths, quiet, treeset
from hotpair.exits import ConfigFail, NoInput
from hotpair.failover import settings as failover
from hotpair.failover.settings import Failover
from hotpair.filesset import FilesSet
from hotpair.hotsync import settings as hotsync
from hotpair.hotsync.settings import Hotsync
from hotpair.options import Option, limit, port, shaped, size
from hotpair.sessions import settings as sessions
from hotpair.sessions.settings import Sessions
from hotpair.treeset import TreeSet

SET_NAME = re.compile(r"[a-z0-9-]+")
AnySet = FilesSet | TreeSet
KINDS = "[node], [files NAME], [tree NAME], [hotsync], [failover] or [sessions]"


class Node(NamedTuple):
    """This node and the way to its peer."""

    name: str
    peer: str
    ssh_user: str
    ssh_port: int
    ssh_key: str
    ssh_known_hosts: str
    connect_timeout: float  # seconds
    io_timeout: float  # seconds
    rsync_above: int  # bytes
    large: int  # bytes


class Config(NamedTuple):
    node: Node
    sets: dict[str, AnySet]
    signature: str = ""  # of the files this was read from, taken before they were read
    hotsync: Hotsync | None = None  # None without that section
    failover: Failover = Failover()
    sessions: Sessions | None = None  # None without that section

    def named(self, set_name: str) -> AnySet:
        """Return a set. Raises NoInput when there is none of that name."""
        if set_name not in self.sets:
            there = f"the sets are {', '.join(self.sets)}" if self.sets else "there are none in hotpair.ini"
            raise NoInput(f"no set {set_name!r}", f"{there}; run `hotpair tables` if it was removed")
        return self.sets[set_name]

    def of(self, path: str) -> AnySet:
        """Return the set that a live path belongs to. Raises NoInput when there is none."""
        for one in self.sets.values():
            if one.covers(path) or one.covers(path, True) or (isinstance(one, TreeSet) and path == one.root):
                return one
        raise NoInput(f"{path} is in no set", "see hotpair.ini")


NODE = {
    "name": Option("", shaped(r"[A-Za-z0-9][A-Za-z0-9.-]*"), "this node's name, letters, digits, dots and dashes"),
    "peer": Option("", shaped(r"ssh:[A-Za-z0-9][A-Za-z0-9.:-]*|local:/.+"), "ssh:HOST or local:/PREFIX"),
    "ssh-user": Option("root", shaped(r"[a-z_][a-z0-9_-]*"), "a user name"),
    "ssh-port": Option("22", port, "a port number from 1 to 65535"),
    "ssh-key": Option("/etc/hotpair/id_ed25519", shaped(r"/.+"), "an absolute path"),
    "ssh-known-hosts": Option("/etc/hotpair/known_hosts", shaped(r"/.+"), "an absolute path"),
    "connect-timeout": Option("5", limit, "seconds, 1 at least"),
    "io-timeout": Option("60", limit, "seconds, 1 at least"),
    "rsync-above": Option("32K", size, "a size such as 32K, 1M or 0"),
    "large": Option("16M", size, "a size such as 16M or 1G"),
}


def _node(section: ini.Section) -> Node:
    return Node(**options.values(section, NODE, ("name", "peer")))


SINGLE: dict[str, Callable[[ini.Section], Any]] = {
    "node": _node,
    "hotsync": hotsync.read,
    "failover": failover.read,
    "sessions": sessions.read,
}


def examine() -> tuple[Config | None, list[ini.Problem]]:
    """Read hotpair.ini and return it with every problem found; the configuration is None when there is one.

    Raises ConfigFail when there is no file to read, or one that others can write.
    """
    signature = quiet.configuration()
    file = ini.read(paths.config_file("hotpair.ini"))
    single: dict[str, Any] = {}
    files: list[tuple[ini.Section, FilesSet]] = []
    trees: list[tuple[ini.Section, TreeSet]] = []
    for section in file.sections():
        kind, _, name = section.name.partition(" ")
        if section.name in SINGLE:
            single[section.name] = SINGLE[section.name](section)
        elif kind == "files" and name:
            files.append((section, filesset.read(section, name.strip())))
        elif kind == "tree" and name:
            trees.append((section, treeset.read(section, name.strip())))
        else:
            section.problem(f"unknown section [{section.name}]", f"write {KINDS}")
    sets: list[tuple[ini.Section, AnySet]] = [*files, *trees]
    _check_names(sets)
    filesset.check_overlap(files)
    filesset.check_copies(files)
    treeset.check_overlap(trees, [(section, path) for section, one in files for path in one.paths])
    if "node" not in single:
        file.problems.append(ini.Problem(file.path, 0, "no section [node]", "write one with name and peer"))
    if "sessions" in single and "hotsync" not in single:
        file.problems.append(ini.Problem(file.path, 0, "[sessions] without [hotsync]", "write one: its role counts"))
    if file.problems:
        return None, file.problems
    return Config(sets={one.name: one for _, one in sets}, signature=signature, **single), []


def _check_names(sections: list[tuple[ini.Section, AnySet]]) -> None:
    named: set[str] = set()
    for section, one in sections:
        if not SET_NAME.fullmatch(one.name):
            section.problem(f"{one.name!r} cannot name a set", "write small letters, digits and dashes")
        if one.name in named:
            section.problem(f"set {one.name!r} is there twice", "give each set its own name")
        named.add(one.name)


def load() -> Config:
    """Return the configuration. Raises ConfigFail with the first problem, and how many there are."""
    config, problems = examine()
    if config is None:
        more = f" (and {len(problems) - 1} more: run `hotpair check`)" if len(problems) > 1 else ""
        raise ConfigFail(f"{problems[0]}{more}")
    return config
