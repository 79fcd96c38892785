"""What a peer may say: paths, states and names that are possible at all. Pure; what they are used for comes after."""

import os
import re

from hotpair.scan import SPECIALS, State

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}")
NAME_MAX, PATH_MAX, ID_MAX, NS_MAX = 255, 4096, 2**32 - 2, 2**63 - 1
XATTR_NAME_MAX, XATTR_SIZE_MAX = 255, 65536  # linux/limits.h
_DEVICE = re.compile(r"[bc]:(?:0|[1-9][0-9]{0,3}):(?:0|[1-9][0-9]{0,6})")  # 12 and 20 bits
_DIGEST = re.compile(r"[0-9a-f]{64}")


def encoded(text: str) -> bytes:
    """Return the bytes of a name; b"" for what no name can be (half a surrogate pair, NUL, nothing)."""
    try:
        found = os.fsencode(text)
    except UnicodeEncodeError:
        return b""
    return b"" if b"\0" in found else found


def path(text: object) -> bool:
    """Say whether this is a plain absolute path: no `.`, no `..`, nothing empty, nothing too long."""
    if not isinstance(text, str) or not text.startswith("/") or not 0 < len(encoded(text)) < PATH_MAX:
        return False
    return all(part not in ("", ".", "..") and len(os.fsencode(part)) <= NAME_MAX for part in text.split("/")[1:])


def node(name: object) -> bool:
    return isinstance(name, str) and bool(NAME.fullmatch(name))


def state(found: State) -> bool:
    """Say whether a path can have this state, and whether it is safe to use its digest as a name."""
    ids = 0 <= found.uid <= ID_MAX and 0 <= found.gid <= ID_MAX
    if not ids or not 0 <= found.mode <= 0o7777 or not -NS_MAX <= found.mtime_ns <= NS_MAX:
        return False
    if found.kind == "file":
        return 0 <= found.size <= NS_MAX and bool(_DIGEST.fullmatch(found.digest)) and _xattrs(found)
    if found.kind == "link":
        return (found.size, found.mode, found.xattrs) == (0, 0, ()) and 0 < len(encoded(found.digest)) < PATH_MAX
    if found.kind in SPECIALS:
        value = _DEVICE.fullmatch(found.digest) if found.kind == "device" else found.digest == ""
        return (found.size, found.mtime_ns, found.xattrs) == (0, 0, ()) and bool(value)
    return found.kind == "directory" and (found.size, found.mtime_ns, found.digest) == (0, 0, "") and _xattrs(found)


def _xattrs(found: State) -> bool:
    names = [name for name, _ in found.xattrs]
    if names != sorted(set(names)) or not all(0 < len(encoded(name)) <= XATTR_NAME_MAX for name in names):
        return False
    return all(len(value) <= XATTR_SIZE_MAX * 4 // 3 + 4 for _, value in found.xattrs)  # as base64
