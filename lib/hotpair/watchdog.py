"""Watchdog: cron asks every minute whether events still arrive, and repairs what keeps them from it.

incrond dies, and loses a watch, without a word. Each minute touches the canary of every set; the next one looks
whether the trigger answered. What is known of an outage is one small file, "SINCE MINUTES", so that it is said once.
Whatever is repaired, a mark is left: what came before that is to be looked for.
"""

import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

from hotpair import child, locks, log, marks, paths, storm, watch
from hotpair.config import AnySet, Config

PID_FILE = "/run/incrond.pid"
INIT = "/etc/init.d/incron"
STALE = 180.0  # seconds after which a touch tells nothing: cron did not run meanwhile, the machine was off
RESTART = 60.0  # seconds that a restart may take
START = 5.0  # seconds until incrond must be there after it was started


class Canary(NamedTuple):
    """Whether the events of a set arrive."""

    set_name: str
    installed: bool  # the set has a table; without one it is swept only
    delay: float | None  # seconds that the last event measured took, None when none was
    dead_since: float | None  # when it was seen first that no event arrives


class Outage:
    """Something that does not work: since when, and in how many minutes that was seen."""

    def __init__(self, path: str) -> None:
        self.path = path
        words = (watch.read(path) or "").split()
        known = len(words) == 2 and all(word.isdigit() for word in words)
        self.since, self.minutes = map(int, words) if known else (int(time.time()), 0)

    def lasts(self) -> int:
        """Count one more minute and return how many there were."""
        self.minutes += 1
        watch.replace(self.path, f"{self.since} {self.minutes}\n")
        return self.minutes

    def ends(self) -> bool:
        """Forget the outage; say whether there was one."""
        if self.minutes:
            os.unlink(self.path)
        return bool(self.minutes)


def _dead(set_name: str) -> Outage:
    return Outage(paths.set_state(set_name, "canary-dead"))


def minute(configuration: Config) -> None:
    """Put back what a crash left away, then see to it that events arrive."""
    for name in configuration.sets:
        _put_back(name)
    if paths.root():  # no incrond of this machine reads the tables of a prefix
        return
    installed = [files for files in configuration.sets.values() if os.path.exists(paths.incron_table(files.name))]
    if not installed:
        return
    pid = running()
    if pid is None:
        _start()
    else:
        Outage(paths.state("incrond-down")).ends()
        _attend(installed, pid)
    for files in installed:
        watch.prepare(files.name)
        storm.touch(files.name)


def _put_back(set_name: str) -> None:
    """Put back the table of a storm whose run was killed; a run under way does that itself."""
    if not storm.away(set_name):
        return
    lock = locks.try_run(set_name)
    if lock is None:
        return
    try:
        storm.switch_on(set_name)
        log.notice(f"{set_name}: incrond watches again, after a run was killed in a storm of events")
    finally:
        os.close(lock)


def _attend(installed: list[AnySet], pid: int) -> None:
    """Look at each set with a table, by the mildest means that can help, and restart incrond when none did."""
    worst = 0
    for files in installed:
        changed = watch.refresh(files)
        if not changed:
            _see(files.name, pid)
        worst = max(worst, _answer(files.name))
    if worst > 1 and doubled(worst):
        why = _restart(pid)
        if why and worst == 2:
            log.error(f"incrond does not answer and cannot be restarted: {why}")


def doubled(minutes: int) -> bool:
    """Say whether to try again in this minute of an outage: in 1, 2, 4, 8 …, a restart kills the runs under way."""
    return minutes & (minutes - 1) == 0


def _answer(set_name: str) -> int:
    """See whether the last touch was answered; read the table again when not. Returns the minutes of the outage."""
    if not unanswered(set_name):
        if _dead(set_name).ends():
            log.notice(f"{set_name}: events arrive again")
        return 0
    minutes = _dead(set_name).lasts()
    if minutes == 1:
        _nudge(set_name)
        log.error(f"{set_name}: no event arrived for a minute: has incrond read its table again, next it is restarted")
    return minutes


def _times(set_name: str) -> tuple[float, float, bool]:
    """Return when the canary was touched last, when the trigger answered last, and whether that was to this touch."""
    try:
        touched, answer = os.stat(marks.canary(set_name)), os.stat(marks.answered(set_name))
    except FileNotFoundError:
        return 0.0, 0.0, False
    return touched.st_mtime, answer.st_ctime, touched.st_mtime_ns == answer.st_mtime_ns


def unanswered(set_name: str) -> bool:
    """Say whether the touch of a minute ago has brought no event. An older one, or none at all, tells nothing."""
    touched, _, answered = _times(set_name)
    return not answered and 0 <= time.time() - touched < STALE


