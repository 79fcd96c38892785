"""Locks held by the kernel (flock(2)), so that none is ever stale.

`run`: one run of a set at a time. `state`: whoever reads or writes a set's live files and archive; never held
while talking to the peer, or two nodes that send at once would wait for each other. `large`: whoever carries the large
contents of a set. `section`: one run of a section's commands at a time.
What stands between an edit and its arrival takes flock itself: importing filelock costs a third of that whole way
(docs/benchmarks.md). Both lock the same files in the same manner, so they exclude each other.
"""

from __future__ import annotations

import fcntl
import os
import time

from hotpair import paths

TYPE_CHECKING = False  # importing typing alone would cost an event half of its time
if TYPE_CHECKING:
    from filelock import FileLock

STATE_WAIT = 60.0  # seconds until a held state lock counts as a temporary failure
LOOK = 0.002  # seconds between two attempts


def lock_file(name: str) -> str:
    return paths.runtime(name + ".lock")


def _open(name: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(lock_file(name), flags, 0o600)
    except FileNotFoundError:
        paths.make_private(paths.runtime())
        return os.open(lock_file(name), flags, 0o600)


def _try(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def try_run(set_name: str) -> int | None:
    """Return a descriptor that holds the set's run lock until it is closed, or None when a run is under way."""
    return _try_open(set_name + ".run")


def try_large(set_name: str) -> int | None:
    """Return a descriptor that holds the lock of the set's large contents, or None when somebody carries them."""
    return _try_open(set_name + ".large")


def _try_open(name: str) -> int | None:
    fd = _open(name)
    if _try(fd):
        return fd
    os.close(fd)
    return None


def wait_for_state(set_name: str) -> bool:
    """Wait until nobody is at work on the set's files; say whether somebody was."""
    fd = _open(set_name + ".state")
    try:
        if _try(fd):
            return False
        fcntl.flock(fd, fcntl.LOCK_EX)
        return True
    finally:
        os.close(fd)


class state:  # noqa: N801 (used as `with locks.state(name):`)
    """Hold the set's state lock. Raises Later when somebody else holds it for more than STATE_WAIT seconds."""

    def __init__(self, set_name: str) -> None:
        self.name = set_name + ".state"

    def __enter__(self) -> None:
        self.fd = _open(self.name)
        deadline = time.monotonic() + STATE_WAIT
        while not _try(self.fd):
            if time.monotonic() > deadline:
                os.close(self.fd)
                _taken(f"{self.name} lock is held by another program", f"see who: fuser {lock_file(self.name)}")
            time.sleep(LOOK)

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)


class run:  # noqa: N801 (used as `with locks.run(name, seconds):`)
    """Hold the run lock, for a program that a person or cron waits for. Raises Later when it stays taken so long."""

    def __init__(self, set_name: str, seconds: float) -> None:
        self.set_name, self.lock = set_name, _filelock(set_name + ".run", seconds)

    def __enter__(self) -> None:
        from filelock import Timeout

        try:
            self.lock.acquire()
        except Timeout:
            _taken(f"{self.set_name}: a run is under way", "try again in a moment")

    def __exit__(self, *_: object) -> None:
        self.lock.release()


def _taken(what: str, remedy: str) -> None:
    from hotpair.exits import Later

    raise Later(what, remedy)


def _filelock(name: str, seconds: float) -> FileLock:
    from filelock import FileLock

    paths.make_private(paths.runtime())
    return FileLock(lock_file(name), timeout=seconds, mode=0o600, fallback_to_soft=False)


def push() -> FileLock:
    """Return the lock of a push to the standby. Does not wait."""
    return _filelock("hotsync", 0)


def section(number: str) -> FileLock:
    """Return the lock of one section of syncr.ini: its commands never run twice at once. Does not wait."""
    return _filelock("section-" + number, 0)
