"""What /etc/hotpair/syncr.ini means: which commands belong to which path, and what checks its content first."""

import os
import re
import shlex
from typing import NamedTuple

from hotpair import globs, ini, options, paths
from hotpair.exits import ConfigFail
from hotpair.options import Option

SHELL = "sh:"  # begins a line that its author, root, wants a shell to read
STAGED = "%s"  # in `check`: the path of the file to look at
QUOTED = re.compile(r"\\.|'[^']*'|\"(\\.|[^\"])*\"")
FOR_A_SHELL = re.compile(r"&&|\|\|?|[<>;`]|&$|\$\(|\$HOTPAIR_\w+|\$\{\w+\}")
SHELLS = ("sh", "bash", "dash", "ksh", "zsh", "busybox")


class Section(NamedTuple):
    """The commands of one path or glob."""

    pattern: str
    check: tuple[str, ...] | None  # argv, one word of it with %s
    run: tuple[str, ...]  # command lines as they are written
    on: str  # "both", "here" or "peer"
    timeout: float  # seconds that each command may take
    facts: tuple[tuple[str, str], ...] = ()  # of a hook: what else its commands find in their environment


def limit(text: str) -> float:
    """Parse a time limit in seconds."""
    value = options.seconds(text)
    if not value:
        raise ValueError(text)
    return value


OPTIONS = {
    "check": Option("", str, "one command line with %s"),
    "run": Option("", str, "command lines, one a line"),
    "on": Option("both", options.one_of("both", "here", "peer"), "both, here or peer"),
    "timeout": Option("60", limit, "seconds, more than 0"),
}


def words(line: str) -> tuple[str, ...]:
    """Return the argv of a command line: split without a shell, or given to one where it begins `sh:`.

    Raises ValueError for quotes that do not end.
    """
    if line.startswith(SHELL):
        return "/bin/sh", "-c", line[len(SHELL) :].strip()
    return tuple(shlex.split(line))


def _check_pattern(section: ini.Section) -> None:
    path = section.name
    parts = path.split("/")[1:]
    if not path.startswith("/"):
        section.problem(f"[{path}] is a relative path", f"write [/{path.strip()}]")
    elif not all(parts) or "." in parts or ".." in parts:
        section.problem(f"[{path}] is not a plain path", "write it without //, . and .. and no / at its end")
    elif paths.INBOX in parts:
        section.problem(f"[{path}] is hotpair's own", f"leave out {paths.INBOX}")


def split(section: ini.Section, key: str, line: str) -> tuple[str, ...]:
    """Return the argv of a line, and note what is wrong with how it begins; () when it cannot be split."""
    try:
        argv = words(line)
    except ValueError as error:
        section.problem(f"{line!r}: {str(error).lower()}", "close the quotes, or quote the quote", key, line)
        return ()
    if not argv or not argv[-1 if line.startswith(SHELL) else 0]:
        section.problem(f"{line!r} names no command", "write a command, or leave out the line", key, line)
        return ()
    if not line.startswith(SHELL) and (operator := FOR_A_SHELL.search(QUOTED.sub("_", line))):
        section.problem(f"{line!r}: {operator[0]} is for a shell", f"write `{SHELL} {line}`, or quote it", key, line)
    if "/" in argv[0] and not argv[0].startswith("/"):
        section.problem(f"{argv[0]!r} is a relative path", "write the whole path, or the name alone", key, line)
    elif "=" in argv[0]:
        section.problem(f"{argv[0]!r} is a variable for a shell", f"write `{SHELL} {line}`", key, line)
    return argv


def _check(section: ini.Section) -> tuple[str, ...] | None:
    """Return the argv of `check`; its %s must reach the command as a name, never as text for a shell."""
    lines = section.items("check")
    if not lines:
        return None
    if len(lines) > 1:
        section.problem("check has more than one line", "write one command, or a script of yours", "check", lines[1])
    line = lines[0]
    if line.startswith(SHELL):
        section.problem("a file name would meet a shell", "write `/bin/sh -c 'COMMANDS \"$1\"' check %s`", "check")
        return None
    argv = split(section, "check", line)
    found = "\0".join(argv).count(STAGED)
    if argv and found != 1:
        section.problem(
            f"check has {STAGED} {found} times", f"write {STAGED} once, where the file's path goes", "check"
        )
    elif argv and STAGED in argv[0]:
        section.problem(f"check would start {STAGED}", "name a command before it", "check")
    elif argv and _meets_shell(argv):
        section.problem("a file name would meet a shell", "write `/bin/sh -c 'COMMANDS \"$1\"' check %s`", "check")
    return argv or None


def _meets_shell(argv: tuple[str, ...]) -> bool:
    """Say whether %s is in, or is, the text that a shell would execute."""
    if not any(os.path.basename(word) in SHELLS for word in argv):  # any word: `env sh -c`, `timeout 5 sh -c`
        return False
    at = next(number for number, word in enumerate(argv) if STAGED in word)
    return argv[at] != STAGED or (argv[at - 1].startswith("-") and argv[at - 1].endswith("c"))


def _run(section: ini.Section) -> tuple[str, ...]:
    lines = section.items("run")
    for line in lines:
        argv = split(section, "run", line)
        if not line.startswith(SHELL) and any(STAGED in word for word in argv):
            section.problem(
                f"{STAGED} is for check alone", f'the path is in HOTPAIR_PATH: `{SHELL} … "$HOTPAIR_PATH"`', "run", line
            )
    return tuple(lines)


def _section(section: ini.Section) -> Section:
    _check_pattern(section)
    found = options.values(section, OPTIONS, ())
    check, run = _check(section), _run(section)
    if not section.items("check") and not run:
        section.problem(f"[{section.name}] has neither run nor check", "write `run =` and a command, or remove it")
    return Section(section.name, check, run, found["on"], found["timeout"])


def examine() -> tuple[tuple[Section, ...], list[ini.Problem]]:
    """Read syncr.ini, which need not be there, and return its sections in order with every problem found.

    Raises ConfigFail when others than root can write it.
    """
    file = ini.read(paths.config_file("syncr.ini"), missing_ok=True)
    found = tuple(_section(section) for section in file.sections())
    return found, file.problems


def load() -> tuple[Section, ...]:
    """Return the sections. Raises ConfigFail with the first problem, and how many there are."""
    found, problems = examine()
    if problems:
        more = f" (and {len(problems) - 1} more: run `hotpair check`)" if len(problems) > 1 else ""
        raise ConfigFail(f"{problems[0]}{more}")
    return found


def for_path(sections: tuple[Section, ...], live: str, here: bool) -> list[Section]:
    """Return the sections whose commands are meant for this node; here: the change was made on this node."""
    wanted = ("both", "here" if here else "peer")
    return [section for section in sections if section.on in wanted and globs.matches(live, section.pattern)]
