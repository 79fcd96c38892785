"""Give a file the owner, mode, extended attributes (ACLs are among them) and times of a State."""

import errno
import os
import stat
from base64 import b64decode
from collections.abc import Callable

from hotpair import acl, beneath, scan
from hotpair.beneath import Place
from hotpair.scan import Carried, State


def give(at: Place, state: State, carried: Carried = scan.CARRIED) -> None:
    """Make the metadata of what stands at a place equal to the state's. Its kind must be the state's.

    carried: what the state says, and by whose numbers; other attributes stay as they are.
    """
    if state.kind == "link":
        state = carried.local(state)
        _own(state, lambda uid, gid: os.chown(at.name, uid, gid, dir_fd=at.fd, follow_symlinks=False))
        os.utime(at.name, ns=(state.mtime_ns, state.mtime_ns), dir_fd=at.fd, follow_symlinks=False)
        return
    if state.kind in scan.SPECIALS:
        _give_special(at, carried.local(state))
        return
    fd = beneath.open_read(at)
    try:
        give_fd(fd, state, carried)
    finally:
        os.close(fd)


def _give_special(at: Place, state: State) -> None:
    """The same for a FIFO or a device, which is not opened: a driver, or the other end, would notice."""
    fd = os.open(at.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at.fd)
    try:
        itself, found = f"/proc/self/fd/{fd}", os.fstat(fd)
        if stat.S_IFMT(found.st_mode) not in (stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), at.name)
        if (found.st_uid, found.st_gid) != (state.uid, state.gid):
            os.chmod(itself, stat.S_IMODE(found.st_mode) & state.mode)
        _own(state, lambda uid, gid: os.chown(itself, uid, gid))
        os.chmod(itself, state.mode)
    finally:
        os.close(fd)


def give_fd(fd: int, state: State, carried: Carried = scan.CARRIED) -> None:
    """The same for an open file or directory. At no moment has anybody a right that he has in neither state."""
    state, shared, found = carried.local(state), carried.xattrs, os.fstat(fd)
    wanted = {name: b64decode(value) for name, value in state.xattrs if name.startswith(shared)}
    gone = [name for name in scan.xattrs(fd, shared) if name not in wanted]
    others = (found.st_uid, found.st_gid) != (state.uid, state.gid)
    if others or acl.ACCESS in gone:
        _narrow(fd, found, state.mode & (0o7700 if acl.ACCESS in wanted else 0o7777), shared)
    if others:  # before the mode: chown(2) clears set-uid bits
        _own(state, lambda uid, gid: os.chown(fd, uid, gid))
    for name in gone:
        os.removexattr(fd, name)
    for name, value in wanted.items():
        _set(fd, name, value)
    _give_mode(fd, state.mode, scan.own_acl(fd, shared))
    if state.kind == "file":
        os.utime(fd, ns=(state.mtime_ns, state.mtime_ns))


def _narrow(fd: int, found: os.stat_result, mode: int, shared: tuple[str, ...]) -> None:
    """Leave of the present rights those in a mode, for a new group is not to have what the old one had.

    Nor is whom the next ACL denies to have what his group or all others have, nor the group what an ACL that goes
    leaves as its rights: the mask.
    """
    own_acl = scan.own_acl(fd, shared)
    _give_mode(fd, mode & acl.mode_without(own_acl, stat.S_IMODE(found.st_mode)), own_acl)


def _give_mode(fd: int, mode: int, own_acl: bytes) -> None:
    if own_acl:  # whose mask chmod(2) would take the group's bits for
        _set(fd, acl.ACCESS, acl.with_mode(own_acl, mode))
        mode = mode & 0o7000 | os.fstat(fd).st_mode & 0o777
    if (os.fstat(fd).st_mode & 0o7777) != mode:  # after the ACL, whose mask is the group's bits
        os.chmod(fd, mode)


def keep_own(fd: int, live: int | None, shared: tuple[str, ...]) -> None:
    """Give a new file the attributes that are not shared of the live one that it replaces, and no others."""
    own = tuple(prefix for prefix in scan.XATTRS if prefix not in shared)
    values = {} if live is None or not own else {name: os.getxattr(live, name) for name in scan.xattrs(live, own)}
    for name in scan.xattrs(fd, own) if own else ():
        if name not in values:  # of the inbox's default ACL
            os.removexattr(fd, name)
    for name, value in values.items():
        _set(fd, name, value)


def _set(fd: int, name: str, value: bytes) -> None:
    if _has(fd, name, value):
        return
    try:
        os.setxattr(fd, name, value)
    except OSError as error:  # a value that is refused (EINVAL) is no user's race, which the same word tells of
        code = errno.ENOTSUP if error.errno == errno.EINVAL else error.errno
        raise OSError(code, f"attribute {name} is not taken here: {error.strerror}") from error


def _has(fd: int, name: str, value: bytes) -> bool:
    try:
        return os.getxattr(fd, name) == value
    except OSError:
        return False


def _own(state: State, chown: Callable[[int, int], None]) -> None:
    """Give the owner; without root only a change that is one can fail, and then it must be said."""
    if os.geteuid() == 0 or (state.uid, state.gid) != (os.geteuid(), os.getegid()):
        chown(state.uid, state.gid)
