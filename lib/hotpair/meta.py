"""Give a file the owner, mode, extended attributes (ACLs are among them) and times of a State."""

import os
from base64 import b64decode
from collections.abc import Callable

from hotpair import beneath, scan
from hotpair.beneath import Place
from hotpair.scan import State


def give(at: Place, state: State) -> None:
    """Make the metadata of what stands at a place equal to the state's. Its kind must be the state's."""
    if state.kind == "link":
        _own(state, lambda uid, gid: os.chown(at.name, uid, gid, dir_fd=at.fd, follow_symlinks=False))
        os.utime(at.name, ns=(state.mtime_ns, state.mtime_ns), dir_fd=at.fd, follow_symlinks=False)
        return
    fd = beneath.open_read(at)
    try:
        give_fd(fd, state)
    finally:
        os.close(fd)


def give_fd(fd: int, state: State) -> None:
    """The same for an open file or directory."""
    found = os.fstat(fd)
    if (found.st_uid, found.st_gid) != (state.uid, state.gid):  # before the mode: chown(2) clears set-uid bits
        _own(state, lambda uid, gid: os.chown(fd, uid, gid))
    wanted = dict(state.xattrs)
    for name in os.listxattr(fd):
        if name.startswith(scan.XATTRS) and not name.startswith("trusted.overlay.") and name not in wanted:
            os.removexattr(fd, name)
    for name, value in state.xattrs:
        if not _has(fd, name, b64decode(value)):
            os.setxattr(fd, name, b64decode(value))
    if (os.fstat(fd).st_mode & 0o7777) != state.mode:  # after the ACL, whose mask is the group's bits
        os.chmod(fd, state.mode)
    if state.kind == "file":
        os.utime(fd, ns=(state.mtime_ns, state.mtime_ns))


def _has(fd: int, name: str, value: bytes) -> bool:
    try:
        return os.getxattr(fd, name) == value
    except OSError:
        return False


def _own(state: State, chown: Callable[[int, int], None]) -> None:
    """Give the owner; without root only a change that is one can fail, and then it must be said."""
    if os.geteuid() == 0 or (state.uid, state.gid) != (os.geteuid(), os.getegid()):
        chown(state.uid, state.gid)
