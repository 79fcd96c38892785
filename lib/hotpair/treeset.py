"""[tree NAME]: a directory and all below it, shared both ways or one way; what is wrong with how it is described."""

import hashlib
import math
import os
import stat
from collections.abc import Callable
from typing import NamedTuple

from hotpair import filesset, globs, ini, options, ownermap, owners, paths, rsync_options, rules, scan, sections
from hotpair.descend import ours
from hotpair.exits import Later
from hotpair.options import Option, between, number, one_of, seconds, shaped, size

MOST_ENTRIES = 1000  # paths in one batch, whatever is configured: the state lock is held while they are applied
PERCENT = "a number, or a percentage such as 50%"


class Unmounted(Later):
    """The tree's root is not the one that was shared: nothing is concluded from what is missing there."""

    kind = "unmounted"


class Share(NamedTuple):
    """A part of a set: so many files, or so many of a hundred."""

    amount: float
    percent: bool

    def of(self, total: int) -> float:
        """Return how many that is of a total."""
        return self.amount * total / 100 if self.percent else self.amount


class BigFile(NamedTuple):
    """Files of more than `size` bytes rest for `delay` seconds before they are sent."""

    size: float
    delay: float


def share(text: str) -> Share:
    """Parse a number of files, or a percentage."""
    percent = text.endswith("%")
    if percent and number(text[:-1]) > 100:
        raise ValueError(text)
    return Share(number(text[:-1] if percent else text), percent)


def big_file(text: str) -> BigFile:
    """Parse SIZE DELAY, such as 1G 300; nothing means no such files."""
    if not text:
        return BigFile(math.inf, 0.0)
    large, delay = text.split()
    return BigFile(size(large), seconds(delay))


def direction(text: str) -> str:
    """Parse `two-way`, or `push NODE`; return the node that is the source, "" when both are."""
    return shaped(r"two-way|push [A-Za-z0-9][A-Za-z0-9.-]*")(text).partition(" ")[2]


def yes(text: str) -> bool:
    return one_of("yes", "no")(text) == "yes"


def hours(text: str) -> tuple[int, ...]:
    """Parse hours of the day."""
    return tuple(between(number, 0, 23)(word) for word in text.split())


OPTIONS = {
    "root": Option("", str, "an absolute path"),
    "filter": Option("", str, "rules, one a line: `- PATTERN` or `+ PATTERN`, the first that matches counts"),
    "tempfiles": Option("", str, "patterns of names that are never looked at, one a line"),
    "keep": Option("6", number, "a whole number"),
    "keep-age": Option("0", number, "a whole number of days, 0 for no limit"),
    "keep-size": Option("0", size, "a size such as 500M or 10G, 0 for no limit"),
    "settle": Option("0", seconds, "seconds"),
    "bigfile": Option("", big_file, "SIZE DELAY, such as 1G 300"),
    "mode": Option("two-way", direction, "two-way, or push and the name of the node that is the source"),
    "prefer": Option("newest", shaped(r"[A-Za-z0-9][A-Za-z0-9.-]*"), "newest, hold or a node's name"),
    "conflict": Option("generations", one_of("generations", "beside"), "generations or beside"),
    "acl": Option("yes", yes, "yes or no"),
    "xattr": Option("yes", yes, "yes or no"),
    "specials": Option("no", yes, "yes or no"),
    "owner-map": Option("", str, "rules, one a line: user NUMBER-THERE = NAME-OR-NUMBER-HERE"),
    "max-delete": Option("50%", share, PERCENT),
    "max-change": Option("100%", share, PERCENT),
    "one-file-system": Option("no", yes, "yes or no"),
    "standby-file": Option("", shaped(r"|/.+"), "an absolute path"),
    "banned": Option("", shaped(r"[^/]*"), "the name of a program, without its directory"),
    "watches": Option("8000", number, "a whole number"),
    "label": Option("", shaped(r"[^\x00-\x1f\x7f]{0,100}"), "a text of one line, 100 characters at most"),
    "before": Option("", str, "command lines, one a line"),
    "after": Option("", str, "command lines, one a line"),
    "retries": Option("0", number, "a whole number"),
    "timeout": Option("0", between(seconds, 0, 86400), "seconds, 86400 at most"),
    "batch-entries": Option("100", between(number, 1, MOST_ENTRIES), f"a number from 1 to {MOST_ENTRIES}"),
    "batch-bytes": Option("64M", between(size, 1 << 16, 16 << 30), "a size from 64K to 16G"),
    "rsync-options": Option("", str, "options of rsync, one or more a line"),
    "fullsync": Option("", hours, "hours of the day from 0 to 23, such as 2 14"),
}


