"""Leftovers: what a conversation that ended, or a peer's rsync, put into an inbox and nobody applies."""

import os
import shutil
import time
from contextlib import suppress

from hotpair import beneath, descend
from hotpair.beneath import Place

OURS = ("swap-", "restore-", "moving")  # names that other programs of this node use in an inbox
PARTIAL = ".partial"  # where rsync keeps what a broken connection left, to go on from there
PARTIAL_LASTS = 7 * 24 * 3600  # seconds: a batch of another day may be the one that goes on


def discard(at: Place) -> None:
    """Remove whatever a peer had staged under a name, a tree included, if it is there."""
    try:
        os.unlink(at.name, dir_fd=at.fd)
    except IsADirectoryError:
        shutil.rmtree(at.name, dir_fd=at.fd)
    except FileNotFoundError:
        return


def discard_others(inbox: str, names: set[str]) -> None:
    """Remove what a peer's rsync put into an inbox besides these names; what is our own there stays."""
    fd = descend.open_directory(inbox)
    try:
        for name in os.listdir(fd):
            if name != PARTIAL and name not in names and not name.startswith(OURS):
                discard(Place(fd, name))
        with suppress(FileNotFoundError):
            _discard_partial(descend.step(os.dup(fd), PARTIAL), names)
    finally:
        os.close(fd)


def _discard_partial(fd: int, names: set[str]) -> None:
    """Remove what no rsync goes on from: of a path that has another content by now, or that nobody came back to."""
    paths_of = {name.rpartition("-")[2] for name in names}
    try:
        for name in set(os.listdir(fd)) - names:
            at = Place(fd, name)
            found = beneath.lstat(at)
            if name.rpartition("-")[2] in paths_of or (found and time.time() - found.st_ctime > PARTIAL_LASTS):
                discard(at)
    finally:
        os.close(fd)
