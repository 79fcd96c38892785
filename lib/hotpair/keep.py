"""Generations: numbered copies of what a file held before, .1 the newest. The caller holds the state lock.

Generation 0 is a copy of the present content, taken when it is first seen: an edit in place destroys what it
replaces, so the copy must exist before. When the next content is seen, 0 becomes 1, and so on. Nothing is removed
here but by `trim`, which is called when both nodes agreed on the newest content, and by `retention`.
"""

import errno
import os
import stat
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from hotpair import beneath, descend, meta, paths, scan
from hotpair.beneath import Place
from hotpair.config import AnySet
from hotpair.scan import State
from hotpair.treeset import TreeSet

STORE = "/var/lib/hotpair/generations"
NAME_MAX = 255  # bytes in a file name, linux/limits.h


class Generation(NamedTuple):
    """One kept copy: its number, the live path of the copy, and its state."""

    number: int
    copy: str
    state: State


def slot(files: AnySet, live: str, number: int) -> str:
    """Return where generation `number` of a path is kept, as a live path.

    For a tree that is on its own file system, so that a rename keeps what was replaced, and it has no generation 0:
    a second copy of all that a tree holds is too much to ask for.
    """
    if isinstance(files, TreeSet):
        shared = files.shared(live)  # below its depth, so that no kept file stands where another needs a directory
        return f"{files.own('.kept')}/{number}/{shared.count('/')}{shared}"
    numbered = f"{live}.{number}"
    if files.generations == "beside" and number and _usable(numbered):
        return numbered
    return f"{STORE}/{number}{live}"


def _usable(numbered: str) -> bool:
    """Say whether a copy can have this name: it is not too long, and no directory of somebody's has it."""
    place = paths.under(numbered)
    directory = os.path.isdir(place) and not os.path.islink(place)
    return not directory and len(os.fsencode(numbered.rsplit("/", 1)[1])) <= NAME_MAX


def _state(files: AnySet, copy: str) -> State | None:
    return scan.look(copy, carried=files.carried)[0]


def _exists(copy: str) -> bool:
    try:
        with beneath.place(copy) as at:
            return beneath.lstat(at) is not None
    except FileNotFoundError:
        return False


def _make_parent(copy: str) -> None:
    parent = copy.rsplit("/", 1)[0]
    if parent.startswith(STORE) or f"/{paths.INBOX}/" in parent:
        os.close(descend.open_directory(parent, partial(beneath.make_directory, 0o700)))


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


def present(files: AnySet, live: str, state: State | None, source: str) -> None:
    """Make generation 0 hold the content that is seen at the live path `source`; what it held becomes generation 1.

    The copy is whole before anything is renamed, so a full disk costs the new generation and none of the old.
    Doing it twice changes nothing. Raises Unsettled when the content is no longer the one in `state`. A tree has no
    generation 0: see `replaced` and `aside`.
    """
    if isinstance(files, TreeSet):
        return
    newest = slot(files, live, 0)
    kept = _state(files, newest)
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


def source(files: AnySet, live: str) -> str:
    """Return from where the present content is read that is sent: root's own copy, or a tree's live file."""
    return live if isinstance(files, TreeSet) else slot(files, live, 0)


def replaced(files: AnySet, live: str, at: Place) -> None:
    """Let go of what stood at a path until now: of a tree's it becomes a generation, of others there is a copy.

    Raises OSError for a directory with entries.
    """
    found = beneath.lstat(at)
    if found is None:
        return
    if stat.S_ISDIR(found.st_mode):
        os.rmdir(at.name, dir_fd=at.fd)
    elif isinstance(files, TreeSet) and files.keep and stat.S_IFMT(found.st_mode) in (stat.S_IFREG, stat.S_IFLNK):
        if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
            _apart(at, found)
        _rotate(files, live)
        newest = slot(files, live, 1)
        _make_parent(newest)
        with beneath.place(newest) as target:
            beneath.rename(at, target)
    else:
        os.unlink(at.name, dir_fd=at.fd)


def _apart(at: Place, found: os.stat_result) -> None:
    """Make what stands at a place of our own a file of one name: by another, a user could write to a generation."""
    copy = Place(at.fd, "moving")
    _copy(at, copy, scan.state_of(at, found))
    beneath.rename(copy, at)


def aside(files: TreeSet, live: str, state: State) -> None:
    """Keep a copy of a content that the peer could not be given: an edit in place would destroy the only one.

    Raises Unsettled when it is no longer there, OSError when there is no room.
    """
    if state.kind not in ("file", "link") or state.content in contents(files, live):
        return
    copy = f"{files.own('.kept')}/tmp-{os.getpid()}"
    _make_parent(copy)
    with beneath.place(live) as at, beneath.place(copy) as target:
        try:
            _copy(at, target, files.carried.local(state))
            replaced(files, live, target)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(target.name, dir_fd=target.fd)


def _rotate(files: AnySet, live: str) -> None:
    """Age every generation by one, the oldest first, up to the first gap: a rotation that was cut short left it."""
    last = 0
    while _exists(slot(files, live, last + 1)):
        last += 1
    for number in range(last, 0 if isinstance(files, TreeSet) else -1, -1):
        _move(slot(files, live, number), slot(files, live, number + 1))


def trim(files: AnySet, live: str) -> None:
    """Remove the generations past `keep`: they have newer ones that both nodes agreed on."""
    if not beneath.plainly_absent(slot(files, live, files.keep + 1)):
        remove(files, live, files.keep + 1)


def remove(files: AnySet, live: str, number: int) -> None:
    """Remove a generation and all older ones."""
    while _exists(slot(files, live, number)):
        with beneath.place(slot(files, live, number)) as at:
            os.unlink(at.name, dir_fd=at.fd)
        number += 1


def generations(files: AnySet, live: str) -> list[Generation]:
    """Return the kept generations of a path, newest first; a gap that a crash left is skipped."""
    found = []
    number, missing = 1, 0
    while missing < 2:
        copy = slot(files, live, number)
        state = _state(files, copy)
        if state is None:
            missing += 1
        else:
            found.append(Generation(number, copy, state))
        number += 1
    return found


def contents(files: AnySet, live: str) -> set[tuple[str, str]]:
    """Return every content that is kept for a path, the copy of the present one included."""
    present_copy = None if isinstance(files, TreeSet) else _state(files, slot(files, live, 0))
    kept = {generation.state.content for generation in generations(files, live)}
    return kept | {present_copy.content} if present_copy else kept
