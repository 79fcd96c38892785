"""Retention: remove the generations that are older, or more, than a set keeps, the oldest first.

It follows a sweep that found both nodes equal: what is kept then has a newer successor that both agreed on, a delete
included. A path that has changed since is left alone.
"""

import heapq
import os
import stat
import time
from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

from hotpair import beneath, descend, keep, locks, log
from hotpair.archive import Archive
from hotpair.config import AnySet
from hotpair.detect import Scope
from hotpair.treeset import TreeSet, Unmounted

MOST = 10_000  # generations that are removed at once; the next sweep goes on
SLICE = 100  # of them while others wait for the state lock
DAY = 24 * 3600


class Kept(NamedTuple):
    """One generation of a path: the file, since when it has its number, and its size."""

    live: str
    number: int
    inode: int
    since_ns: int
    size: int

    def order(self) -> tuple[int, int]:
        """Sort key: oldest first, so that no path ever has a gap."""
        return self.since_ns, -self.number


def retain(scope: Scope) -> None:
    """Remove what is past the limits of a set. The caller holds the run lock, and has just found both nodes equal."""
    files, total = scope.files, 0
    if not files.keep_age and not files.keep_size:
        return

    def counted() -> Iterator[Kept]:
        nonlocal total
        for one in _of_tree(files) if isinstance(files, TreeSet) else _of_list(files, scope.archive):
            total += one.size
            yield one

    try:
        oldest = heapq.nsmallest(MOST, counted(), key=Kept.order)
        past = list(_past(oldest, total, files.keep_age, files.keep_size))
        for start in range(0, len(past), SLICE):
            with locks.state(files.name):
                for one in past[start : start + SLICE]:
                    _remove(files, scope.archive, one)
    except (Unmounted, OSError) as error:
        log.error(f"{files.name}: generations cannot be removed: {error}")


def _past(oldest: list[Kept], total: int, age: int, size: int) -> Iterator[Kept]:
    """Yield those past the limits, of which 0 is none."""
    horizon = time.time_ns() - age * DAY * 10**9
    for one in oldest:
        if not (age and one.since_ns < horizon) and not (size and total > size):
            return
        total -= one.size
        yield one


def _remove(files: AnySet, archive: Archive, one: Kept) -> None:
    """Remove a generation, unless a newer one has moved it on, or its path holds what is not agreed yet."""
    row = archive.row(one.live)
    found = _stat(keep.slot(files, one.live, one.number))
    if row.seen == row.agreed and found and (found.st_ino, found.st_ctime_ns) == (one.inode, one.since_ns):
        keep.remove(files, one.live, one.number)


def _stat(copy: str) -> os.stat_result | None:
    try:
        with beneath.place(copy) as at:
            return beneath.lstat(at)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _kept(live: str, number: int, found: os.stat_result) -> Kept:
    return Kept(live, number, found.st_ino, found.st_ctime_ns, found.st_size)


def _of_list(files: AnySet, archive: Archive) -> Iterator[Kept]:
    for live in archive.rows():
        for number in count(1):
            found = _stat(keep.slot(files, live, number))
            if found is None:
                break
            yield _kept(live, number, found)


def _of_tree(files: TreeSet) -> Iterator[Kept]:
    """Yield what stands at N/DEPTH/PATH in the store of a tree."""
    top = files.own(".kept")
    folders = [top]
    while folders:
        folder = folders.pop()
        try:
            fd = descend.open_directory(folder)
        except FileNotFoundError:  # nothing was kept yet
            continue
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    try:
                        found = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:  # it has another number by now
                        continue
                    number, _, below = f"{folder}/{entry.name}"[len(top) + 1 :].partition("/")
                    if stat.S_ISDIR(found.st_mode):
                        folders.append(f"{folder}/{entry.name}")
                    elif number.isdigit() and "/" in below:
                        yield _kept(files.live("/" + below.partition("/")[2]), int(number), found)
        finally:
            os.close(fd)
