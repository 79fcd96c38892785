"""Hard links: which of the files that are sent are one file under several names.

This is a hint. The receiver links to a path that holds the very state that was proposed, or has the content carried as
ever (`apply`).
"""

import os
from contextlib import suppress

from hotpair import paths
from hotpair.archive import Archive
from hotpair.detect import Change, Scope


def find(scope: Scope, batch: list[Change]) -> list[Change]:
    """Return a batch, the changes that are hard links with the path that each is one of.

    That path comes earlier in the batch, or both nodes agreed on what it holds.
    """
    first: dict[str, Change] = {}
    alone = scope.unmovable
    return [c if c.path in alone else c._replace(twin=_twin(scope.archive, c, first)) for c in batch]


def _twin(archive: Archive, change: Change, first: dict[str, Change]) -> str:
    inode = _inode_of(change)
    if not inode:
        return ""
    earlier = first.setdefault(inode, change)
    if earlier is not change and earlier.new == change.new:
        return earlier.path
    return _agreed(archive, inode, change)


def _inode_of(change: Change) -> str:
    """Return the inode of a file that has another name as well, "" for anything else."""
    if change.new is None or change.new.kind != "file":
        return ""
    with suppress(OSError):
        seen = os.lstat(paths.under(change.path))
        return f"{seen.st_dev} {seen.st_ino}" if seen.st_nlink > 1 else ""
    return ""


def _agreed(archive: Archive, inode: str, change: Change) -> str:
    for path in archive.by_inode(inode):
        row = archive.row(path)
        if path != change.path and row.agreed == row.seen == change.new:
            return path
    return ""
