"""Apply: put a staged content in the place of the live one, without losing what a user writes meanwhile."""

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from hotpair import beneath, beside, descend, exchange, keep, meta, paths, quiet, scan, stage
from hotpair.beneath import Place
from hotpair.config import AnySet
from hotpair.scan import State, Unsettled
from hotpair.stage import Decided
from hotpair.treeset import TreeSet

Agreed = Callable[[str], State | None]  # what both nodes agreed on about a path
# What a user causes who replaces, removes or turns into another kind what is being looked at.
RACE = (errno.ENOENT, errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.EEXIST)
_MAKE_PLAIN = partial(beneath.make_directory, 0o755)


def stage_directory(files: AnySet, live: str, aside: bool = False) -> str:
    """Return the live path of the inbox: on the file system of the path, so that a rename reaches it.

    aside: of the one for large contents, which are staged while runs empty the other.
    """
    directory = files.root if isinstance(files, TreeSet) else live.rsplit("/", 1)[0]
    return f"{directory}/{paths.INBOX}/{paths.lane(files.name, aside)}"


def inbox_of(files: AnySet, path: str, aside: bool = False) -> int:
    """Return a descriptor of the inbox for a path. A files set's is beside it, so that its directory is made."""
    if isinstance(files, TreeSet):
        return open_inbox(files, aside=aside)
    os.close(descend.open_directory(path.rpartition("/")[0], _MAKE_PLAIN))
    with beneath.place(path) as at:
        return open_inbox(files, at, aside)


def open_inbox(files: AnySet, at: Place | None = None, aside: bool = False) -> int:
    """Return a descriptor of the inbox of a place, made if missing. Raises OSError where it is not ours alone."""
    if isinstance(files, TreeSet):  # a root without the marker is not mounted: nothing is made there
        marker = descend.open_directory(files.marker)
        return beneath.private(marker, paths.lane(files.name, aside))
    assert at
    return beneath.inbox(at, paths.lane(files.name, aside))


def make_parents(files: AnySet, live: str, agreed: Agreed) -> None:
    """Create the missing directories above a path, following no link: of a files set as `mkdir -p` does.

    One of a tree may have been private: it is made as both nodes agreed on it, else for root alone, until the peer
    says what it is. Raises Unsettled where a user is faster.
    """
    make = partial(_make_as_agreed, files, agreed) if isinstance(files, TreeSet) else _MAKE_PLAIN
    os.close(descend.open_directory(live.rpartition("/")[0], make))


def _make_as_agreed(files: TreeSet, agreed: Agreed, fd: int, directory: str) -> None:
    state = agreed(directory)
    if state is None or state.kind != "directory":
        state = files.carried.shared(State("directory", 0, 0o700, os.geteuid(), os.getegid(), 0, "", ()))
    recover(files, directory)
    _apply(files, Decided(directory, None, state, ""), Place(fd, directory.rpartition("/")[2]))


def apply(files: AnySet, change: Decided) -> os.stat_result | None:
    """Make the live path what was decided; return the stat of a file that was put there, None when it is not wanted.

    The caller holds the state lock. Raises Unsettled when the live path is no longer what it was, Impossible, or
    OSError (a full disk).
    """
    try:
        recover(files, change.path, change.loser)
        with beneath.place(change.path) as at:
            return _apply(files, change, at)
    except Unsettled:
        with suppress(Unsettled):  # still being written: the next look takes it up
            recover(files, change.path)
        raise
    except OSError as error:
        if error.errno not in RACE:
            raise
        raise Unsettled(f"{change.path}: {error.strerror} while it was applied") from error


def signature(files: AnySet, change: Decided, put: os.stat_result | None = None) -> str:
    """Return the signature of a path that holds what was applied; "" when it no longer does, or is too young.

    put: that of a file right after it was put there, which need not be read again while nobody has touched it.
    """
    if put and change.new:
        with suppress(Unsettled, OSError), beneath.place(change.path) as at:
            found = beneath.lstat(at)
            if found and quiet.of(found) == quiet.of(put) and _as_given(files, at, found, change.new):
                return scan.trusted(found)
    try:
        state, found = scan.look(change.path, carried=files.carried)
    except (Unsettled, OSError):
        return ""
    if state != change.new:
        return ""
    return "-" if found is None else scan.trusted(found)


def _as_given(files: AnySet, at: Place, found: os.stat_result, new: State) -> bool:
    """Say whether a file has its metadata still: what changed it in the very tick of the exchange moved no ctime."""
    return scan.state_of(at, found, carried=files.carried, digest=new.digest) == new


def _apply(files: AnySet, change: Decided, at: Place) -> os.stat_result | None:
    path, new, put = change.path, change.new, None
    found = beneath.lstat(at)
    if not _as_decided(files, change, at, found):
        raise Unsettled(f"{path}: changed since it was decided")
    keep.present(files, path, change.here, path)  # a copy of what is replaced must stand before it goes
    inbox = open_inbox(files, at)
    swap = Place(inbox, _swap_name(path))
    try:
        if new is None:
            _remove(files, path, at, swap, found)
        elif change.source:
            _move(files, change.source, at, new)
        elif change.here is not None and change.here.content == new.content:
            _give(files, at, found, change.here, new)
        else:
            _make(files, change, swap, at)
            dispose, copied = partial(beside.dispose, files, path, change.loser), not isinstance(files, TreeSet)
            put = exchange.put(at, swap, found, dispose, copied)
    finally:
        os.close(inbox)
    if isinstance(files, TreeSet):  # whose changes are flushed a batch at a time
        return put if new and new.kind == "file" else None
    os.fsync(at.fd)
    with suppress(Unsettled):  # a user was faster: the next look keeps what he wrote
        keep.present(files, path, new, path)  # after the exchange, for it costs time that the user waits for
    return None


