"""The observer: what stands on a node, read without hotpair's help."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

INBOX = ".hotpair"
RACE = (errno.EINVAL, errno.EISDIR, errno.ENOTDIR, errno.ENODATA)  # it became another kind between two calls


class Thing(NamedTuple):
    """What the observer sees at a path."""

    kind: str
    content: bytes
    mode: int
    owner: tuple[int, int]
    mtime_ns: int
    xattrs: tuple[tuple[str, bytes], ...]

    @property
    def wrote(self) -> tuple[str, bytes]:
        """What a user wrote there."""
        return self.kind, self.content


def see(path: str) -> Thing | None:
    """Read a path as an outsider does."""
    try:
        found = os.lstat(path)
        owner = (found.st_uid, found.st_gid)
        if stat.S_ISLNK(found.st_mode):
            return Thing("link", os.fsencode(os.readlink(path)), 0, owner, found.st_mtime_ns, ())
        mode = stat.S_IMODE(found.st_mode)
        attributes = tuple((name, os.getxattr(path, name)) for name in sorted(os.listxattr(path)))
        if stat.S_ISDIR(found.st_mode):
            return Thing("directory", b"", mode, owner, 0, attributes)
        return Thing("file", Path(path).read_bytes(), mode, owner, found.st_mtime_ns, attributes)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in RACE:
            return see(path) if os.path.lexists(path) else None
        raise


def walk(top: str) -> Iterator[str]:
    """Yield every path below a directory, parents first, whatever is renamed meanwhile."""
    try:
        with os.scandir(top) as entries:
            found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return
    for name, directory in found:
        if name != INBOX:
            yield f"{top}/{name}"
            if directory:
                yield from walk(f"{top}/{name}")


def tree(top: str) -> dict[str, Thing]:
    """Return what stands below a directory, by path relative to it."""
    return {path[len(top) + 1 :]: thing for path in walk(top) if (thing := see(path))}


def brief(thing: Thing | None) -> str:
    """Describe what stands at a path, in a line of a failure."""
    return "nothing" if thing is None else repr(thing._replace(content=thing.content[:30]))
