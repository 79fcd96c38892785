"""Marks: "something may have changed under watch ID". Events in, before anything else.

A mark is a file with one byte per event. `take` claims the marks by renaming them from `new` to `taken`, so that a
run that is killed leaves its claim behind for cron's minute job; `done` forgets the claim. An event that arrives
during a run makes a new mark, and the run looks again after it has let go of its lock.
"""

import os

from hotpair import paths

MISSED = "missed"  # the mark that says that incrond was blind: all of the set is to be looked at
CANARY = "canary"  # begins the name of the watch that measures whether events arrive


def _directory(set_name: str, which: str) -> str:
    return paths.set_state(set_name, "marks", which)


def add(set_name: str, watch: str) -> None:
    """Add one event to the mark of a watch. Raises FileNotFoundError when the set has no tables yet."""
    path = _directory(set_name, "new") + "/" + watch
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(fd, b".")
    finally:
        os.close(fd)


def canary(set_name: str) -> str:
    """Return the file whose touch is an event: its directory stands in the set's table."""
    return paths.set_state(set_name, "canary", "canary")


def answered(set_name: str) -> str:
    """Return the file that tells the last touch that was answered (mtime) and when that was (ctime)."""
    return paths.set_state(set_name, "canary-answer")


def answer(set_name: str, watch: str = CANARY) -> None:
    """Say that the touch of the canary came through: the answer gets the mtime of the touch, and the watch's name."""
    try:
        touched = os.stat(canary(set_name)).st_mtime_ns
    except FileNotFoundError:  # somebody removed it, which is an event too; the watchdog makes a new one
        return
    fd = os.open(answered(set_name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(fd, os.fsencode(watch))
        os.utime(fd, ns=(touched, touched))
    finally:
        os.close(fd)


def create(set_name: str) -> None:
    """Make the directories that `add` needs."""
    for which in ("new", "taken"):
        paths.make_private(_directory(set_name, which))


def _names(set_name: str, which: str) -> list[str]:
    try:
        return os.listdir(_directory(set_name, which))
    except FileNotFoundError:
        return []


def waiting(set_name: str) -> bool:
    """Say whether an event arrived that no run has claimed."""
    return bool(_names(set_name, "new"))


def unfinished(set_name: str) -> bool:
    """Say whether a run that claimed events never ended well."""
    return bool(_names(set_name, "taken"))


def take(set_name: str) -> dict[str, int]:
    """Claim all marks and return how many events each watch had. To be called before looking at any file."""
    new, taken = _directory(set_name, "new"), _directory(set_name, "taken")
    events = {}
    for watch in _names(set_name, "new"):
        os.rename(f"{new}/{watch}", f"{taken}/{watch}")
        events[watch] = os.stat(f"{taken}/{watch}").st_size
    return events


def claim(set_name: str, watch: str) -> None:
    """Leave a watch to the run after this one, which nobody starts at once for it."""
    open(f"{_directory(set_name, 'taken')}/{watch}", "a").close()


def claimed(set_name: str) -> list[str]:
    """Return the watches whose events are claimed, those of a run that never ended well among them."""
    return _names(set_name, "taken")


def done(set_name: str) -> None:
    """Forget what was claimed: what it announced has been dealt with."""
    for watch in _names(set_name, "taken"):
        os.unlink(f"{_directory(set_name, 'taken')}/{watch}")
