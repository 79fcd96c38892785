"""Generations: numbered copies of what a file held before, .1 the newest. The caller holds the state lock.

Generation 0 is a copy of the present content, taken when it is first seen: an edit in place destroys what it
replaces, so the copy must exist before. When the next content is seen, 0 becomes 1, and so on. Nothing is removed
here but by `trim`, which is called when both nodes agreed on the newest content.
"""

import errno
import os
from contextlib import suppress
from typing import NamedTuple

from hotpair import beneath, meta, paths, scan
from hotpair.beneath import Place
from hotpair.config import FilesSet
from hotpair.scan import State

STORE = "/var/lib/hotpair/generations"
NAME_MAX = 255  # bytes in a file name, linux/limits.h


class Generation(NamedTuple):
    """One kept copy: its number, the live path of the copy, and its state."""

    number: int
    copy: str
    state: State


def slot(files: FilesSet, live: str, number: int) -> str:
    """Return where generation `number` of a path is kept, as a live path."""
    numbered = f"{live}.{number}"
    if files.generations == "beside" and number and len(os.fsencode(numbered.rsplit("/", 1)[1])) <= NAME_MAX:
        return numbered
    return f"{STORE}/{number}{live}"


def _state(copy: str) -> State | None:
    return scan.look(copy)[0]


def _exists(copy: str) -> bool:
    try:
        with beneath.place(copy) as at:
            return beneath.lstat(at) is not None
    except FileNotFoundError:
        return False


def _make_parent(copy: str) -> None:
    parent = copy.rsplit("/", 1)[0]
    if parent.startswith(STORE):
        paths.make_private(paths.under(parent))


def _move(source: str, target: str) -> None:
    """Rename a copy; where the target is on another file system, make it whole there first."""
    _make_parent(target)
    with beneath.place(source) as old, beneath.place(target) as new:
        try:
            beneath.rename(old, new)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            staging = beneath.inbox(new)
            try:
                moved = beneath.lstat(old)
                assert moved
                _copy(old, Place(staging, "moving"), scan.state_of(old, moved))
                beneath.rename(Place(staging, "moving"), new)
            finally:
                os.close(staging)
            os.unlink(old.name, dir_fd=old.fd)
        os.fsync(new.fd)


def _copy(source: Place, target: Place, state: State) -> None:
    """Copy a content with its metadata, flushed to the disk. Raises Unsettled when it is not the one of the state."""
    if beneath.lstat(target) is not None:
        os.unlink(target.name, dir_fd=target.fd)
    if state.kind == "link":
        os.symlink(state.digest, target.name, dir_fd=target.fd)
    else:
        _copy_content(source, target, state)
    meta.give(target, state)


def _copy_content(source: Place, target: Place, state: State) -> None:
    try:
        fd = beneath.open_read(source)
    except OSError as error:
        raise scan.Unsettled(f"{source.name}: {error.strerror} while it was copied") from error
    copy = os.open(target.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target.fd)
    try:
        if scan.digest_of(fd, copy) != state.digest:
            raise scan.Unsettled(f"{source.name}: changed while it was copied")
        os.fsync(copy)
    finally:
        os.close(fd)
        os.close(copy)


def present(files: FilesSet, live: str, state: State | None, source: str) -> None:
    """Make generation 0 hold the content that is seen at the live path `source`; what it held becomes generation 1.

    The copy is whole before anything is renamed, so a full disk costs the new generation and none of the old.
    Doing it twice changes nothing. Raises Unsettled when the content is no longer the one in `state`.
    """
    newest = slot(files, live, 0)
    kept = _state(newest)
    if kept is not None and state is not None and kept.content == state.content:
        with beneath.place(newest) as at:
            meta.give(at, state)
        return
    copy = f"{STORE}/tmp/{os.getpid()}"
    keepable = state is not None and state.kind in ("file", "link")
    if state is not None and keepable:
        _make_parent(copy)
        with beneath.place(source) as at, beneath.place(copy) as target:
            try:
                _copy(at, target, state)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(target.name, dir_fd=target.fd)
                raise
    if kept is not None:
        _rotate(files, live)
    if keepable:
        _move(copy, newest)


def _rotate(files: FilesSet, live: str) -> None:
    """Age every generation by one, the oldest first, up to the first gap: a rotation that was cut short left it."""
    last = 0
    while _exists(slot(files, live, last + 1)):
        last += 1
    for number in range(last, -1, -1):
        _move(slot(files, live, number), slot(files, live, number + 1))


def trim(files: FilesSet, live: str) -> None:
    """Remove the generations past `keep`: they have newer ones that both nodes agreed on."""
    number = files.keep + 1
    while _exists(slot(files, live, number)):
        with beneath.place(slot(files, live, number)) as at:
            os.unlink(at.name, dir_fd=at.fd)
        number += 1


def generations(files: FilesSet, live: str) -> list[Generation]:
    """Return the kept generations of a path, newest first; a gap that a crash left is skipped."""
    found = []
    number, missing = 1, 0
    while missing < 2:
        copy = slot(files, live, number)
        state = _state(copy)
        if state is None:
            missing += 1
        else:
            found.append(Generation(number, copy, state))
        number += 1
    return found


def contents(files: FilesSet, live: str) -> set[tuple[str, str]]:
    """Return every content that is kept for a path, the copy of the present one included."""
    present_copy = _state(slot(files, live, 0))
    kept = {generation.state.content for generation in generations(files, live)}
    return kept | {present_copy.content} if present_copy else kept
