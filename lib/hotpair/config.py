"""What /etc/hotpair/hotpair.ini means: this node, its peer, and the sets of files both share."""

import fnmatch
import hashlib
import os
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from hotpair import ini, paths
from hotpair.exits import ConfigFail

SET_NAME = re.compile(r"[a-z0-9-]+")
GLOB = re.compile(r"[*?\[]")


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
    "ssh-port": Option("22", number, "a port number"),
    "ssh-key": Option("/etc/hotpair/id_ed25519", shaped(r"/.+"), "an absolute path"),
    "ssh-known-hosts": Option("/etc/hotpair/known_hosts", shaped(r"/.+"), "an absolute path"),
    "connect-timeout": Option("5", seconds, "seconds"),
    "io-timeout": Option("60", seconds, "seconds"),
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


def _check_path(section: ini.Section, path: str, beside: bool) -> None:
    clean = "/" + "/".join(part for part in path.split("/") if part not in ("", "."))
    if not path.startswith("/"):
        section.problem(f"{path!r} is a relative path", f"write /{path}", "paths", path)
    elif path != clean or ".." in path.split("/"):
        section.problem(f"{path!r} is not a plain path", "write it without //, . and ..", "paths", path)
    elif paths.INBOX in path.split("/"):
        section.problem(f"{path!r} is hotpair's own", f"leave out {paths.INBOX}", "paths", path)
    elif beside and _matches_own_copies(path):
        section.problem(
            f"{path!r} would take its own numbered copies for files", "write generations = store", "paths", path
        )
    else:
        _check_links(section, path)


def _matches_own_copies(pattern: str) -> bool:
    name = pattern.rsplit("/", 1)[1]
    return bool(GLOB.search(name)) and fnmatch.fnmatchcase(re.sub(r"\[[^]]*\]|[*?]", "x", name) + ".1", name)


def _check_links(section: ini.Section, path: str) -> None:
    """Refuse a path through a symbolic link: it would not be followed when the file is written."""
    directory = path.rsplit("/", 1)[0]
    while directory and (GLOB.search(directory) or not os.path.isdir(paths.under(directory))):
        directory = directory.rsplit("/", 1)[0]
    real = os.path.realpath(paths.under(directory))[len(os.path.realpath(paths.root() or "/").rstrip("/")) :]
    if directory and real != directory:
        section.problem(
            f"{path!r} goes through a symbolic link", f"write {real}{path[len(directory) :]}", "paths", path
        )


def _files_set(section: ini.Section, name: str) -> FilesSet:
    if not SET_NAME.fullmatch(name):
        section.problem(f"{name!r} cannot name a set", "write small letters, digits and dashes")
    found = values(section, FILES, ("paths",))
    listed = tuple(section.items("paths"))
    for path in listed:
        _check_path(section, path, found["generations"] == "beside")
    return FilesSet(name, **{**found, "paths": listed})


def _check_overlap(sections: list[tuple[ini.Section, FilesSet]]) -> None:
    """Note every path that two lines claim: as the same text, or one a glob that covers the other."""
    claimed: list[tuple[str, str]] = []
    for section, files in sections:
        for path in files.paths:
            for other, owner in claimed:
                same = other == path and owner == files.name
                if same or (owner != files.name and (matches(path, other) or matches(other, path))):
                    section.problem(f"{path!r} is already in set {owner!r}", "leave it in one set", "paths", path)
                    break
            claimed.append((path, files.name))


def examine() -> tuple[Config | None, list[ini.Problem]]:
    """Read hotpair.ini and return it with every problem found; the configuration is None when there is one.

    Raises ConfigFail when there is no file to read, or one that others can write.
    """
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
    if node is None and not file.problems:
        file.problems.append(ini.Problem(file.path, 0, "no section [node]", "write one with name and peer"))
    if file.problems or node is None:
        return None, file.problems
    return Config(node, {files.name: files for _, files in found}), []


def load() -> Config:
    """Return the configuration. Raises ConfigFail with the first problem, and how many there are."""
    config, problems = examine()
    if config is None:
        more = f" (and {len(problems) - 1} more: run `hotpair check`)" if len(problems) > 1 else ""
        raise ConfigFail(f"{problems[0]}{more}")
    return config
