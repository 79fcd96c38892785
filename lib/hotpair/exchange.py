"""Exchange a staged content with the live one in one step, and back when a user was faster.

What comes out of renameat2(2)'s RENAME_EXCHANGE is compared with what was looked at when the change was decided. A read
lease held across the exchange tells of a writer who opened the old file in that instant. Where renameat2(2) takes no
flags (NFS, many FUSE, old ZFS) the same is done in steps, in which what comes out always has a name.
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


def not_empty(at: Place) -> Impossible:
    return Impossible(f"{at.name} is a directory that is not empty", "move its entries away")


def put(
    at: Place, staged: Place, found: os.stat_result | None, dispose: Dispose, copied: bool = False
) -> os.stat_result | None:
    """Put what is staged in the place of what was found there, and dispose of that (copied: there is a copy of it).

    Returns the stat it had right after, None if it was gone by then: what is changed later has another ctime. Raises
    Unsettled when something else stands there by now, Impossible for a directory with entries. What a user wrote into
    the staged one, while it stood there, is left under its name.
    """
    ours = beneath.lstat(staged)
    assert ours
    if found is None:
        try:
            beneath.rename_new(staged, at)
        except FileExistsError as error:
            drop(staged)
            raise Unsettled(f"{at.name}: created since it was decided") from error
        return _still(at, ours)
    held = lease(at, found)
    try:
        if not _exchange(staged, at, copied):
            return _still(at, ours)
        put_there = _still(at, ours)
        if same(beneath.lstat(staged), found) and not (held >= 0 and beneath.lease_broken(held)):
            _dispose_of_old(at, staged, ours, dispose)
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


def _exchange(staged: Place, at: Place, copied: bool) -> bool:
    """Exchange the two; False where nothing came out, because it could not be kept from being replaced."""
    try:
        beneath.rename(staged, at, beneath.RENAME_EXCHANGE)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return _exchange_in_steps(staged, at, copied)
    return True


def incoming(staged: Place) -> Place:
    """Return where the staged one is while what comes out takes its name."""
    return Place(staged.fd, f"{staged.name}-new")


def _exchange_in_steps(staged: Place, at: Place, copied: bool) -> bool:
    new = incoming(staged)
    drop(new)  # a crash left it
    beneath.rename(staged, new)
    try:
        if _is_directory(at) or _is_directory(new):
            _make_way(at, staged, new)
            return True
        return _rename_over(at, staged, new, copied)
    finally:
        drop(new)


def _make_way(at: Place, out: Place, new: Place) -> None:
    """Move the live one out and the new one in, which is of another kind and cannot replace it in one step."""
    if holds_entries(at):
        raise not_empty(at)
    beneath.rename_new(at, out, private=True)
    try:
        beneath.rename_new(new, at)
    except OSError:
        with suppress(OSError):  # then it becomes a generation at the next look
            beneath.rename_new(out, at)
        raise


def _rename_over(at: Place, out: Place, new: Place, copied: bool) -> bool:
    """Give the live file its second name and then replace it; what a user renames there in between is lost."""
    try:
        beneath.link(at, out)
    except OSError as error:
        if error.errno != errno.ENOTSUP or not copied:
            raise
        beneath.rename(new, at)
        return False
    try:
        old = beneath.lstat(out)
        if old is None or _still(at, old) is None:
            raise Unsettled(f"{at.name}: replaced since it was decided")
        beneath.rename(new, at)
    except (OSError, Unsettled):
        drop(out)
        raise
    return True


def _is_directory(at: Place) -> bool:
    found = beneath.lstat(at)
    return found is not None and stat.S_ISDIR(found.st_mode)


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
                beneath.rename_new(staged, at)
                return
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            _back_in_steps(at, staged, ours)
            return
        out = beneath.lstat(staged)
        if out is not None and out.st_ino == ours.st_ino:
            return
    raise OSError(errno.EBUSY, "replaced faster than it can be put back", at.name)


def _back_in_steps(at: Place, old: Place, ours: os.stat_result) -> None:
    """Put back what came out, unless a user made something else of ours: then it becomes a generation."""
    if _still(at, ours) is not None and _untouched(at, ours):
        drop(at)
        with suppress(FileExistsError):
            beneath.rename_new(old, at)


def _dispose_of_old(at: Place, displaced: Place, ours: os.stat_result, dispose: Dispose) -> None:
    """Let go of what was exchanged out; a directory with entries goes back, for they belong to nobody's set."""
    try:
        dispose(displaced)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        _exchange_back(at, displaced, ours)
        drop(displaced)
        raise not_empty(at) from error


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
