"""Keep aside what an old master wrote after its last complete push, which the standby has never seen."""

import errno
import glob
import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from hotpair import descend, paths
from hotpair.failover import notes

BLOCK = 1 << 24  # bytes that are copied at once
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
NOT_KEPT = ("/proc", "/sys", "/dev", "/run", "/var/lib/hotpair")


class Found(NamedTuple):
    """A file in an open directory."""

    directory: int
    name: str
    live: str
    stat: os.stat_result


def known(epoch: int) -> dict[str, Any]:
    """Return what a demotion of the master of an epoch has noted before it was cut short; {} when it begins."""
    note = notes.read(notes.UNSEEN)
    return note if note.get("epoch") == epoch else {}


def keep(accepted: Iterable[str], since: float, epoch: int) -> dict[str, Any]:
    """Copy what below the accepted paths was made or changed after a moment; note and return what, and where it is.

    A run that was cut short is done again from its start, into the same directory.
    """
    moment = time.strftime("%Y%m%d-%H%M%S")
    place = paths.state("hotsync", "unseen", f"{epoch}-{moment}")
    note: dict[str, Any] = {"directory": place, **known(epoch)}
    note.update(epoch=epoch, since=since)
    note.pop("ended", None)
    notes.write(notes.UNSEEN, note)
    note["files"] = [found.live for found in _newer(accepted, since) if _copy(found, note["directory"])]
    note["ended"] = time.time()
    notes.write(notes.UNSEEN, note)
    return note


def _newer(accepted: Iterable[str], since: float) -> Iterator[Found]:
    """Yield every file and link changed after a moment. No link is followed on the way."""
    for pattern in accepted:
        for path in sorted(glob.iglob(glob.escape(paths.root()) + pattern.rstrip("/"), include_hidden=True)):
            directory, name = os.path.split(path[len(paths.root()) :])
            try:
                fd = descend.open_directory(directory)
            except (FileNotFoundError, NotADirectoryError):  # gone meanwhile, or through a link
                continue
            try:
                yield from _below(fd, name, directory.rstrip("/"), since)
            finally:
                os.close(fd)


def _below(fd: int, name: str, directory: str, since: float) -> Iterator[Found]:
    live = f"{directory}/{name}"
    try:
        found = os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:  # gone meanwhile
        return
    if any(live == one or live.startswith(one + "/") for one in NOT_KEPT):
        return
    if stat.S_ISDIR(found.st_mode):
        try:
            below = os.open(name, descend.DIRECTORY, dir_fd=fd)
        except (FileNotFoundError, NotADirectoryError):  # gone meanwhile; the rest of the walk goes on
            return
        try:
            for one in sorted(os.listdir(below)):
                yield from _below(below, one, live, since)
        finally:
            os.close(below)
    elif (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)) and max(found.st_ctime, found.st_mtime) > since:
        yield Found(fd, name, live, found)


def _copy(found: Found, place: str) -> bool:
    """Copy a file or link with its owner, mode and times; False when it has gone meanwhile.

    No hard link: what writes to the live file later would write to what is kept as well. What a run that was cut short
    has kept is replaced by a whole copy, or stays.
    """
    target, temporary = place + found.live, f"{place}/.new"
    paths.make_private(os.path.dirname(target))
    with suppress(FileNotFoundError):
        os.unlink(temporary)
    try:
        if stat.S_ISLNK(found.stat.st_mode):
            os.symlink(os.readlink(found.name, dir_fd=found.directory), temporary)
            os.chown(temporary, found.stat.st_uid, found.stat.st_gid, follow_symlinks=False)
        else:
            _copy_file(found, temporary)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.EINVAL):  # something else by now
            return False
        raise
    os.rename(temporary, target)
    return True


def _copy_file(found: Found, temporary: str) -> None:
    source = os.open(found.name, _READ, dir_fd=found.directory)
    try:
        _copy_content(source, os.open(temporary, _NEW, 0o600), found.stat)
    finally:
        os.close(source)


def _copy_content(source: int, target: int, wanted: os.stat_result) -> None:
    try:
        while os.copy_file_range(source, target, BLOCK):
            continue
        os.fchown(target, wanted.st_uid, wanted.st_gid)
        os.fchmod(target, stat.S_IMODE(wanted.st_mode) & 0o777)  # no set-uid program is kept as one
        os.utime(target, ns=(wanted.st_atime_ns, wanted.st_mtime_ns))
        os.fsync(target)
    finally:
        os.close(target)
