"""Conflict copies: what loses a conflict in a tree stands beside the winner, as a file like any other.

The name comes from the loser alone: when it was written, and on which node. So doing it twice makes no second copy.
"""

import os
import re
import time
from contextlib import suppress
from typing import NamedTuple

from hotpair import beneath, descend, keep, plausible, scan
from hotpair.archive import Row
from hotpair.beneath import Place
from hotpair.config import AnySet
from hotpair.keep import NAME_MAX
from hotpair.scan import State, Unsettled
from hotpair.treeset import TreeSet

_MARK = b".sync-conflict-"
_STAMP = re.compile(rb"\d{8}-\d{6}-[A-Za-z0-9]")


class Loser(NamedTuple):
    """What was written here and never agreed on, and the path where it goes if it loses."""

    state: State
    copy: str


def name(original: str, written: int, node: str) -> str:
    """Return the name of a copy of what was written to `original` at `written` (ns) on a node, "" when none fits."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(written // 10**9))
    return _name(original, os.fsencode(f"{stamp}-{node}"))


def _name(original: str, told: bytes) -> str:
    stem, extension = os.path.splitext(os.fsencode(original))
    room = NAME_MAX - len(_MARK) - len(told)
    if len(extension) >= room:
        stem, extension = stem + extension, b""
    room -= len(extension)
    if room < 1:
        return ""
    if len(stem) > room:
        while room > 1 and stem[room] & 0xC0 == 0x80:  # not within a character of UTF-8
            room -= 1
        stem = stem[:room]
    return os.fsdecode(stem + _MARK + told + extension)


def loser(files: AnySet, path: str, row: Row, node: str) -> Loser | None:
    """Return what is live here as the loser that it may become; None when it would be a generation only."""
    if not isinstance(files, TreeSet) or files.conflict != "beside" or files.source:
        return None
    seen = row.seen
    if seen is None or seen.kind not in ("file", "link") or (row.agreed and row.agreed.content == seen.content):
        return None
    folder, _, original = path.rpartition("/")
    copy = f"{folder}/{name(original, seen.mtime_ns, node)}"
    return Loser(seen, copy) if plausible.path(files.shared(copy)) and files.covers(copy) else None


def dispose(files: AnySet, path: str, lost: Loser | None, at: Place) -> None:
    """Let go of what stood at a path: beside it when it is a loser, else as `keep.replaced` does."""
    if lost is None or not _put(lost, at):
        keep.replaced(files, path, at)


def _put(lost: Loser, at: Place) -> bool:
    """Move a loser to where its copy belongs; False when something else stands there."""
    with beneath.place(lost.copy) as target:
        try:
            beneath.rename_new(at, target)
        except FileExistsError:
            with suppress(Unsettled):
                there = beneath.lstat(target)
                if there is not None and scan.state_of(target, there).content == lost.state.content:
                    os.unlink(at.name, dir_fd=at.fd)
                    return True
            return False
    return True


def copies(path: str) -> list[str]:
    """Return the conflict copies that stand beside a path, whoever wrote them."""
    folder, _, original = path.rpartition("/")
    try:
        fd = descend.open_directory(folder)
    except OSError:
        return []
    try:
        return [f"{folder}/{entry}" for entry in sorted(os.listdir(fd)) if _is_copy(original, entry)]
    finally:
        os.close(fd)


def _is_copy(original: str, entry: str) -> bool:
    told = os.fsencode(entry).rpartition(_MARK)[2]
    extension = os.path.splitext(os.fsencode(original))[1]
    candidates = (told.removesuffix(extension), told)
    return bool(_STAMP.match(told)) and any(_name(original, one) == entry for one in candidates)


def lost(files: AnySet, path: str, subject: str) -> tuple[str, State] | None:
    """Return the copy beside a path that holds the state a conflict is remembered by, if it stands unchanged."""
    for copy in copies(path):
        with suppress(Unsettled, OSError):
            state = scan.look(copy, carried=files.carried)[0]
            if state is not None and scan.subject(state) == subject:
                return copy, state
    return None
