"""Storm: while events come faster than looking at each is worth, the set's incron table is put away.

incrond starts one process for every event, 10,000 for 10,000 files. So, as network drivers do with interrupts: the
process that sees BURST events at once switches the watch off, whoever holds the run lock looks again and again until
the directories rest, switches it on, and looks once more, because what incrond had queued is dropped with the table.
(Of what incrond had read, up to 1024 events, each still costs a shell that finds the table away.)
All that is known of a storm stands in the times of the table put away, so a crash loses nothing: the watchdog puts it
back. The table moves within its directory to a name that incrond ignores: one rename, no copy.
"""

import os
import time

from hotpair import marks, paths, quiet

BURST = 12  # events at once from which on a process for each costs more than it finds; saving in vim makes 8
SECOND = 1_000_000_000  # nanoseconds
SHORT = 0.5  # seconds that a table stays away at least
LONG = 4.0  # the same when the watch had just been switched on: writes in place do not show in a directory's times
AGAIN = 5.0  # seconds that count as just
REST = 0.3  # seconds without a change in the watched directories that end a storm
MOST = 20.0  # seconds until the table is put back whatever happens: other programs wait for the run lock
POLL = 0.05  # seconds between two looks
SHARE = 4  # a look may take one part of this many of the time between two
ARMED = 2.0  # seconds that incrond is given to watch again: it takes 10 to 20 ms, more under load
ANSWER = 0.05  # seconds until the canary is touched again; doubled each time


def shelf(set_name: str) -> str:
    """Return where the set's table is put: beside its place, under a dotted name that incrond ignores."""
    return paths.under(f"/etc/incron.d/.hotpair-{set_name}.away")


def away(set_name: str) -> bool:
    """Say whether the set's table is put away."""
    return os.path.lexists(shelf(set_name))


def event(set_name: str) -> None:
    """Count an event, after it is marked, and put the table away when too many come at once.

    Each process of a storm is its own run or loses the lock: none of them sees more than a few events. What all of
    them see is how many of them there were within this second, and how many incrond has running now. Until here we
    ran before incrond (see watched.HASTE), so that it does not start a hundred more before the first of us can count.
    """
    if os.getpriority(os.PRIO_PROCESS, 0) < 0:
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    if _pulse(set_name) >= BURST or _siblings() >= BURST:
        switch_off(set_name)


def _pulse(set_name: str) -> int:
    """Count an event and return how many there were since the second began, which is the atime of the file.

    Appending needs no lock: a count that a race loses delays the verdict by one event.
    """
    path = paths.set_state(set_name, "pulse")
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(fd, b".")
        found, now = os.fstat(fd), time.time_ns()
        if 0 <= now - found.st_atime_ns < SECOND:
            return found.st_size
        os.ftruncate(fd, 0)
        os.utime(fd, ns=(now, now))
        return 1
    finally:
        os.close(fd)


def _siblings() -> int:
    """Return how many children our parent has: the processes of a storm share two CPUs, so they all count late."""
    parent = os.getppid()
    try:
        with open(f"/proc/{parent}/task/{parent}/children", "rb") as file:
            return len(file.read().split())
    except OSError:  # a kernel without this file, or a parent that has ended
        return 0


def switch_off(set_name: str) -> bool:
    """Put the set's table away, which ends the watch at once. False when there is none, or it is away already.

    Whoever has the run lock looks at `unattended` after it has let go of it, and so does whoever called this: there is
    always somebody to switch the watch on again.
    """
    table, aside = paths.incron_table(set_name), shelf(set_name)
    try:
        found, now = os.stat(table), time.time()
        os.rename(table, aside)
        until = now + (LONG if 0 <= now - found.st_ctime < AGAIN else SHORT)
        os.utime(aside, (until, found.st_mtime))
    except FileNotFoundError:
        return False
    return True


def unattended(set_name: str) -> bool:
    """Say whether an event waits or the watch is off. To be asked by whoever has just let go of the run lock.

    An event that finds the lock held ends there. The watch alone counts too: the mark of the event that switched it off
    may have been claimed by a run that ended before that.
    """
    return marks.waiting(set_name) or away(set_name)


