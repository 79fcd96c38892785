"""What /etc/hotpair/hotpair.ini means: this node, its peer, and the sets of files both share."""

import fnmatch
import hashlib
import os
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from hotpair import globs, ini, paths, quiet
from hotpair.exits import ConfigFail

SET_NAME = re.compile(r"[a-z0-9-]+")
GLOB = re.compile(r"[*?\[]")
OWN = ("/etc/hotpair/hotpair.ini", "/var/lib/hotpair", "/run/hotpair")  # never shared: they say which node this is


class Option(NamedTuple):
    """One key of a section: its default as text, how the text becomes a value, and what to write."""

    default: str
    parse: Callable[[str], Any]
    write: str


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


class FilesSet(NamedTuple):
    """Single files that both nodes share."""

    name: str
    paths: tuple[str, ...]
    keep: int  # generations
    generations: str
    settle: float  # seconds
    prefer: str

    def settings(self) -> str:
        """Return a digest of what both nodes must have alike for the set to be one set."""
        text = repr((sorted(self.paths), self.prefer)).encode()
        return hashlib.blake2b(text, digest_size=8).hexdigest()

    def covers(self, live: str) -> bool:
        """Say whether a live path belongs to the set; this alone decides what a peer may write here."""
        return any(matches(live, pattern) for pattern in self.paths)


class Config(NamedTuple):
    node: Node
    sets: dict[str, FilesSet]
    signature: str = ""  # of the files this was read from, taken before they were read

    def named(self, set_name: str) -> FilesSet:
        """Return a set. Raises ConfigFail when there is none of that name."""
        if set_name not in self.sets:
            file = paths.config_file("hotpair.ini")
            raise ConfigFail(f"{file}: no section [files {set_name}]", "run `hotpair tables` if it was removed")
        return self.sets[set_name]


def seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1e9:
        raise ValueError(text)
    return value


def number(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ValueError(text)
    return int(text)


def port(text: str) -> int:
    if not 0 < number(text) < 65536:
        raise ValueError(text)
    return number(text)


def limit(text: str) -> float:
    """Parse a time-out, which less than a second would make of every slow answer."""
    if seconds(text) < 1:
        raise ValueError(text)
    return seconds(text)


def size(text: str) -> int:
    """Parse a size in bytes: 4096, 32K, 1M, 2G."""
    unit = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:].upper(), 0)
    return number(text[:-1].strip()) * unit if unit else number(text)


def one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(text)
        return text

    return parse


def shaped(pattern: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(text)
        return text

    return parse


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
}
FILES = {
    "paths": Option("", str, "absolute paths, one a line, globs allowed"),
    "keep": Option("6", number, "a whole number"),
    "generations": Option("store", one_of("store", "beside"), "store or beside"),
    "settle": Option("0", seconds, "seconds"),
    "prefer": Option("newest", shaped(r"[A-Za-z0-9][A-Za-z0-9.-]*"), "newest, hold or a node's name"),
}


def values(section: ini.Section, options: dict[str, Option], required: tuple[str, ...]) -> dict[str, Any]:
    """Return every option of a section, defaults filled in; what is wrong is noted in the section's file."""
    for key in section.values:
        if key not in options:
            section.problem(f"unknown key {key!r}", "write one of " + ", ".join(sorted(options)), key)
    parsed = {}
    for key, option in options.items():
        text = section.values.get(key, option.default)
        if key in required and not text:
            section.problem(f"{key} is missing", f"write `{key} =` and {option.write}")
        try:
            parsed[key.replace("-", "_")] = option.parse(text) if text or key not in required else text
        except ValueError:
            section.problem(f"{key} cannot be {text!r}", f"write {option.write}", key)
            parsed[key.replace("-", "_")] = option.parse(option.default) if option.default else ""
    return parsed


def matches(live: str, pattern: str) -> bool:
    """Say whether a path matches a glob, component by component; as in a shell, `*` leaves a leading dot alone."""
    parts, wanted = live.split("/"), pattern.split("/")
    if len(parts) != len(wanted):
        return False
    return all(
        part == glob if not GLOB.search(glob) else _component(part, glob)
        for part, glob in zip(parts, wanted, strict=True)
    )


def _component(name: str, glob: str) -> bool:
    return fnmatch.fnmatchcase(name, glob) and name != paths.INBOX and (name[:1] != "." or glob[:1] == ".")


