"""Locks held by the kernel (flock(2)), so that none is ever stale.

`run`: one run of a set at a time. `state`: whoever reads or writes a set's live files and archive; never held
while talking to the peer, or two nodes that send at once would wait for each other.
The trigger takes the run lock with fcntl alone, because importing filelock costs it three times its whole life;
both are flock on the same file.
"""

from __future__ import annotations

import fcntl
import os
import time
from typing import TYPE_CHECKING

from hotpair import paths

if TYPE_CHECKING:
    from filelock import FileLock

STATE_WAIT = 60.0  # seconds until a held state lock counts as a temporary failure


def lock_file(name: str) -> str:
    return paths.runtime(name + ".lock")


def try_run(set_name: str) -> int | None:
    """Return a descriptor that holds the set's run lock until it is closed, or None when a run is under way."""
    path = lock_file(set_name + ".run")
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileNotFoundError:
        paths.make_private(paths.runtime())
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def wait_for_state(set_name: str) -> bool:
    """Wait until nobody is at work on the set's files; say whether somebody was. For the trigger, as `try_run` is."""
    try:
        fd = os.open(lock_file(set_name + ".state"), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        fcntl.flock(fd, fcntl.LOCK_EX)
        return True
    finally:
        os.close(fd)


def _filelock(name: str, seconds: float) -> FileLock:
    from filelock import FileLock

    paths.make_private(paths.runtime())
    return FileLock(lock_file(name), timeout=seconds, mode=0o600, fallback_to_soft=False)


def state(set_name: str) -> FileLock:
    """Return the set's state lock, to be used with `with`; raises filelock.Timeout after STATE_WAIT seconds."""
    return _filelock(set_name + ".state", STATE_WAIT)


def section(number: str) -> FileLock:
    """Return the lock of one section of syncr.ini: its commands never run twice at once. Does not wait."""
    return _filelock("section-" + number, 0)


def wait_run(set_name: str, seconds: float) -> int | None:
    """Take the run lock like `try_run`, waiting up to some seconds for the run under way to end."""
    deadline = time.monotonic() + seconds
    while (fd := try_run(set_name)) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    return fd
