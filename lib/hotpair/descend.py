"""Open a directory under the root, one component at a time, following no link. Imports nothing: events use it."""

from __future__ import annotations

import errno
import os

from hotpair import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[[int, str], object]

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def step(fd: int, name: str) -> int:
    """Return a descriptor of a directory in an open one, which is closed."""
    try:
        return os.open(name, DIRECTORY, dir_fd=fd)
    finally:
        os.close(fd)


def ours(found: os.stat_result) -> bool:
    """Say whether what was found is our own user's, and nobody else can write to it."""
    return found.st_uid == os.geteuid() and not found.st_mode & 0o022


def open_directory(live: str, make: Make | None = None) -> int:
    """Return a descriptor of a live directory. Raises OSError: ELOOP or ENOTDIR where a link is on the way, and EPERM
    where it leads through an inbox, or what is in one, that others made or can write to.

    make: makes a directory that is missing, given the open one that it belongs in, and its live path.
    """
    fd, path = os.open(paths.root() or "/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), ""
    inside = False
    try:
        for name in filter(None, live.split("/")):
            path += f"/{name}"
            below = _enter(fd, name, path, make)
            os.close(fd)
            fd, inside = below, inside or name == paths.INBOX
            if inside and not ours(os.fstat(fd)):  # whoever owns the directory around it may have put it there
                raise PermissionError(errno.EPERM, "somebody else's, or open to others", path)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _enter(fd: int, name: str, path: str, make: Make | None) -> int:
    try:
        return os.open(name, DIRECTORY, dir_fd=fd)
    except FileNotFoundError:
        if make is None:
            raise
    make(fd, path)
    return os.open(name, DIRECTORY, dir_fd=fd)