def canaries(configuration: Config) -> list[Canary]:
    """Return for each set whether its events arrive, for status."""
    found, down = [], not paths.root() and running() is None
    for name in configuration.sets:
        touched, answer, answered = _times(name)
        dead = Outage(paths.state("incrond-down")) if down else _dead(name)
        found.append(
            Canary(
                name,
                storm.away(name) or os.path.exists(paths.incron_table(name)),
                max(0.0, answer - touched) if touched and answered else None,
                dead.since if down or dead.minutes else None,
            )
        )
    return found


def _nudge(set_name: str) -> None:
    """Have incrond read a table again: a rename over it does, as touch(1) does and utime(2) does not."""
    path = paths.incron_table(set_name)
    text = watch.read(path)
    if text is not None:
        watch.replace(path, text)
        _missed(set_name)


def _missed(set_name: str) -> None:
    """Have all of a set looked at, by the run that follows or the next minute's."""
    with suppress(FileNotFoundError):  # a table whose set is gone
        marks.add(set_name, marks.MISSED)


def _see(set_name: str, pid: int) -> None:
    """Have a table read again when incrond lost one of its directories: removed and made again, it has lost the watch.

    Where a file system tells stat(2) another inode than inotify, this is done once and not again.
    """
    text = watch.read(paths.incron_table(set_name))
    seen, record = watched_inodes(pid), paths.set_state(set_name, "lost")
    lost = "".join(f"{place} {inode}\n" for place, inode in _inodes(storm.places(text or "")) if inode not in seen)
    known = watch.read(record) or ""
    if lost and seen and lost != known:
        watch.replace(record, lost)
        _nudge(set_name)
    elif known and not lost:
        os.unlink(record)


def _inodes(places: Iterable[str]) -> Iterator[tuple[str, int]]:
    for place in places:
        with suppress(OSError):  # gone
            yield place, os.stat(place).st_ino


def watched_inodes(pid: int) -> set[int]:
    """Return the inodes that a process watches with inotify; none when it has ended."""
    found = set()
    try:
        for number in os.listdir(f"/proc/{pid}/fdinfo"):
            with open(f"/proc/{pid}/fdinfo/{number}") as file:
                for line in file:
                    if line.startswith("inotify "):
                        found.add(int(line.partition("ino:")[2].split()[0], 16))
    except (FileNotFoundError, ProcessLookupError):
        return set()
    return found


def running() -> int | None:
    """Return the process of incrond, None when there is none in our process namespace: a container has its own."""
    written = (watch.read(PID_FILE) or "").strip()
    for pid in (written, *os.listdir("/proc")):
        if pid.isdigit() and _is_incrond(pid):
            return int(pid)
    return None


def _is_incrond(pid: str) -> bool:
    try:
        # exe, not comm: a corpse has none, and what incrond has just forked is not yet its handler but soon is
        name = os.path.basename(os.readlink(f"/proc/{pid}/exe"))
        return name.split()[0] == "incrond" and os.readlink(f"/proc/{pid}/ns/pid") == os.readlink("/proc/self/ns/pid")
    except OSError:  # ended meanwhile, or a thread of the kernel
        return False


def _start() -> None:
    """Start incrond, which is not there; say each start, and a failure once."""
    outage = Outage(paths.state("incrond-down"))
    minutes = outage.lasts()
    if not doubled(minutes):
        return
    why = _restart(None)
    if not why:
        outage.ends()
        log.notice("incrond was not running: started again")
    elif minutes == 1:
        log.error(f"incrond is not running and cannot be started: {why}: apt install incron, or see its log")


def revive() -> bool:
    """Start incrond if it is not there: rewriting a table whose directories are being removed can be its end."""
    if paths.root() or running() is not None:
        return False
    why = _restart(None)
    log.notice("incrond was not running: started again" if not why else f"incrond cannot be started: {why}")
    return not why


def _restart(pid: int | None) -> str:
    """Restart incrond the way this machine starts it. Returns "" or why it does not run."""
    if os.path.isdir("/run/systemd/system"):
        command = ["systemctl", "restart", "incron"]
    else:  # its own script would ask it to end and start none when it does not
        command = [INIT, "start"] if os.access(INIT, os.X_OK) else ["incrond"]
        if pid is not None:
            _end(pid)
    why = child.run(command, child.environment(), RESTART)
    _wait(None)
    if running() is None:
        return why or f"`{' '.join(command)}` did not bring it up"
    for table in watch.tables():
        _missed(watch.set_of(table))
    return ""


def _end(pid: int) -> None:
    """End an incrond that may hang."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        _wait(pid)
        if running() != pid:
            return


def _wait(old: int | None) -> None:
    """Wait until incrond runs, or until the old one does not."""
    until = time.monotonic() + START
    while time.monotonic() < until and (running() is None if old is None else running() == old):
        time.sleep(storm.POLL)
