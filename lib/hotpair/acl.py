"""POSIX ACLs that are not shared: the mode of a file that has one, and the same ACL for another mode. Pure.

Where a file has an ACL with a mask, the mode's group bits are the mask, which says nothing about the group itself.
"""

import struct
from collections.abc import Iterator

ACCESS = "system.posix_acl_access"
_HEADER, _ENTRY = struct.Struct("<I"), struct.Struct("<HHI")  # linux/posix_acl_xattr.h: version; tag, permissions, id
_SHIFT = {0x01: 6, 0x04: 3, 0x20: 0}  # owner, owning group, others: where their permissions are in a mode


def mode_without(acl: bytes, mode: int) -> int:
    """Return the mode that a file with this ACL and mode would have without the ACL."""
    for tag, permissions, _ in _entries(acl):
        if tag in _SHIFT:
            mode = mode & ~(7 << _SHIFT[tag]) | permissions << _SHIFT[tag]
    return mode


def with_mode(acl: bytes, mode: int) -> bytes:
    """Return the ACL with the permissions of a mode for owner, owning group and others; the rest stays."""
    changed = [
        (tag, mode >> _SHIFT[tag] & 7 if tag in _SHIFT else permissions, id_) for tag, permissions, id_ in _entries(acl)
    ]
    return acl[: _HEADER.size] + b"".join(_ENTRY.pack(*entry) for entry in changed)


def _entries(acl: bytes) -> Iterator[tuple[int, int, int]]:
    return _ENTRY.iter_unpack(acl[_HEADER.size :])
