"""[files NAME]: single files that both nodes share, and what is wrong with how they are listed."""

import hashlib
import os
import re
from typing import NamedTuple

from hotpair import globs, ini, options, paths, scan

OWN = ("/etc/hotpair/hotpair.ini", "/var/lib/hotpair", "/run/hotpair")  # never shared: they say which node this is
ODD = {  # what is rarely in a name, and hardly meant to be
    r"\s[#;]": "has a comment behind it, which needs a line of its own",
    r",\s*/": "is several paths",
    r"\{.*,.*\}": "has braces, which are for a shell",
    r"\*\*": "has **, which matches no more than one directory here",
    r"\[[^\]]*$": "has a [ that does not end",
}
OPTIONS = {
    "paths": options.Option("", str, "absolute paths, one a line, globs allowed"),
    "keep": options.Option("6", options.number, "a whole number"),
    "keep-age": options.Option("0", options.number, "a whole number of days, 0 for no limit"),
    "keep-size": options.Option("0", options.size, "a size such as 500M or 10G, 0 for no limit"),
    "generations": options.Option("store", options.one_of("store", "beside"), "store or beside"),
    "settle": options.Option("0", options.seconds, "seconds"),
    "prefer": options.Option("newest", options.shaped(r"[A-Za-z0-9][A-Za-z0-9.-]*"), "newest, hold or a node's name"),
}


class FilesSet(NamedTuple):
    """Single files that both nodes share."""

    name: str
    paths: tuple[str, ...]
    keep: int  # generations
    generations: str
    settle: float  # seconds
    prefer: str
    keep_age: int = 0  # days, and bytes of all generations together; 0 is no limit
    keep_size: int = 0
    source: str = ""  # the one node whose states count; of a tree, this and what follows are options
    carried: scan.Carried = scan.CARRIED
    batch_entries: int = 100  # changes that are sent together
    batch_bytes: int = 64 << 20  # a larger file goes alone, so that it holds up nobody
    rsync_options: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """What logs call the set."""
        return self.name

    def settings(self) -> str:
        """Return a digest of what both nodes must have alike for the set to be one set."""
        text = repr((sorted(self.paths), self.prefer)).encode()
        return hashlib.blake2b(text, digest_size=8).hexdigest()

    def shared(self, live: str) -> str:
        """Return what both nodes call a live path."""
        return live

    def live(self, shared: str) -> str:
        """Return the live path of what both nodes call so."""
        return shared

    def covers(self, live: str, directory: bool = False) -> bool:
        """Say whether a live path belongs to the set; this alone decides what a peer may write here."""
        return any(globs.matches(live, pattern) for pattern in self.paths)


def check_path(section: ini.Section, path: str, key: str) -> None:
    """Note what keeps a path, or a glob, from being shared: not plain, our own, or through a link."""
    parts = path.split("/")[1:]
    if not path.startswith("/"):
        section.problem(f"{path!r} is a relative path", f"write /{path}", key, path)
    elif not all(parts) or "." in parts or ".." in parts:
        remedy = "write it without //, . and .. and no / at its end"
        section.problem(f"{path!r} is not a plain path", remedy, key, path)
    elif paths.INBOX in parts or any(globs.meet(path, own) or _below(parts, own) for own in OWN):
        section.problem(f"{path!r} is hotpair's own, of this node alone", "leave it out", key, path)
    elif key == "paths" and (odd := next((why for odd, why in ODD.items() if re.search(odd, path)), "")):
        section.problem(f"{path!r} {odd}", "write one path a line", key, path)
    else:
        _check_links(section, path, key)


def _below(parts: list[str], own: str) -> bool:
    wanted = own.split("/")[1:]
    return len(parts) > len(wanted) and all(map(globs.name_meets, parts, wanted))


def _check_links(section: ini.Section, path: str, key: str) -> None:
    """Refuse a path through a symbolic link: it would not be followed when the file is written."""
    directory = path.rsplit("/", 1)[0]
    while directory and (globs.GLOB.search(directory) or not os.path.lexists(paths.under(directory))):
        directory = directory.rsplit("/", 1)[0]
    root, real = os.path.realpath(paths.root() or "/").rstrip("/"), os.path.realpath(paths.under(directory))
    real = real.removeprefix(root) if real.startswith(root + "/") else ""
    if directory and real != directory:
        remedy = f"write {real}{path[len(directory) :]}" if real.startswith("/") else "name a path that needs none"
        section.problem(f"{path!r} goes through a symbolic link", remedy, key, path)


def read(section: ini.Section, name: str) -> FilesSet:
    """Return the set of a section; what is wrong with it is noted there."""
    found = options.values(section, OPTIONS, ("paths",))
    listed = tuple(section.items("paths"))
    for path in listed:
        check_path(section, path, "paths")
    return FilesSet(name, **{**found, "paths": listed})


def check_overlap(sections: list[tuple[ini.Section, FilesSet]]) -> None:
    """Note every path that two lines claim: as the same text, or as two globs that a name can match both of."""
    claimed: list[tuple[str, str]] = []
    for section, files in sections:
        for path in files.paths:
            for other, owner in claimed:
                if other == path or (owner != files.name and globs.meet(path, other)):
                    section.problem(f"{path!r} is already in set {owner!r}", "leave it in one set", "paths", path)
                    break
            claimed.append((path, files.name))


def check_copies(sections: list[tuple[ini.Section, FilesSet]]) -> None:
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
