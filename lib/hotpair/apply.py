"""Apply: put a staged content in the place of the live one, without losing what a user writes meanwhile.

The new file is exchanged with the live one in one step (renameat2(2), RENAME_EXCHANGE), and what comes out is
compared with what was looked at when the change was decided. If a user was faster, the two are exchanged back.
A read lease held across the exchange tells of a writer who opened the old file in that instant.
"""

import errno
import hashlib
import os
import stat
from contextlib import suppress
from typing import NamedTuple

from hotpair import beneath, keep, meta, paths, quiet, scan
from hotpair.beneath import Place
from hotpair.config import FilesSet
from hotpair.exits import Fail
from hotpair.scan import State, Unsettled

# What a user causes who replaces, removes or turns into another kind what is being looked at.
RACE = (errno.ENOENT, errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.EEXIST)
TRIES = 10  # exchanges back and forth while a user keeps replacing the file


class Decided(NamedTuple):
    """A change that was decided here: what stood at the path then, what shall stand there, where it is staged."""

    path: str
    here: State | None
    new: State | None
    stage: str  # live path of the staged content, "" when there is none


class Impossible(Fail):
    """This change cannot be made here; the peer is told why."""

    code = os.EX_CANTCREAT


def stage_directory(files: FilesSet, live: str) -> str:
    """Return the live path of the inbox beside a path: same directory, so that a rename reaches it."""
    return f"{live.rsplit('/', 1)[0]}/{paths.INBOX}/{files.name}"


def make_parents(live: str) -> None:
    """Create the missing directories above a path, as `mkdir -p` does, following no link."""
    directory = live.rsplit("/", 1)[0]
    try:
        os.close(beneath.open_directory(directory))
    except FileNotFoundError:
        make_parents(directory)
        with beneath.place(directory) as at:
            os.mkdir(at.name, 0o755, dir_fd=at.fd)


def apply(files: FilesSet, change: Decided) -> None:
    """Make the live path what was decided. The caller holds the state lock.

    Raises Unsettled when the live path is no longer what it was, Impossible, or OSError (a full disk).
    """
    try:
        recover(files, change.path)
        with beneath.place(change.path) as at:
            _apply(files, change, at)
    except OSError as error:
        if error.errno not in RACE:
            raise
        raise Unsettled(f"{change.path}: {error.strerror} while it was applied") from error


def signature(change: Decided) -> str:
    """Return the signature of a path that holds what was applied; "" when it no longer does, or is too young."""
    try:
        state, found = scan.look(change.path)
    except (Unsettled, OSError):
        return ""
    if state != change.new:
        return ""
    return "-" if found is None else scan.trusted(found)


def _apply(files: FilesSet, change: Decided, at: Place) -> None:
    path, new = change.path, change.new
    found = beneath.lstat(at)
    if (None if found is None else scan.state_of(at, found)) != change.here:
        raise Unsettled(f"{path}: changed since it was decided")
    keep.present(files, path, change.here, path)  # a copy of what is replaced must stand before it goes
    inbox = beneath.inbox(at, files.name)
    swap = Place(inbox, _swap_name(path))
    try:
        if new is None:
            _remove(files, path, at, swap, found)
        elif change.here is not None and change.here.content == new.content:
            _give(at, found, new)
        else:
            _stage(change, new, swap)
            _put(at, swap, found)
    finally:
        os.close(inbox)
    os.fsync(at.fd)
    with suppress(Unsettled):  # a user was faster: the next look keeps what he wrote
        keep.present(files, path, new, path)  # after the exchange, for it costs time that the user waits for


def _swap_name(path: str) -> str:
    """Return the name in the inbox under which the new content goes in and the old one comes out."""
    return f"swap-{hashlib.blake2b(os.fsencode(path), digest_size=8).hexdigest()}"


def recover(files: FilesSet, path: str) -> None:
    """Take up what a crash left in mid-exchange: a content that is no generation yet becomes one."""
    swap = f"{stage_directory(files, path)}/{_swap_name(path)}"
    try:
        with beneath.place(swap) as at:
            found = beneath.lstat(at)
            if found is None:
                return
            state = scan.state_of(at, found)
            if state.kind in ("file", "link") and state.content not in keep.contents(files, path):
                keep.present(files, path, state, swap)
            _drop(at)
    except FileNotFoundError:
        return


def _stage(change: Decided, new: State, swap: Place) -> None:
    """Put what shall be live under the swap name, with its metadata already right."""
    if new.kind == "link":
        os.symlink(new.digest, swap.name, dir_fd=swap.fd)
    elif new.kind == "directory":
        os.mkdir(swap.name, 0o700, dir_fd=swap.fd)
    else:
        beneath.rename(Place(swap.fd, change.stage.rsplit("/", 1)[1]), swap)
    meta.give(swap, new)
    if new.kind == "file":
        fd = beneath.open_read(swap)
        os.fsync(fd)
        os.close(fd)


