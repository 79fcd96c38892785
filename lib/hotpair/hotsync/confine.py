"""A view of the disk for rsync's daemon in which the kernel follows no symbolic link.

The daemon's filter judges names. A master that sends a link into a directory that the standby accepts, and then a
file "below" it, would get past any such rule: the name is right, and the kernel goes where the link leads. So the
daemon works in a mount namespace of its own, on a bind mount that has `nosymfollow`: links are made, read and
compared there as ever, and a path through one is an error.
"""

import ctypes
import errno
import os

from hotpair import paths
from hotpair.exits import Fail
from hotpair.hotsync.identity import is_own

NEWNS = 0x00020000  # unshare(2)
REC, BIND, PRIVATE, SLAVE = 1 << 14, 1 << 12, 1 << 18, 1 << 19  # mount(2)
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
MOUNT_SETATTR = 442  # its number on every machine
NOSYMFOLLOW = 0x00200000
_libc = ctypes.CDLL(None, use_errno=True)


class _Attributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "namespace")]


def view() -> str:
    """Return where the daemon sees the node's disk; for everybody else an empty directory."""
    return paths.runtime("hotsync-view")


def enter() -> None:
    """Give this process, and all it starts, a namespace with the view. Raises Fail where the kernel cannot."""
    paths.make_private(view())
    try:
        _check(_libc.unshare(NEWNS))
        _separate()
        _check(_libc.mount(os.fsencode(paths.root() or "/"), os.fsencode(view()), None, REC | BIND, None))
        seal()
    except OSError as error:
        raise Fail(
            f"no view of the disk without symbolic links: {error.strerror}", "run as root, with Linux 5.12 or newer"
        ) from error


def _separate() -> None:
    """Have what is mounted later seen here, or rsync would write below the mount, and nothing of ours get out."""
    try:
        _check(_libc.mount(None, b"/", None, REC | SLAVE, None))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # in a chroot / is no mount point: then what the view lies on is one, and separate
        _check(_libc.mount(os.fsencode(view()), os.fsencode(view()), None, BIND, None))
        _check(_libc.mount(None, os.fsencode(view()), None, PRIVATE, None))


def renew(outside: int) -> None:
    """Have the gate seal the view once more, before each push: a disk may have been mounted meanwhile.

    outside: a process that sees what the node sees now, 0 for none. Raises Fail when what is sent would go elsewhere.
    """
    if "RSYNC_PID" not in os.environ:  # nothing is to be sent
        return
    try:
        seal()
    except OSError as error:
        raise Fail(f"the door has no view of the disk there: {error.strerror}", "hotsync-slave doors") from error
    if outside and stale(outside, os.getpid()):
        raise Fail("a disk was mounted or unmounted there since the door was opened", "hotsync-slave doors")


def stale(outside: int, inside: int) -> set[tuple[str, str]]:
    """Return the mounts that one of two processes sees and the other does not; there are none where `/` is shared."""
    return _mounts(outside) ^ _mounts(inside)


def _mounts(pid: int) -> set[tuple[str, str]]:
    """Return the live path and the device of each mount that a process sees and a push could reach."""
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        found = [line.split(" ")[2:5:2] for line in file]
    root = paths.root() + "/"
    below = {(point[len(paths.root()) :], device) for device, point in found if point.startswith(root)}
    return {(live, device) for live, device in below if not is_own(live)}


def seal() -> None:
    """Have no link followed in the view."""
    _set(view(), NOSYMFOLLOW, 0, AT_RECURSIVE)
    if not paths.root():  # glibc's lchmod(3) goes through /proc/self/fd; no path there is accepted
        _set(view() + "/proc", 0, NOSYMFOLLOW, 0)


def _set(path: str, add: int, clear: int, flags: int) -> None:
    attributes = _Attributes(add, clear, 0, 0)
    size = ctypes.sizeof(attributes)
    _check(_libc.syscall(MOUNT_SETATTR, AT_FDCWD, os.fsencode(path), flags, ctypes.byref(attributes), size))


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
