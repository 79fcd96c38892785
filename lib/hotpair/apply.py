"""Apply: put a staged content in the place of the live one, without losing what a user writes meanwhile."""

import errno
import hashlib
import os
from contextlib import suppress
from typing import NamedTuple

from hotpair import beneath, exchange, keep, meta, paths, quiet, scan
from hotpair.beneath import Place
from hotpair.config import FilesSet
from hotpair.scan import State, Unsettled

# What a user causes who replaces, removes or turns into another kind what is being looked at.
RACE = (errno.ENOENT, errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.EEXIST)


class Decided(NamedTuple):
    """A change that was decided here: what stood at the path then, what shall stand there, where it is staged."""

    path: str
    here: State | None
    new: State | None
    stage: str  # live path of the staged content, "" when there is none


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
            exchange.put(at, swap, found)
    finally:
        os.close(inbox)
    os.fsync(at.fd)
    with suppress(Unsettled):  # a user was faster: the next look keeps what he wrote
        keep.present(files, path, new, path)  # after the exchange, for it costs time that the user waits for


def _swap_name(path: str) -> str:
    """Return the name in the inbox under which the new content goes in and the old one comes out."""
    return f"swap-{hashlib.blake2b(os.fsencode(path), digest_size=8).hexdigest()}"


def recover(files: FilesSet, path: str) -> None:
    """Take up what a crash left in mid-exchange: a content that is no generation yet becomes one.

    A directory with entries goes back to its place, for they belong to nobody's set.
    """
    swap = f"{stage_directory(files, path)}/{_swap_name(path)}"
    try:
        with beneath.place(swap) as at:
            found = beneath.lstat(at)
            if found is None:
                return
            state = scan.state_of(at, found)
            if state.kind in ("file", "link") and state.content not in keep.contents(files, path):
                keep.present(files, path, state, swap)
            if exchange.holds_entries(at):
                _put_back(path, at)
                recover(files, path)
            else:
                exchange.drop(at)
    except FileNotFoundError:
        return


def _put_back(path: str, swap: Place) -> None:
    with beneath.place(path) as at:
        if exchange.holds_entries(at):
            raise OSError(errno.ENOTEMPTY, f"{swap.name} in {paths.INBOX} holds entries as well", path)
        beneath.rename(swap, at, beneath.RENAME_EXCHANGE if beneath.lstat(at) else beneath.RENAME_NOREPLACE)


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


def _remove(files: FilesSet, path: str, at: Place, gone: Place, found: os.stat_result | None) -> None:
    """Move the live file out, look whether it is the one that was meant, and only then remove it."""
    if found is None:
        return
    lease = exchange.lease(at, found)
    try:
        beneath.rename(at, gone, beneath.RENAME_NOREPLACE)
        out = beneath.lstat(gone)
        if out is not None and (not exchange.same(out, found) or (lease >= 0 and beneath.lease_broken(lease))):
            try:
                beneath.rename(gone, at, beneath.RENAME_NOREPLACE)
            except FileExistsError:  # the user was faster twice: what he wrote first becomes a generation
                keep.present(files, path, scan.state_of(gone, out), f"{stage_directory(files, path)}/{gone.name}")
                exchange.drop(gone)
            raise Unsettled(f"{at.name}: written since it was decided")
    finally:
        if lease >= 0:
            os.close(lease)
    try:
        exchange.drop(gone)
    except OSError as error:
        beneath.rename(gone, at, beneath.RENAME_NOREPLACE)
        raise exchange.Impossible(f"{at.name} is a directory that is not empty", "move its entries away") from error
