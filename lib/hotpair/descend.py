"""Open a directory under the root, one component at a time, following no link. Imports nothing: events use it."""

import os

from hotpair import paths

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def step(fd: int, name: str) -> int:
    """Return a descriptor of a directory in an open one, which is closed."""
    try:
        return os.open(name, DIRECTORY, dir_fd=fd)
    finally:
        os.close(fd)


def open_directory(live: str) -> int:
    """Return a descriptor of a live directory. Raises OSError (ELOOP or ENOTDIR) where a link is on the way."""
    fd = os.open(paths.root() or "/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for name in live.split("/"):
        if name:
            fd = step(fd, name)
    return fd