def switch_on(set_name: str) -> None:
    """Put the table back, wait until the watch works, and leave a mark: what came before that is to be looked for."""
    table, aside = paths.incron_table(set_name), shelf(set_name)
    try:
        if os.path.lexists(table):  # `hotpair tables` has written a newer one
            os.unlink(aside)
        else:
            os.rename(aside, table)
    except FileNotFoundError:
        return
    rearm(set_name, ARMED)
    marks.add(set_name, "storm")


def rearm(set_name: str, seconds: float) -> bool:
    """Wait until the trigger answers, so many seconds; start incrond again if it has ended. Returns whether it answers.

    It does when it lets go of a table whose directories have just been removed: "removing watch failed", and exit.
    """
    if armed(set_name, seconds):
        return True
    from hotpair import watchdog  # it needs us

    return watchdog.revive() and armed(set_name, seconds)


def armed(set_name: str, seconds: float) -> bool:
    """Touch the canary until the trigger answers by the table's last line. False when it has not in so many seconds.

    A tree's table names its canary anew each time it is written, so that an answer tells which table incrond has read.
    """
    touches, pause, until = set(), ANSWER, time.monotonic() + seconds
    time.sleep(POLL / 4)  # sooner a touch would be lost
    while time.monotonic() < until:
        touches.add(touch(set_name))
        again = min(time.monotonic() + pause, until)
        while time.monotonic() < again:
            if _mtime(marks.answered(set_name)) in touches and _answered_by(set_name) == canary_of(set_name):
                return True
            time.sleep(POLL / 10)
        pause *= 2
    return False


def _answered_by(set_name: str) -> str:
    with open(marks.answered(set_name), encoding="ascii") as file:
        return file.read()


def canary_of(set_name: str) -> str:
    """Return the name of the watch in the last line of the set's table, put away or not."""
    for path in (paths.incron_table(set_name), shelf(set_name)):
        try:
            with open(path, "rb") as file:
                return os.fsdecode(file.read().split()[-1])
        except (FileNotFoundError, IndexError):
            continue
    return marks.CANARY


def _mtime(path: str) -> int:
    """Return the mtime of a file in nanoseconds, 0 when there is none."""
    try:
        return os.stat(path).st_mtime_ns
    except FileNotFoundError:
        return 0


def touch(set_name: str) -> int:
    """Touch the canary, one event where the table is in place, and return its new mtime."""
    path = marks.canary(set_name)
    paths.make_private(os.path.dirname(path))
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    os.utime(path)
    return os.stat(path).st_mtime_ns


def places(table: str) -> list[str]:
    """Return the directories, as they are on this disk, that the text of a table names."""
    return [line.split()[0] for line in table.splitlines() if line.strip() and not line.startswith("#")]


def _resting(set_name: str) -> bool:
    """Say whether the storm is over, as far as times can tell."""
    aside, now = shelf(set_name), time.time()
    try:
        found = os.stat(aside)
        with open(aside, encoding="utf-8", errors="surrogateescape") as file:
            watched = places(file.read())
    except FileNotFoundError:
        return True
    if not 0 <= now - found.st_ctime < MOST:  # also after the clock was set back
        return True
    moved = max(map(_mtime, watched), default=0) / 1e9
    return now >= found.st_atime and not 0 <= now - moved < REST


def over(set_name: str, look: float = 0.0) -> bool:
    """Say whether there is no storm (any more): costs one stat when there is none. The caller has the run lock.

    While it lasts, sleep until it is time for the next look (`look`: how many seconds the last one took) and return
    False. At its end, switch on: the mark that is left then makes `syncr` look once more.
    """
    if not away(set_name):
        return True
    if _resting(set_name):
        switch_on(set_name)
        return True
    time.sleep(min(max(POLL, SHARE * look), 1.0))
    return False


def end(set_name: str) -> None:
    """Wait until there is no storm and the watch is on. For whoever lets go of the run lock, after a failure too."""
    while not over(set_name):
        pass


def sit_out(set_name: str) -> bool:
    """Look, with stat alone, until the storm is over; False as soon as the set itself has changed, the storm going on.

    What the table's directories hold besides the set's files may be what storms.
    """
    from hotpair import folder  # an event that loses the lock pays for no further module

    look = 0.0
    while not over(set_name, look):
        if folder.indexed(set_name):  # of a tree, only the run knows where to look
            return False
        marks.take(set_name)
        began = time.monotonic()
        if not quiet.unchanged(set_name):
            return False
        look = time.monotonic() - began
    return True