class TreeSet(NamedTuple):
    """A directory that both nodes share with all below it, what the filter leaves out excepted."""

    name: str
    root: str
    lines: tuple[tuple[str, ...], ...]  # of the filter and of the temporary files
    rules: rules.Rules
    keep: int  # generations
    settle: float  # seconds
    bigfile: BigFile
    source: str  # the node whose states alone count, "" when both nodes' do
    prefer: str
    conflict: str  # where the loser of one goes
    acl: bool  # whether ACLs are shared
    xattr: bool  # whether other extended attributes are
    specials: bool  # whether FIFOs and devices are
    owner_map: owners.Owners
    max_delete: Share
    max_change: Share
    one_file_system: bool
    standby_file: str
    banned: str
    watches: int  # directories that incrond is asked to watch
    label: str
    before: tuple[str, ...]  # command lines as they are written
    after: tuple[str, ...]
    retries: int  # attempts at a path; 0: no end of them
    timeout: float  # seconds for one batch; 0: no end of them
    batch_entries: int
    batch_bytes: int
    rsync_options: tuple[str, ...]
    fullsync: tuple[int, ...]  # hours of the day
    keep_age: int = 0  # days, and bytes of all generations together; 0 is no limit
    keep_size: int = 0

    @property
    def title(self) -> str:
        """What logs call the set."""
        return f"{self.name} ({self.label})" if self.label else self.name

    @property
    def carried(self) -> scan.Carried:
        """Return what belongs to the state of a path."""
        xattrs = (*(scan.OTHER_XATTRS if self.xattr else ()), *(scan.ACLS if self.acl else ()))
        return scan.Carried(xattrs, self.specials, self.owner_map)

    def settings(self) -> str:
        """Return a digest of what both nodes must have alike for the set to be one set."""
        alike = self.lines, self.source, self.prefer, self.conflict, self.acl, self.xattr, self.specials
        return hashlib.blake2b(repr(alike).encode(), digest_size=8).hexdigest()

    def shared(self, live: str) -> str:
        """Return what both nodes call a live path: each has its own root."""
        return live[len(self.root) :]

    def live(self, shared: str) -> str:
        """Return the live path of what both nodes call so."""
        return self.root + shared

    def covers(self, live: str, directory: bool = False) -> bool:
        """Say whether a live path belongs to the set; this alone decides what a peer may write here."""
        return live.startswith(self.root + "/") and self.rules.covers(live[len(self.root) + 1 :], directory)

    def own(self, name: str) -> str:
        """Return the live path of a directory of ours in the tree. Raises Unmounted: see `check_marker`."""
        self.check_marker()
        return f"{self.marker}/{self.name}{name}"

    @property
    def marker(self) -> str:
        """The live path of the directory that says that the tree is mounted, and holds ours."""
        return f"{self.root}/{paths.INBOX}"

    def check_marker(self) -> None:
        """Raise Unmounted unless the marker is there and ours: who owns the root could put links under its name.

        This is for people to read; `descend.open_directory` looks again at what it enters.
        """
        try:
            found = os.lstat(paths.under(self.marker))
        except OSError as error:
            remedy = "mount it; if it is right, mkdir that"
            raise Unmounted(f"{self.marker}: missing: not mounted?", remedy) from error
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise Unmounted(f"{self.marker}: not our own directory", "put that back; if it is lost, mkdir that anew")
        if not ours(found):
            raise Unmounted(f"{self.marker}: others can write to it", "see who did, then chmod go-w that")

    def left_out(self, directory: str) -> Callable[[str, bool], bool] | None:
        """Return what says of an entry of a live folder (its name, is it a directory) whether it is left out.

        None where nothing is: most entries of a large tree are asked about and nothing else.
        """
        if not any(self.lines):
            return None
        above = directory[len(self.root) + 1 :] + "/" if len(directory) > len(self.root) else ""
        return lambda name, is_directory: self.rules.excluded(above + name, is_directory)


