"""What the master sends and what the standby takes: [hotsync] and hotsync.d, as paths of this disk."""

import glob
import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from hotpair import globs, paths
from hotpair.hotsync import sources
from hotpair.hotsync.identity import OUT
from hotpair.hotsync.settings import Hotsync
from hotpair.hotsync.sources import Source


class Lists(NamedTuple):
    """What one run sends, as live paths."""

    include: tuple[str, ...]  # there, none below another; and what plugins name below OUT, there or not yet
    exclude: tuple[str, ...]  # patterns of rsync
    missing: tuple[str, ...]  # paths and globs that name nothing here
    failures: tuple[str, ...]  # files and plugins of hotsync.d


def collect(settings: Hotsync, node_name: str, dry_run: bool) -> Lists:
    """Read the lists, run the plugins, and return what is to be sent. A dry run writes nothing; plugins are told.

    Raises ConfigFail when hotsync.d cannot be read.
    """
    dumps = paths.state("hotsync", "out", "dumps")
    facts = {"HOTPAIR_NODE": node_name, "HOTPAIR_DUMPS": dumps, "HOTPAIR_DATABASES": settings.databases}
    if dry_run:
        facts["HOTSYNC_DRY_RUN"] = "1"
    else:
        paths.make_private(dumps)
    found, failures = sources.read(facts, settings.plugin_timeout, dry_run)
    written = Source("[hotsync]", tuple(map(sources.plain, settings.include)), settings.exclude, globs=True)
    there, missing, made = {OUT}, [], []
    for source in (written, *found):
        for line in source.include:
            if _below(line, {OUT}):
                made.append(line)
            elif places := list(_places(line, source.globs)):
                there.update(places)
            else:
                missing.append(line)
    patterns = [real for source in (written, *found) for pattern in source.exclude for real in _patterns(pattern)]
    topmost = sorted(path for path in there if not _below(path, there))
    return Lists(tuple((*topmost, *_once(made))), _once(patterns), _once(missing), tuple(failures))


def accepted(settings: Hotsync) -> tuple[str, ...]:
    """Return the paths and globs that this node takes as a standby. No plugin is run.

    Raises ConfigFail when a list of hotsync.d cannot be used.
    """
    listed = [line for source in sources.lists() for line in source.include]
    wanted = map(sources.plain, (*settings.include, *settings.accept))
    return _once(real for line in (*wanted, *listed, OUT) for real in _aliases(line))


def _once(lines: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(lines))


def _below(path: str, others: set[str]) -> bool:
    """Say whether a path is below another one."""
    steps = path.split("/")
    return any("/".join(steps[:end]) in others for end in range(2, len(steps)))


def _places(line: str, pattern: bool) -> Iterator[str]:
    """Yield the paths that a line names on this disk, none through a link.

    rsync would make directories of the links on the way to a path, on the standby. A link that is named itself goes
    as a link; if it leads to a directory, that goes as well.
    """
    for live in _expanded(line) if pattern else [line]:
        directory, name = os.path.split(live)
        real = _real(directory)
        if real is None or not os.path.lexists(paths.under(f"{real}/{name}")):
            continue
        yield f"{real}/{name}"
        if target := _target(f"{real}/{name}"):
            yield target


def _expanded(pattern: str) -> list[str]:
    """Return what a glob names. A leading dot is a character as any other: rsync's daemon takes it so as well."""
    if not globs.GLOB.search(pattern):
        return [pattern]
    found = glob.glob(glob.escape(paths.root()) + pattern, include_hidden=True)
    return [path[len(paths.root()) :] for path in sorted(found)]


def _target(live: str) -> str | None:
    """Return the directory that a link leads to, if it does."""
    place = paths.under(live)
    return _real(live) if os.path.islink(place) and os.path.isdir(place) else None


def _real(live: str) -> str | None:
    """Return a path without the links on its way; "" is the root. None if one is not root's own, or leads elsewhere.

    A user's link would choose what root reads.
    """
    step = paths.root()
    for part in live.split("/")[1:]:
        step = f"{step}/{part}"
        if os.path.islink(step) and os.lstat(step).st_uid not in (0, os.geteuid()):
            return None
    root = os.path.realpath(paths.root() or "/").rstrip("/")
    real = os.path.realpath(step or "/").rstrip("/")
    return real[len(root) :] if real == root or real.startswith(root + "/") else None


def _patterns(pattern: str) -> Iterator[str]:
    """Yield an exclude, and what it is called without links where it is a path through one."""
    yield pattern
    if pattern.startswith("/"):
        slash = "/" * pattern.endswith("/")
        yield from (real + slash for real in _aliases(pattern.rstrip("/")) if real + slash != pattern)


def _aliases(pattern: str) -> Iterator[str]:
    """Yield a path or glob, and what it is called without the links on the way to its first star."""
    yield pattern
    head = os.path.dirname(pattern)
    while globs.GLOB.search(head):
        head = os.path.dirname(head)
    rest = pattern[len(head.rstrip("/")) :]
    real = _real(head)
    if real is None:
        return
    if real + rest != pattern:
        yield real + rest
    if not globs.GLOB.search(pattern) and (target := _target(real + rest)):
        yield target
