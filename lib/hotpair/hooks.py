"""Hooks of a tree: `before` on the node that sends a batch, `after` on the node that it was applied on.

`after` is a section of tasks: owed in the transaction that records the batch, run at least once, retried and listed.
"""

import os
import shlex
from collections.abc import Iterable, Sequence

from hotpair import child, ini, sections
from hotpair.config import AnySet, Config, Node
from hotpair.exits import Later
from hotpair.sections import Section
from hotpair.treeset import TreeSet

AFTER = 600.0  # seconds that each command of `after` may take


class Unready(Later):
    """A command of `before` failed: the batch waits."""

    kind = "before"


def facts(files: TreeSet) -> tuple[tuple[str, str], ...]:
    """Return what the environment of a hook says of its set."""
    return ("HOTPAIR_SET", files.name), ("HOTPAIR_LABEL", files.label)


def after(files: AnySet) -> list[Section]:
    """Return the section of tasks that a tree's `after` is, if it has one. Its name is no path: it matches none."""
    if not isinstance(files, TreeSet) or not files.after:
        return []
    return [Section(f"tree {files.name}", None, files.after, "peer", AFTER, facts(files))]


def of(configuration: Config) -> list[Section]:
    """Return the sections of all trees."""
    return [section for files in configuration.sets.values() for section in after(files)]


def before(node: Node, files: TreeSet, live: Sequence[str]) -> None:
    """Run the commands of `before` with the paths of a batch on standard input. Raises Unready when one fails.

    The peer is waiting meanwhile, and not longer than io-timeout.
    """
    environment = child.environment(HOTPAIR_NODE=node.name, **dict(facts(files)))
    listed = b"".join(os.fsencode(path) + b"\0" for path in live)
    for line in files.before:
        argv = sections.words(line)
        if failed := untrusted(argv) or child.run(argv, environment, node.io_timeout / 2, listed):
            raise Unready(f"before: {shlex.join(argv)}: {failed}", "nothing is sent until it succeeds")


def untrusted(argv: Sequence[str]) -> str:
    """Return why a program is not run by root: it, and every directory above it, must be root's alone; or ""."""
    try:
        return ini.untrusted(argv[0]) if argv[0].startswith("/") else ""
    except OSError as error:
        return f"{argv[0]}: {error.strerror}"


def problems(configuration: Config) -> Iterable[str]:
    """Yield one line for each hook, and the fence, that would not be run."""
    lines = [
        (f"tree {files.name}", line)
        for files in configuration.sets.values()
        if isinstance(files, TreeSet)
        for line in (*files.before, *files.after)
    ]
    if fence := configuration.failover.fence:
        lines.append(("failover", fence))
    for section, line in lines:
        if why := untrusted(sections.words(line)):
            yield f"[{section}] {line!r} is not run: {why}"
