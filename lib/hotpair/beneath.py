"""Open, rename and unlink under the root without following a link that a user could plant.

Every function takes live paths. The parent directory is reached one component at a time with O_NOFOLLOW, and the
last component is only ever touched through that directory's descriptor, so that swapping a directory for a link
meanwhile reaches nothing outside (facts: openat(2), renameat2(2)).
"""

import ctypes
import errno
import fcntl
import os
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from hotpair import descend, paths

RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2  # linux/fs.h
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_libc = ctypes.CDLL(None, use_errno=True)


class Place(NamedTuple):
    """A name in an open directory: what all *at(2) calls want."""

    fd: int
    name: str


@contextmanager
def place(live: str) -> Iterator[Place]:
    """Yield the place of a live path; its directory is closed afterwards."""
    directory, name = live.rsplit("/", 1)
    fd = descend.open_directory(directory)
    try:
        yield Place(fd, name)
    finally:
        os.close(fd)


def lstat(at: Place) -> os.stat_result | None:
    """Return the stat of a name, or None when there is none."""
    try:
        return os.stat(at.name, dir_fd=at.fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def plainly_absent(live: str) -> bool:
    """Say whether one call finds nothing at a live path: the cheap answer where something is rarely there.

    False says nothing: a link may be on the way, or the path be too long for one call. What is there is then reached
    by `place`.
    """
    try:
        os.lstat(paths.under(live))
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def open_read(at: Place) -> int:
    """Return a descriptor for reading a file, never a link's target, never waiting for a pipe's other end."""
    return os.open(at.name, _READ, dir_fd=at.fd)


def inbox(at: Place, *names: str) -> int:
    """Return a descriptor of the inbox beside a place, made if missing; refuses one that is not ours alone (EPERM)."""
    fd = os.dup(at.fd)
    for name in (paths.INBOX, *names):
        fd = private(fd, name)
    return fd


def private(fd: int, name: str) -> int:
    """Step from an open directory into one that is ours alone, made if missing. Raises PermissionError if it is not."""
    try:
        with suppress(FileExistsError):  # made earlier; whose it is, is looked at next
            os.mkdir(name, 0o700, dir_fd=fd)
    except OSError:
        os.close(fd)
        raise
    fd = descend.step(fd, name)
    found = os.fstat(fd)
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        os.close(fd)
        raise PermissionError(errno.EPERM, "inbox belongs to somebody else or is open to others", name)
    return fd


def make_directory(mode: int, fd: int, live: str) -> None:
    """Make a directory in an open one, unless another program was faster: with a mode, what `open_directory` wants."""
    with suppress(FileExistsError):
        os.mkdir(live.rpartition("/")[2], mode, dir_fd=fd)


def rename(source: Place, target: Place, flags: int = 0) -> None:
    """renameat2(2): with RENAME_NOREPLACE or RENAME_EXCHANGE, which Python's os.rename cannot ask for."""
    result = _libc.renameat2(source.fd, os.fsencode(source.name), target.fd, os.fsencode(target.name), flags)
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), source.name, None, target.name)


def rename_new(source: Place, target: Place, private: bool = False) -> None:
    """Rename to a name that must be free, else FileExistsError; also where renameat2(2) takes no flags (NFS, FUSE).

    private: nobody but us makes names where the target is, so that a look says whether one is free.
    """
    try:
        rename(source, target, RENAME_NOREPLACE)
        return
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    found = lstat(source)
    if found is not None and not stat.S_ISDIR(found.st_mode) and not private:
        link(source, target)
        os.unlink(source.name, dir_fd=source.fd)
        return
    taken = FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target.name)
    if lstat(target) is not None:
        raise taken
    try:
        rename(source, target)
    except OSError as error:  # made since: a directory replaces an empty one at the most
        if error.errno in (errno.ENOTDIR, errno.ENOTEMPTY):
            raise taken from error
        raise


def link(source: Place, target: Place) -> None:
    """Give what is no directory a second name, where renameat2(2) takes no flags."""
    try:
        os.link(source.name, target.name, src_dir_fd=source.fd, dst_dir_fd=target.fd, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        why = f"{error.strerror}: no hard link, and no RENAME_NOREPLACE or RENAME_EXCHANGE here instead"
        raise OSError(errno.ENOTSUP, why, source.name) from error


def flush(live: str) -> None:
    """Write all that a live directory's file system has not written yet to the disk: syncfs(2)."""
    fd = descend.open_directory(live)
    try:
        if _libc.syncfs(fd) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), live)
    finally:
        os.close(fd)


def open_for_writing(fd: int) -> bool | None:
    """Say whether anybody has this file open for writing; None where the kernel cannot tell (not ours, or NFS).

    A read lease is granted only while nobody has (fcntl(2), F_SETLEASE). It is given back at once.
    """
    held = hold_lease(fd)
    if held:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return False
    return None if held is None else True


def hold_lease(fd: int) -> bool | None:
    """Take a read lease: whoever opens the file for writing waits until we close it. False: somebody has it open."""
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # the kernel's word that somebody waits; its default is to kill us
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def lease_broken(fd: int) -> bool:
    """Say whether somebody is waiting to open for writing a file that we hold a lease on."""
    return fcntl.fcntl(fd, fcntl.F_GETLEASE) != fcntl.F_RDLCK