def read(section: ini.Section, name: str) -> TreeSet:
    """Return the set of a section; what is wrong with it is noted there."""

    found = options.values(section, OPTIONS, ("root",))
    if found["root"]:
        filesset.check_path(section, found["root"], "root")
    if globs.GLOB.search(found["root"]):
        section.problem(f"{found['root']!r} is a glob", "name one directory", "root")
    elif found["root"] and os.path.islink(paths.under(found["root"])):
        section.problem(f"{found['root']!r} is a symbolic link", "name the directory that it leads to", "root")
    parse = {"filter": rules.parse_line, "tempfiles": rules.parse_tempfile}
    lines = tuple(tuple(section.items(key)) for key in parse)
    parsed = [_rules(section, key, how) for key, how in parse.items()]
    found["owner_map"] = ownermap.read(section)
    found |= {key: _commands(section, key) for key in ("before", "after")} | {"rsync_options": _rsync_options(section)}
    found = {key: value for key, value in found.items() if key not in parse}
    return TreeSet(name, lines=lines, rules=rules.Rules(*parsed), source=found.pop("mode"), **found)


def _commands(section: ini.Section, key: str) -> tuple[str, ...]:
    for line in section.items(key):
        sections.split(section, key, line)
    return tuple(section.items(key))


def _rsync_options(section: ini.Section) -> tuple[str, ...]:
    key, words = "rsync-options", []
    for line in section.items("rsync-options"):
        for word in line.split():
            if not rsync_options.allowed(word):
                what = f"{word!r} is not for rsync-options, because {rsync_options.why_not(word)}"
                section.problem(what, "write some of " + ", ".join(rsync_options.ALLOWED), key, line)
            words.append(word)
    return tuple(words)


def _rules(section: ini.Section, key: str, parse: Callable[[str], rules.Rule]) -> list[rules.Rule]:
    good = []
    for line in section.items(key):
        try:
            good.append(parse(line))
        except rules.BadRule as bad:
            section.problem(bad.what, bad.remedy, key, line)
    return good


def check_overlap(trees: list[tuple[ini.Section, TreeSet]], files: list[tuple[ini.Section, str]]) -> None:
    """Note every tree that lies in another, or that holds a path of a files set."""
    for index, (section, tree) in enumerate(trees):
        if not tree.root:
            continue
        for _, other in trees[:index]:
            if _within(tree.root, other.root) or _within(other.root, tree.root):
                section.problem(f"{tree.root!r} overlaps set {other.name!r}", "leave it in one set", "root")
        for other_section, path in files:
            if may_be_within(path, tree.root):
                other_section.problem(f"{path!r} is already in set {tree.name!r}", "leave it out", "paths", path)
        for own in filesset.OWN:
            if _within(own, tree.root) and own != tree.root:
                section.problem(f"{tree.root!r} holds {own}, of this node alone", "name a directory below", "root")


def may_be_within(path: str, root: str) -> bool:
    """Say whether a path, or what a glob matches, can be the root or below it."""
    parts, wanted = path.split("/"), root.split("/")
    return len(parts) >= len(wanted) and all(map(globs.name_meets, parts, wanted))


def _within(path: str, root: str) -> bool:
    return path == root or path.startswith(root + "/")
