"""A file system of its own for a tree, small enough to be filled. Only root can have one."""

from __future__ import annotations

import ctypes
import os
import tempfile

SIZE = "24m"  # above what hotpair wants to stay free (16 MB)
MNT_DETACH = 2  # sys/mount.h
_libc = ctypes.CDLL(None, use_errno=True)


def mount(directory: str) -> bool:
    """Mount an empty one; False where this is not allowed."""
    where = os.fsencode(directory)
    return os.geteuid() == 0 and _libc.mount(b"tmpfs", where, b"tmpfs", 0, f"size={SIZE},mode=755".encode()) == 0


def unmount(directory: str) -> None:
    if _libc.umount2(os.fsencode(directory), MNT_DETACH) != 0:
        raise OSError(ctypes.get_errno(), "cannot unmount", directory)


def fill(directory: str, leave: int) -> str:
    """Take all room but `leave` bytes with a file; return its path."""
    handle, path = tempfile.mkstemp(dir=directory, prefix="filler-")
    try:
        room = os.fstatvfs(handle)
        size = room.f_bavail * room.f_frsize - leave
        if size > 0:
            os.posix_fallocate(handle, 0, size)
    finally:
        os.close(handle)
    return path