def _give(at: Place, found: os.stat_result | None, new: State) -> None:
    """Change metadata alone, on the very inode that was looked at."""
    if new.kind == "link":
        meta.give(at, new)
        return
    fd = beneath.open_read(at)
    try:
        if found is None or quiet.of(os.fstat(fd)) != quiet.of(found):
            raise Unsettled(f"{at.name}: replaced since it was decided")
        meta.give_fd(fd, new)
        os.fsync(fd)
    finally:
        os.close(fd)


def _put(at: Place, staged: Place, found: os.stat_result | None) -> None:
    if found is None:
        try:
            beneath.rename(staged, at, beneath.RENAME_NOREPLACE)
        except FileExistsError as error:
            _drop(staged)
            raise Unsettled(f"{at.name}: created since it was decided") from error
        return
    ours = beneath.lstat(staged)
    lease = _lease(at, found)
    try:
        if not _exchange(staged, at):
            return
        if _same(beneath.lstat(staged), found) and not (lease >= 0 and beneath.lease_broken(lease)):
            _drop_old(at, staged)
            return
        _exchange_back(at, staged, ours)
    finally:
        if lease >= 0:
            os.close(lease)
    _drop(staged)
    raise Unsettled(f"{at.name}: written since it was decided")


def _exchange(staged: Place, at: Place) -> bool:
    """Exchange the two; False where the file system cannot (NFS, FUSE) and a plain rename had to do."""
    try:
        beneath.rename(staged, at, beneath.RENAME_EXCHANGE)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        beneath.rename(staged, at)
        return False
    return True


def _lease(at: Place, found: os.stat_result) -> int:
    """Return a descriptor that holds a lease on the live file, -1 where leases do not work or it is no file."""
    if not stat.S_ISREG(found.st_mode):
        return -1
    fd = beneath.open_read(at)
    held = beneath.hold_lease(fd)
    if held:
        return fd
    os.close(fd)
    if held is False:
        raise Unsettled(f"{at.name}: somebody has it open for writing")
    return -1


def _same(came_out: os.stat_result | None, found: os.stat_result) -> bool:
    """Say whether the inode that came out is the one that was looked at, unwritten (a rename moves its ctime)."""
    if came_out is None:
        return False
    return (came_out.st_dev, came_out.st_ino, came_out.st_size, came_out.st_mtime_ns) == (
        found.st_dev,
        found.st_ino,
        found.st_size,
        found.st_mtime_ns,
    )


def _exchange_back(at: Place, staged: Place, ours: os.stat_result | None) -> None:
    """Undo an exchange until our own inode is the staged one again: the user may be replacing the file meanwhile."""
    for _ in range(TRIES):
        try:
            beneath.rename(staged, at, beneath.RENAME_EXCHANGE)
        except FileNotFoundError:  # removed by the user meanwhile: what stood there before goes back
            with suppress(FileExistsError):
                beneath.rename(staged, at, beneath.RENAME_NOREPLACE)
                return
        out = beneath.lstat(staged)
        if out is not None and ours is not None and out.st_ino == ours.st_ino:
            return
    raise OSError(errno.EBUSY, "replaced faster than it can be put back", at.name)


def _drop_old(at: Place, displaced: Place) -> None:
    """Remove what was exchanged out; a directory with entries goes back, for they belong to nobody's set."""
    try:
        _drop(displaced)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        beneath.rename(displaced, at, beneath.RENAME_EXCHANGE)
        _drop(displaced)
        raise Impossible(f"{at.name} is a directory that is not empty", "move its entries away") from error


def _drop(at: Place) -> None:
    found = beneath.lstat(at)
    if found is not None and stat.S_ISDIR(found.st_mode):
        os.rmdir(at.name, dir_fd=at.fd)
    elif found is not None:
        os.unlink(at.name, dir_fd=at.fd)


def _remove(files: FilesSet, path: str, at: Place, gone: Place, found: os.stat_result | None) -> None:
    """Move the live file out, look whether it is the one that was meant, and only then remove it."""
    if found is None:
        return
    lease = _lease(at, found)
    try:
        beneath.rename(at, gone, beneath.RENAME_NOREPLACE)
        out = beneath.lstat(gone)
        if out is not None and (not _same(out, found) or (lease >= 0 and beneath.lease_broken(lease))):
            try:
                beneath.rename(gone, at, beneath.RENAME_NOREPLACE)
            except FileExistsError:  # the user was faster twice: what he wrote first becomes a generation
                keep.present(files, path, scan.state_of(gone, out), f"{stage_directory(files, path)}/{gone.name}")
                _drop(gone)
            raise Unsettled(f"{at.name}: written since it was decided")
    finally:
        if lease >= 0:
            os.close(lease)
    try:
        _drop(gone)
    except OSError as error:
        beneath.rename(gone, at, beneath.RENAME_NOREPLACE)
        raise Impossible(f"{at.name} is a directory that is not empty", "move its entries away") from error
