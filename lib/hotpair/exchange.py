"""Exchange a staged content with the live one in one step, and back when a user was faster.

What comes out of renameat2(2)'s RENAME_EXCHANGE is compared with what was looked at when the change was decided. A read
lease held across the exchange tells of a writer who opened the old file in that instant.
"""

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress

from hotpair import beneath
from hotpair.beneath import Place
from hotpair.exits import Fail
from hotpair.scan import Unsettled

Dispose = Callable[[Place], None]
TRIES = 10  # exchanges back and forth while a user keeps replacing the file


class Impossible(Fail):
    """This change cannot be made here; the peer is told why."""

    code = os.EX_CANTCREAT


def put(at: Place, staged: Place, found: os.stat_result | None, dispose: Dispose) -> os.stat_result | None:
    """Put what is staged in the place of what was found there, and dispose of that.

    Returns the stat it had right after, None if it was gone by then: what is changed later has another ctime. Raises
    Unsettled when something else stands there by now, Impossible for a directory with entries. What a user wrote into
    the staged one, while it stood there, is left under its name.
    """
    ours = beneath.lstat(staged)
    assert ours
    if found is None:
        try:
            beneath.rename(staged, at, beneath.RENAME_NOREPLACE)
        except FileExistsError as error:
            drop(staged)
            raise Unsettled(f"{at.name}: created since it was decided") from error
        return _still(at, ours)
    held = lease(at, found)
    try:
        if not _exchange(staged, at):
            return _still(at, ours)
        put_there = _still(at, ours)
        if same(beneath.lstat(staged), found) and not (held >= 0 and beneath.lease_broken(held)):
            _dispose_of_old(at, staged, dispose)
            return put_there
        _exchange_back(at, staged, ours)
    finally:
        if held >= 0:
            os.close(held)
    if _untouched(staged, ours):
        drop(staged)
    raise Unsettled(f"{at.name}: written since it was decided")


def _still(at: Place, ours: os.stat_result) -> os.stat_result | None:
    """Return the stat of a place where our inode still stands."""
    now = beneath.lstat(at)
    return now if now is not None and now.st_ino == ours.st_ino else None


def _untouched(staged: Place, ours: os.stat_result) -> bool:
    """Say whether nobody wrote, or may yet write, to what we staged while it was the live file for a moment."""
    now = beneath.lstat(staged)
    if now is None or not same(now, ours):
        return False
    if not stat.S_ISREG(now.st_mode):
        return True
    fd = beneath.open_read(staged)
    try:
        return beneath.hold_lease(fd) is not False
    finally:
        os.close(fd)


def _exchange(staged: Place, at: Place) -> bool:
    """Exchange the two; False where the file system cannot (NFS, FUSE) and a plain rename had to do."""
    try:
        beneath.rename(staged, at, beneath.RENAME_EXCHANGE)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        beneath.rename(staged, at)
        return False
    return True


def lease(at: Place, found: os.stat_result) -> int:
    """Return a descriptor that holds a lease on the live file, -1 where leases do not work or it is no file."""
    if not stat.S_ISREG(found.st_mode):
        return -1
    fd = beneath.open_read(at)
    held = beneath.hold_lease(fd)
    if held:
        return fd
    os.close(fd)
    if held is False:
        raise Unsettled(f"{at.name}: somebody has it open for writing")
    return -1


def same(came_out: os.stat_result | None, found: os.stat_result) -> bool:
    """Say whether the inode that came out is the one that was looked at, unwritten (a rename moves its ctime)."""
    if came_out is None:
        return False
    return (came_out.st_dev, came_out.st_ino, came_out.st_size, came_out.st_mtime_ns) == (
        found.st_dev,
        found.st_ino,
        found.st_size,
        found.st_mtime_ns,
    )


def _exchange_back(at: Place, staged: Place, ours: os.stat_result) -> None:
    """Undo an exchange until our own inode is the staged one again: the user may be replacing the file meanwhile."""
    for _ in range(TRIES):
        try:
            beneath.rename(staged, at, beneath.RENAME_EXCHANGE)
        except FileNotFoundError:  # removed by the user meanwhile: what stood there before goes back
            with suppress(FileExistsError):
                beneath.rename(staged, at, beneath.RENAME_NOREPLACE)
                return
        out = beneath.lstat(staged)
        if out is not None and out.st_ino == ours.st_ino:
            return
    raise OSError(errno.EBUSY, "replaced faster than it can be put back", at.name)


def _dispose_of_old(at: Place, displaced: Place, dispose: Dispose) -> None:
    """Let go of what was exchanged out; a directory with entries goes back, for they belong to nobody's set."""
    try:
        dispose(displaced)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        beneath.rename(displaced, at, beneath.RENAME_EXCHANGE)
        drop(displaced)
        raise Impossible(f"{at.name} is a directory that is not empty", "move its entries away") from error


def drop(at: Place) -> None:
    """Remove what stands at a place, if anything does. Raises OSError for a directory with entries."""
    found = beneath.lstat(at)
    if found is not None and stat.S_ISDIR(found.st_mode):
        os.rmdir(at.name, dir_fd=at.fd)
    elif found is not None:
        os.unlink(at.name, dir_fd=at.fd)


def holds_entries(at: Place) -> bool:
    """Say whether a directory with entries stands at a place."""
    try:
        fd = os.open(at.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at.fd)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        return bool(os.listdir(fd))
    finally:
        os.close(fd)
