"""POSIX ACLs: the mode of a file whose ACL is not shared, its ACL for another mode; those named by other numbers. Pure.

Where a file has an ACL with a mask, the mode's group bits are the mask, which says nothing about the group itself.
"""

import struct
from collections.abc import Iterator, Mapping

ACCESS = "system.posix_acl_access"
_HEADER, _ENTRY = struct.Struct("<I"), struct.Struct("<HHI")  # linux/posix_acl_xattr.h: version; tag, permissions, id
_USER, _GROUP, _MASK = 0x02, 0x08, 0x10  # tags: of those that an entry names, and of what they may have at most
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


def beyond_mode(acl: bytes) -> bytes:
    """Return what an ACL says besides the mode of its file, which chmod(2) leaves as it is; no ACL as it is."""
    if len(acl) % _ENTRY.size != _HEADER.size:
        return acl
    masked = any(tag == _MASK for tag, _, _ in _entries(acl))
    in_mode = {0x01, 0x20, _MASK if masked else 0x04}
    entries = ((tag, 0 if tag in in_mode else permissions, id_) for tag, permissions, id_ in _entries(acl))
    return acl[: _HEADER.size] + b"".join(_ENTRY.pack(*entry) for entry in entries)


def with_numbers(acl: bytes, users: Mapping[int, int], groups: Mapping[int, int]) -> bytes:
    """Return the ACL with other numbers of those it names, sorted as setfacl(1) does; one that is none as it is."""
    if len(acl) % _ENTRY.size != _HEADER.size:
        return acl
    numbers = {_USER: users, _GROUP: groups}
    entries = ((tag, permissions, numbers.get(tag, {}).get(id_, id_)) for tag, permissions, id_ in _entries(acl))
    ordered = sorted(entries, key=lambda entry: (entry[0], entry[2]))
    return acl[: _HEADER.size] + b"".join(_ENTRY.pack(*entry) for entry in ordered)


def _entries(acl: bytes) -> Iterator[tuple[int, int, int]]:
    return _ENTRY.iter_unpack(acl[_HEADER.size :])
