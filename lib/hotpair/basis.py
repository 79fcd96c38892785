"""Basis: links to what rsync is about to replace, so that only the difference is carried."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from hotpair import beneath, descend, keep, paths
from hotpair.config import AnySet
from hotpair.treeset import TreeSet


@contextmanager
def linked(files: AnySet, basis: list[tuple[str, str]], aside: bool) -> Iterator[tuple[str, int]]:
    """Yield a directory with links to what is replaced, as it is on this disk, and a descriptor of it."""
    directory, fd = _directory(files, aside)
    try:
        empty(fd)
        for path, name in basis:
            with suppress(OSError), beneath.place(keep.source(files, path)) as at:  # it only saves bytes
                os.link(at.name, name, src_dir_fd=at.fd, dst_dir_fd=fd, follow_symlinks=False)
        yield directory, fd
    finally:
        with suppress(OSError):  # the next one begins with that
            empty(fd)
        os.close(fd)


def _directory(files: AnySet, aside: bool) -> tuple[str, int]:
    if isinstance(files, TreeSet):
        live = files.own(paths.lane("", aside) + ".basis")
        return paths.under(live), beneath.private(descend.open_directory(files.marker), live.rpartition("/")[2])
    directory = paths.make_private(paths.state("basis", paths.lane(files.name, aside)))
    return directory, os.open(directory, descend.DIRECTORY)


def empty(fd: int) -> None:
    """Remove what an earlier run left in an open directory of ours that holds no others."""
    for name in os.listdir(fd):
        os.unlink(name, dir_fd=fd)
