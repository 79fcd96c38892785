"""Give what came with the master's numbers to the same users and groups here, once for what was received.

A number that was given may be one that is to be translated too, so a file cannot tell whether it was done. So first
each file's owner-to-be is written down, and then given: however often that is repeated, it stays the same. The door
must be closed: what is received in between has the master's numbers again.
"""

import errno
import json
import os
import stat
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from hotpair import acl, beneath, descend, log, paths, scan, watch
from hotpair.beneath import Place
from hotpair.exits import ConfigFail
from hotpair.hotsync import identity, pack
from hotpair.owners import Owners

CAPABILITY = "security.capability"
Entry = dict[str, Any]  # of the list: path, inode, owner from and to, mode, attributes


def repair_owners(patterns: Iterable[str], owners: Owners, received: str) -> tuple[int, tuple[str, ...]]:
    """Give every file below these live paths its owner here; return how many were to be given, and what failed.

    owners: the number here by the number there, of those that differ (`accounts.renumbered`).
    received: names what was received, such as the epoch that the promotion begins; for the same name it is done once.
    """
    if not any(owners) or watch.read(_done()) == received:
        return 0, ()
    paths.make_private(paths.state("hotsync"))
    if not _planned(received):
        _plan(patterns, owners, received)
    count, failures = 0, []
    for entry in _entries():
        count += 1
        if failure := _give(entry):
            failures.append(failure)
    if not failures:
        watch.replace(_done(), received)
        os.unlink(_list())
    return count, tuple(failures)


def _done() -> str:
    return paths.state("hotsync", "owners.done")


def _list() -> str:
    return paths.state("hotsync", "owners.list")


def _planned(received: str) -> bool:
    try:
        with open(_list(), encoding="utf-8") as file:
            return bool(json.loads(file.readline()) == received)
    except FileNotFoundError:
        return False
    except ValueError as error:
        raise ConfigFail(f"{_list()}: not a list of owners", "remove it if no promotion is under way") from error


def _plan(patterns: Iterable[str], owners: Owners, received: str) -> None:
    """Write down what is to be given, whole and on the disk before anything is."""
    new = _list() + ".new"
    with open(new, "w", encoding="utf-8") as file:
        file.write(json.dumps(received) + "\n")
        for live in pack.expand(patterns):
            for entry in _survey(live, owners):
                file.write(json.dumps(entry) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.rename(new, _list())


def _entries() -> Iterator[Entry]:
    with open(_list(), encoding="utf-8") as file:
        file.readline()
        yield from map(json.loads, file)


def _survey(live: str, owners: Owners) -> Iterator[Entry]:
    """Yield what is to be given to a live path and all below it."""
    pending = [(os.path.dirname(live), [os.path.basename(live)])]
    while pending:
        folder, names = pending.pop()
        with suppress(FileNotFoundError, NotADirectoryError):  # nothing there, or a link on the way: none of ours
            fd = descend.open_directory(folder)
            try:
                for name in names or os.listdir(fd):
                    path = f"{folder.rstrip('/')}/{name}"
                    if identity.is_own(path):
                        continue
                    with suppress(FileNotFoundError):
                        found = os.stat(name, dir_fd=fd, follow_symlinks=False)
                        yield from _entry(Place(fd, name), path, found, owners)
                        if stat.S_ISDIR(found.st_mode):
                            pending.append((path, []))
            finally:
                os.close(fd)


def _entry(at: Place, live: str, found: os.stat_result, owners: Owners) -> Iterator[Entry]:
    """Yield what is to be given to one path, if anything is."""
    have = found.st_uid, found.st_gid
    values = {} if stat.S_ISLNK(found.st_mode) else _attributes(f"/proc/self/fd/{at.fd}/{at.name}")
    given = {name: acl.with_numbers(value, *owners) for name, value in values.items() if name != CAPABILITY}
    if owners.of(*have) == have and given.items() <= values.items():
        return
    yield {
        "path": live,
        "inode": found.st_ino,
        "from": have,
        "to": owners.of(*have),
        "mode": stat.S_IMODE(found.st_mode),  # chown(2) clears set-uid bits and capabilities
        "attributes": {name: b64encode(value).decode() for name, value in {**values, **given}.items()},
    }


def _attributes(path: str) -> dict[str, bytes]:
    """Return a path's ACLs and capabilities; none where the file system has no attributes."""
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        return {}
    wanted = (name for name in names if name.startswith((*scan.ACLS, CAPABILITY)))
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in wanted}


def _give(entry: Entry) -> str:
    """Give one file what was written down, unless it is no longer there or another; return how that failed or ""."""
    try:
        with beneath.place(entry["path"]) as at:
            fd = os.open(at.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at.fd)
        try:
            found = os.fstat(fd)
            owner = found.st_uid, found.st_gid
            if found.st_ino == entry["inode"] and list(owner) in (entry["from"], entry["to"]):
                _give_open(f"/proc/self/fd/{fd}", found, entry)
        finally:
            os.close(fd)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{log.escape(entry['path'])}: {error.strerror}"
    return ""


def _give_open(itself: str, found: os.stat_result, entry: Entry) -> None:
    if [found.st_uid, found.st_gid] != entry["to"]:
        os.chown(itself, *entry["to"])
    if not stat.S_ISLNK(found.st_mode):
        for name, value in entry["attributes"].items():
            os.setxattr(itself, name, b64decode(value))
        if stat.S_IMODE(os.stat(itself).st_mode) != entry["mode"]:
            os.chmod(itself, entry["mode"])
