"""Stage: make what shall be live, whole, under a name of our own, before it is exchanged with what is."""

import os
import stat
from typing import NamedTuple

from hotpair import beneath, beside, meta, scan
from hotpair.beneath import Place
from hotpair.config import AnySet
from hotpair.scan import State, Unsettled
from hotpair.treeset import TreeSet


class Decided(NamedTuple):
    """A change that was decided here: what stood at the path then, what shall stand there, where it is staged."""

    path: str
    here: State | None
    new: State | None
    stage: str  # live path of the staged content, "" when there is none
    signature: str = ""  # what `here` was read under, "" when that is not to be trusted
    source: str = ""  # the path it is to be moved from
    twin: str = ""  # the path it is to be a hard link of
    loser: beside.Loser | None = None  # `here`, where it loses a conflict and is to stand beside the winner


def make(files: AnySet, change: Decided, swap: Place, at: Place) -> None:
    """Make what shall be live, with its metadata already right.

    swap: where it is made, on the file system of `at`, which is where it shall go. Raises Unsettled, or OSError.
    """
    new = change.new
    assert new
    if change.twin:
        _link(files, change.twin, new, swap)
        return
    if new.kind == "link":
        os.symlink(new.digest, swap.name, dir_fd=swap.fd)
    elif new.kind in scan.SPECIALS:
        _make_special(swap, new)
    elif new.kind == "directory":
        os.mkdir(swap.name, 0o700, dir_fd=swap.fd)
    else:
        with beneath.place(change.stage) as staged:
            beneath.rename(staged, swap)
    if new.kind not in ("file", "directory"):
        meta.give(swap, new, files.carried)
        return
    fd = beneath.open_read(swap)
    try:
        _keep_own(files, change, fd, at)
        meta.give_fd(fd, new, files.carried)
        if new.kind == "file" and not isinstance(files, TreeSet):
            os.fsync(fd)
    finally:
        os.close(fd)


def _make_special(at: Place, new: State) -> None:
    if new.kind == "fifo":
        os.mkfifo(at.name, 0o600, dir_fd=at.fd)
        return
    kind, major, minor = new.digest.split(":")
    kind_bits = stat.S_IFCHR if kind == "c" else stat.S_IFBLK
    os.mknod(at.name, kind_bits | 0o600, os.makedev(int(major), int(minor)), dir_fd=at.fd)


def _keep_own(files: AnySet, change: Decided, fd: int, at: Place) -> None:
    """Give a new file the attributes of the live one that are this node's own."""
    if change.here is None or change.here.kind != "file":
        meta.keep_own(fd, None, files.carried.xattrs)
        return
    live = beneath.open_read(at)
    try:
        meta.keep_own(fd, live, files.carried.xattrs)
    finally:
        os.close(live)


def _link(files: AnySet, twin: str, state: State, at: Place) -> None:
    """Make a hard link of a live file at a place of our own. Raises Unsettled unless it is of this very state."""
    with beneath.place(twin) as source:
        found = beneath.lstat(source)
        if found is None or scan.state_of(source, found, carried=files.carried) != state:
            raise Unsettled(f"{twin}: is not what it is to be linked as")
        os.link(source.name, at.name, src_dir_fd=source.fd, dst_dir_fd=at.fd, follow_symlinks=False)
    linked = beneath.lstat(at)
    if linked is None or (linked.st_dev, linked.st_ino) != (found.st_dev, found.st_ino):
        os.unlink(at.name, dir_fd=at.fd)
        raise Unsettled(f"{twin}: replaced while it was linked")