def _check_path(section: ini.Section, path: str) -> None:
    parts = path.split("/")[1:]
    if not path.startswith("/"):
        section.problem(f"{path!r} is a relative path", f"write /{path}", "paths", path)
    elif not all(parts) or "." in parts or ".." in parts:
        remedy = "write it without //, . and .. and no / at its end"
        section.problem(f"{path!r} is not a plain path", remedy, "paths", path)
    elif paths.INBOX in parts or any(globs.meet(path, own) or _below(parts, own) for own in OWN):
        section.problem(f"{path!r} is hotpair's own, of this node alone", "leave it out", "paths", path)
    else:
        _check_links(section, path)


def _below(parts: list[str], own: str) -> bool:
    wanted = own.split("/")[1:]
    return len(parts) > len(wanted) and all(map(globs.name_meets, parts, wanted))


def _check_links(section: ini.Section, path: str) -> None:
    """Refuse a path through a symbolic link: it would not be followed when the file is written."""
    directory = path.rsplit("/", 1)[0]
    while directory and (GLOB.search(directory) or not os.path.lexists(paths.under(directory))):
        directory = directory.rsplit("/", 1)[0]
    root, real = os.path.realpath(paths.root() or "/").rstrip("/"), os.path.realpath(paths.under(directory))
    real = real.removeprefix(root) if real.startswith(root + "/") else ""
    if directory and real != directory:
        remedy = f"write {real}{path[len(directory) :]}" if real.startswith("/") else "name a path that needs none"
        section.problem(f"{path!r} goes through a symbolic link", remedy, "paths", path)


def _files_set(section: ini.Section, name: str) -> FilesSet:
    if not SET_NAME.fullmatch(name):
        section.problem(f"{name!r} cannot name a set", "write small letters, digits and dashes")
    found = values(section, FILES, ("paths",))
    listed = tuple(section.items("paths"))
    for path in listed:
        _check_path(section, path)
    return FilesSet(name, **{**found, "paths": listed})


def _check_overlap(sections: list[tuple[ini.Section, FilesSet]]) -> None:
    """Note every path that two lines claim: as the same text, or as two globs that a name can match both of."""
    claimed: list[tuple[str, str]] = []
    named: set[str] = set()
    for section, files in sections:
        if files.name in named:
            section.problem(f"set {files.name!r} is there twice", "give each set its own name")
        named.add(files.name)
        for path in files.paths:
            for other, owner in claimed:
                if other == path or (owner != files.name and globs.meet(path, other)):
                    section.problem(f"{path!r} is already in set {owner!r}", "leave it in one set", "paths", path)
                    break
            claimed.append((path, files.name))


def _check_copies(sections: list[tuple[ini.Section, FilesSet]]) -> None:
    """Note every path whose numbered copies beside it would be files of a set themselves."""
    every = [path for _, files in sections for path in files.paths]
    for section, files in sections:
        if files.generations == "beside":
            numbers = ["[1-9]" + "[0-9]" * more for more in range(min(len(str(files.keep + 1)), 9))]
            for path in files.paths:
                taken = [other for other in every for number in numbers if globs.meet(f"{path}.{number}", other)]
                if taken:
                    what = f"{taken[0]!r} would take the numbered copies of {path!r} for files"
                    section.problem(what, "write generations = store", "paths", path)


def examine() -> tuple[Config | None, list[ini.Problem]]:
    """Read hotpair.ini and return it with every problem found; the configuration is None when there is one.

    Raises ConfigFail when there is no file to read, or one that others can write.
    """
    signature = quiet.configuration()
    file = ini.read(paths.config_file("hotpair.ini"))
    node: Node | None = None
    found: list[tuple[ini.Section, FilesSet]] = []
    for section in file.sections():
        kind, _, name = section.name.partition(" ")
        if section.name == "node":
            node = Node(**values(section, NODE, ("name", "peer")))
        elif kind == "files" and name:
            found.append((section, _files_set(section, name.strip())))
        else:
            section.problem(f"unknown section [{section.name}]", "write [node] or [files NAME]")
    _check_overlap(found)
    _check_copies(found)
    if node is None:
        file.problems.append(ini.Problem(file.path, 0, "no section [node]", "write one with name and peer"))
    if file.problems or node is None:
        return None, file.problems
    return Config(node, {files.name: files for _, files in found}, signature), []


def load() -> Config:
    """Return the configuration. Raises ConfigFail with the first problem, and how many there are."""
    config, problems = examine()
    if config is None:
        more = f" (and {len(problems) - 1} more: run `hotpair check`)" if len(problems) > 1 else ""
        raise ConfigFail(f"{problems[0]}{more}")
    return config
