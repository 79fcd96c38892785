"""Read an INI file that root alone can write, and say of every mistake `file:line: what is wrong: what to write`."""

import os
import re
import stat
from collections.abc import Iterator
from typing import NamedTuple

from iniconfig import IniConfig, ParseError

from hotpair import paths
from hotpair.exits import ConfigFail

HEADER = re.compile(r"\[[^#;]*\]\s*([#;].*)?")
IGNORED = "\0"  # begins the stand-in for a section whose header is wrong


class Problem(NamedTuple):
    """One mistake in a configuration file; line 0 means the file as a whole."""

    file: str
    line: int
    what: str
    remedy: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.what}: {self.remedy}"


class Section:
    """One section, its keys still text. Collects the problems found in it."""

    def __init__(self, file: "Ini", name: str, line: int, values: dict[str, str]) -> None:
        self.file, self.name, self.line, self.values = file, name, line, values

    def line_of(self, key: str, item: str = "") -> int:
        """Return the line (from 1) of a key, or of one line of its value."""
        start = self.file.parsed.lineof(self.name, key) or self.line
        if item and re.split("[=:]", self.file.lines[start - 1], maxsplit=1)[-1].strip() != item:
            for number, text in enumerate(self.file.lines[start:], start + 1):
                if text.strip() == item:
                    return number
        return start

    def items(self, key: str) -> list[str]:
        """Return the lines of a value that has one item a line."""
        return [line.strip() for line in self.values.get(key, "").split("\n") if line.strip()]

    def problem(self, what: str, remedy: str, key: str = "", item: str = "") -> None:
        line = self.line_of(key, item) if key else self.line
        self.file.problems.append(Problem(self.file.path, line, what, remedy))


class Ini:
    """A parsed file, its sections in the order they are written, and the problems found so far."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.lines = text.splitlines()
        self.problems: list[Problem] = []
        self.parsed = self._parse()

    def _parse(self) -> IniConfig:
        """Parse, noting each line that cannot be and going on without it, so that all mistakes are said at once."""
        lines = list(self.lines)
        for number, line in enumerate(lines):
            if line.startswith("[") and not HEADER.fullmatch(line):  # iniconfig would add it to the value above
                self._ignore(lines, number, f"unexpected line: {line!r}")
        while True:
            try:
                return IniConfig(self.path, data="\n".join(lines))
            except ParseError as error:
                self._ignore(lines, error.lineno, error.msg)

    def _ignore(self, lines: list[str], number: int, what: str) -> None:
        header = lines[number].lstrip().startswith("[")
        advice = "write `key = value`, and indent its further lines"
        if header:
            advice = "write `[NAME]` at the start of a line"
        if what.startswith("duplicate"):
            advice = "write it once"
        self.problems.append(Problem(self.path, number + 1, what, advice))
        self.problems.sort(key=lambda problem: problem.line)
        # what follows a bad header is nobody's: a section of its own keeps it out of the one before
        lines[number] = f"[{IGNORED}{number}]" if header else ""

    def sections(self) -> Iterator[Section]:
        for name, values in self.parsed.sections.items():
            if name.startswith(IGNORED):
                continue
            yield Section(self, name, self.parsed.lineof(name) or 0, dict(values))


def untrusted(path: str) -> str:
    """Return why a file may not be used as root's word, or "": it and every directory above must be root's alone.

    Under a prefix the walk ends at the prefix, and its owner counts as root does (sshd's StrictModes is the model).
    """
    owners = {0, os.geteuid()} if paths.root() else {0}
    end = paths.root() or "/"
    steps = [*_up(path, end), *_up(os.path.realpath(path), os.path.realpath(end))]  # where a link leads counts too
    for step in steps:
        found = os.stat(step)
        if found.st_uid not in owners:
            return f"{step} belongs to user {found.st_uid}: chown root {step}"
        if stat.S_IMODE(found.st_mode) & 0o022:
            return f"{step} can be written by others: chmod go-w {step}"
    return ""


def _up(path: str, end: str) -> list[str]:
    """Return a path and every directory above it, up to `end` where that is one of them."""
    steps = [path]
    while steps[-1] not in (end, "/"):
        steps.append(os.path.dirname(steps[-1]))
    return steps


def read(path: str, missing_ok: bool = False) -> Ini:
    """Parse a configuration file. Raises ConfigFail when it is missing, not readable or not trusted."""
    try:
        why = untrusted(path)
        if why:
            raise ConfigFail(f"{path}: not used, because {why.partition(': ')[0]}", why.partition(": ")[2])
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return Ini(path, file.read())
    except FileNotFoundError:
        if missing_ok:
            return Ini(path, "")
        raise ConfigFail(f"{path}: not there", "copy the one that hotpair ships and adapt it") from None
    except PermissionError:
        raise
    except OSError as error:
        raise ConfigFail(f"{path}: {error.strerror}", "make it a file") from error