def _make(files: AnySet, change: Decided, swap: Place, at: Place) -> None:
    """Stage what shall be live; what cannot be made whole is nothing that was ever live, and so no generation."""
    try:
        stage.make(files, change, swap, at)
    except OSError:
        exchange.drop(swap)
        raise


def _as_decided(files: AnySet, change: Decided, at: Place, found: os.stat_result | None) -> bool:
    if found is None or change.here is None:
        return found is None and change.here is None
    if quiet.of(found) == change.signature:
        return True
    if isinstance(files, TreeSet) and change.here.kind == "file" and change.signature:
        known = change.signature.split(" ")[:4]  # without the ctime, which the link moves that is rsync's basis
        if known == quiet.of(found).split(" ")[:4]:
            return _as_given(files, at, found, change.here)
    return scan.state_of(at, found, carried=files.carried) == change.here


def _move(files: AnySet, source: str, at: Place, new: State) -> None:
    """Move what the peer's user has moved, whatever is in it."""
    with beneath.place(source) as old:
        beneath.rename_new(old, at)
    meta.give(at, new, files.carried)


def _swap_name(path: str) -> str:
    """Return the name in the inbox under which the new content goes in and the old one comes out."""
    return f"swap-{hashlib.blake2b(os.fsencode(path), digest_size=8).hexdigest()}"


def recover(files: AnySet, path: str, loser: beside.Loser | None = None) -> None:
    """Take up what a crash left in mid-exchange: what is no generation yet becomes one, or a conflict copy.

    A directory with entries goes back to its place, for they belong to nobody's set.
    """
    swap = f"{stage_directory(files, path)}/{_swap_name(path)}"
    if beneath.plainly_absent(swap):
        return
    try:
        with beneath.place(swap) as at:
            found = beneath.lstat(at)
            if found is None:
                return
            exchange.drop(exchange.incoming(at))
            if found.st_nlink > 1 and _stands_at(path, found):  # in mid-exchange by steps: nothing came out yet
                exchange.drop(at)
                return
            state = scan.state_of(at, found)
            if exchange.holds_entries(at):
                _put_back(path, at)
                recover(files, path, loser)
            elif loser and state.content == loser.state.content:
                beside.dispose(files, path, loser, at)
            elif state.kind in ("file", "link") and state.content not in keep.contents(files, path):
                keep.present(files, path, state, swap)
                keep.replaced(files, path, at)
            else:
                exchange.drop(at)
    except FileNotFoundError:
        return


def _stands_at(path: str, inode: os.stat_result) -> bool:
    with suppress(FileNotFoundError, NotADirectoryError), beneath.place(path) as at:
        found = beneath.lstat(at)
        return found is not None and (found.st_dev, found.st_ino) == (inode.st_dev, inode.st_ino)
    return False


def _put_back(path: str, swap: Place) -> None:
    with beneath.place(path) as at:
        if exchange.holds_entries(at):
            raise OSError(errno.ENOTEMPTY, f"{swap.name} in {paths.INBOX} holds entries as well", path)
        if beneath.lstat(at):
            beneath.rename(swap, at, beneath.RENAME_EXCHANGE)
        else:
            beneath.rename_new(swap, at)


def _give(files: AnySet, at: Place, found: os.stat_result | None, here: State, new: State) -> None:
    """Change metadata alone, on the very inode that was looked at: all of it, or as far as can be nothing."""
    if new.kind not in ("file", "directory"):
        meta.give(at, new, files.carried)
        return
    fd = beneath.open_read(at)
    try:
        if found is None or quiet.of(os.fstat(fd)) != quiet.of(found):
            raise Unsettled(f"{at.name}: replaced since it was decided")
        try:
            meta.give_fd(fd, new, files.carried)
        except OSError:
            with suppress(OSError):  # of the first failure the peer is told
                meta.give_fd(fd, here, files.carried)
            raise
        if not isinstance(files, TreeSet):
            os.fsync(fd)
    finally:
        os.close(fd)


def _remove(files: AnySet, path: str, at: Place, gone: Place, found: os.stat_result | None) -> None:
    """Move the live file out, look whether it is the one that was meant, and only then remove it."""
    if found is None:
        return
    if stat.S_ISDIR(found.st_mode):
        _remove_directory(at)
        return
    lease = exchange.lease(at, found)
    try:
        beneath.rename_new(at, gone, private=True)
        out = beneath.lstat(gone)
        if out is not None and (not exchange.same(out, found) or (lease >= 0 and beneath.lease_broken(lease))):
            try:
                beneath.rename_new(gone, at)
            except FileExistsError:  # the user was faster twice: what he wrote first becomes a generation
                keep.present(files, path, scan.state_of(gone, out), f"{stage_directory(files, path)}/{gone.name}")
                keep.replaced(files, path, gone)
            raise Unsettled(f"{at.name}: written since it was decided")
    finally:
        if lease >= 0:
            os.close(lease)
    keep.replaced(files, path, gone)


def _remove_directory(at: Place) -> None:
    try:
        os.rmdir(at.name, dir_fd=at.fd)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        raise exchange.not_empty(at) from error
