"""Look at one live file: its whole state, and the stat signature under which that state was read."""

import hashlib
import os
import stat
import time
from base64 import b64decode, b64encode
from typing import NamedTuple

from hotpair import acl, beneath, quiet
from hotpair.exits import Later
from hotpair.owners import SAME, Owners

COARSE = 5  # CLOCK_REALTIME_COARSE (linux/time.h): the clock that stamps ctimes; it moves once a tick, 1 to 10 ms
TICK = 0.02  # seconds: longer than any tick; a ctime of the future (a clock set back) is not waited for
UNSETTLED = 2.0  # seconds a file that is open for writing must have rested before it is taken all the same
CHUNK = 1 << 20
BLOCK = 4096  # bytes, of the file systems that have holes
HOLE = bytes(BLOCK)
ACLS = ("system.posix_acl_",)
OTHER_XATTRS = ("user.", "trusted.", "security.capability")  # labels of SELinux are each node's own
XATTRS = (*OTHER_XATTRS, *ACLS)
SPECIALS = ("fifo", "device")
KINDS = ("file", "link", "directory", *SPECIALS, "other")


class Carried(NamedTuple):
    """What a set shares of its paths, and so what belongs to their states."""

    xattrs: tuple[str, ...] = XATTRS  # prefixes of names
    specials: bool = False  # FIFOs and devices; else they are "other" as sockets are
    owners: Owners = SAME  # who has other numbers on the peer

    def shared(self, state: "State") -> "State":
        """Return a state of this node as both nodes know it."""
        return _translated(state, self.owners) if any(self.owners) else state

    def local(self, state: "State") -> "State":
        """Return a state that both nodes know as this node has it."""
        return _translated(state, self.owners.turned()) if any(self.owners) else state


CARRIED = Carried()


class State(NamedTuple):
    """What both nodes must agree on about a path. An absent path has no State but None."""

    kind: str  # "file", "link", "directory", "fifo", "device" or "other"
    size: int  # bytes; 0 unless a file
    mode: int  # permission bits; 0 for a link
    uid: int
    gid: int
    mtime_ns: int  # of a file or link; a directory's is its entries' business
    digest: str  # blake2b-256 of the content, a link's value, a device's c:MAJOR:MINOR or b:MAJOR:MINOR, or ""
    xattrs: tuple[tuple[str, str], ...]  # name and base64 value, sorted; ACLs are xattrs to the kernel

    @property
    def content(self) -> tuple[str, str]:
        """What was written, without who may read it and when."""
        return self.kind, self.digest


def _translated(state: State, owners: Owners) -> State:
    uid, gid = owners.of(state.uid, state.gid)
    xattrs = tuple(
        (name, b64encode(acl.with_numbers(b64decode(value), *owners)).decode() if name.startswith(ACLS) else value)
        for name, value in state.xattrs
    )
    return state._replace(uid=uid, gid=gid, xattrs=xattrs)


class Unsettled(Later):
    """The file moves while it is read, or somebody has it open for writing: to be looked at again."""


def from_json(value: object) -> State | None:
    """Make a State of what the wire or the archive holds. Raises ValueError for anything else."""
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 8 or value[0] not in KINDS:
        raise ValueError("not a state")
    kind, *numbers, digest, xattrs = value
    size, mode, uid, gid, mtime_ns = numbers
    if not all(type(n) is int for n in numbers) or not isinstance(digest, str) or not isinstance(xattrs, list):
        raise ValueError("not a state")
    pairs = []
    for pair in xattrs:
        name, data = pair
        if not (isinstance(name, str) and name.startswith(XATTRS) and isinstance(data, str)):
            raise ValueError("not an extended attribute that is carried")
        b64decode(data, validate=True)
        pairs.append((name, data))
    return State(kind, size, mode, uid, gid, mtime_ns, digest, tuple(pairs))


def trusted(found: os.stat_result) -> str:
    """Return the signature, or "" for a file so young that its next change could carry the same one."""
    return quiet.of(found) if time.clock_gettime_ns(COARSE) > found.st_ctime_ns else ""


def tick(ctime_ns: int) -> None:
    """Wait until whatever is changed from now on has a later ctime than this one: a kernel tick at the most."""
    deadline = time.monotonic() + TICK
    while time.clock_gettime_ns(COARSE) <= ctime_ns and time.monotonic() < deadline:
        time.sleep(0.001)


def digest_of(fd: int, copy_to: int | None = None) -> str:
    """Return the digest of a file's content from its start, writing what is read to a new file if given."""
    sum_ = hashlib.blake2b(digest_size=32)
    os.lseek(fd, 0, os.SEEK_SET)
    while chunk := os.read(fd, CHUNK):
        sum_.update(chunk)
        if copy_to is not None:
            write_sparse(copy_to, chunk)
    if copy_to is not None:
        os.ftruncate(copy_to, os.lseek(copy_to, 0, os.SEEK_CUR))
    return sum_.hexdigest()


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def xattrs(fd: int, wanted: tuple[str, ...] = XATTRS) -> list[str]:
    """Return the names of an open file's extended attributes that begin with one of these prefixes."""
    return sorted(n for n in os.listxattr(fd) if n.startswith(wanted) and not n.startswith("trusted.overlay."))


def write_sparse(fd: int, data: bytes) -> None:
    """Write to a new file, leaving holes for blocks of zeros; who ends with one has to truncate(2) the file there."""
    holes = HOLE in data
    view = memoryview(data)
    while view:
        if holes and view[:BLOCK] == HOLE:
            os.lseek(fd, BLOCK, os.SEEK_CUR)
            view = view[BLOCK:]
        else:
            view = view[os.write(fd, view[:BLOCK] if holes else view) :]


def own_acl(fd: int, shared: tuple[str, ...]) -> bytes:
    """Return the ACL of an open file where ACLs are each node's own; b"" when it has none, or they are shared."""
    if ACLS[0] in shared or acl.ACCESS not in os.listxattr(fd):
        return b""
    return os.getxattr(fd, acl.ACCESS)


def look(live: str, settle: float = 0.0, carried: Carried = CARRIED) -> tuple[State | None, os.stat_result | None]:
    """Return the state of a live path and the stat it was read under; None and None when it is absent.

    settle: seconds that must have passed since the last change. Raises Unsettled, and OSError for a parent that
    cannot be entered (a missing parent is an absent path).
    """
    try:
        with beneath.place(live) as at:
            found = beneath.lstat(at)
            if found is None:
                return None, None
            return state_of(at, found, settle, carried), found
    except FileNotFoundError:
        return None, None


def state_of(
    at: beneath.Place, found: os.stat_result, settle: float = 0.0, carried: Carried = CARRIED, digest: str = ""
) -> State:
    """Return the state of what stands at a place, whose stat is `found`. Raises Unsettled.

    digest: of a file that need not be read, because its stat is that of a known content.
    """
    return carried.shared(_state_of(at, found, settle, carried, digest))


def _state_of(at: beneath.Place, found: os.stat_result, settle: float, carried: Carried, digest: str) -> State:
    owner = found.st_uid, found.st_gid
    if stat.S_ISLNK(found.st_mode):
        return State("link", 0, 0, *owner, found.st_mtime_ns, os.readlink(at.name, dir_fd=at.fd), ())
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        kind, value = _special(found.st_mode, found.st_rdev) if carried.specials else ("other", "")
        return State(kind, 0, mode, *owner, 0, value, ())
    try:
        fd = beneath.open_read(at)
    except OSError as gone:
        raise Unsettled(f"{at.name}: {gone.strerror} while it was looked at") from gone
    try:
        mode = acl.mode_without(own_acl(fd, carried.xattrs), mode)
        attributes = tuple((name, b64encode(os.getxattr(fd, name)).decode()) for name in xattrs(fd, carried.xattrs))
        if stat.S_ISDIR(found.st_mode):
            return State("directory", 0, mode, *owner, 0, "", attributes)
        if not digest:
            _settled(at.name, fd, settle)
            digest = digest_of(fd)
        state = State("file", found.st_size, mode, *owner, found.st_mtime_ns, digest, attributes)
        if quiet.of(os.fstat(fd)) != quiet.of(found):
            raise Unsettled(f"{at.name}: changed while it was read")
        return state
    finally:
        os.close(fd)


def _special(mode: int, device: int) -> tuple[str, str]:
    """Return kind and value of what is neither a file, a link nor a directory."""
    if stat.S_ISFIFO(mode):
        return "fifo", ""
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        return "device", f"{'c' if stat.S_ISCHR(mode) else 'b'}:{os.major(device)}:{os.minor(device)}"
    return "other", ""


def _settled(name: str, fd: int, settle: float) -> None:
    """Raise Unsettled for a file that is still being written, or younger than `settle` seconds."""
    age = time.time() - os.fstat(fd).st_ctime  # the kernel's own clock: no utime(2) moves it
    if 0 <= age < settle:
        raise Unsettled(f"{name}: changed {age:.1f} s ago, to rest for {settle:g} s")
    if age < UNSETTLED and beneath.open_for_writing(fd) is not False:
        raise Unsettled(f"{name}: somebody has it open for writing")


def subject(state: State | None) -> str:
    """Return a short name of a state, for what is remembered about it."""
    return hashlib.blake2b(repr(state).encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def brief(state: State | None) -> str:
    """Return a state in words, for a person."""
    if state is None:
        return "nothing"
    if state.kind == "file":
        return f"a file of {state.size} bytes, {state.digest[:12]}, mode {state.mode:04o}"
    return f"a link to {state.digest}" if state.kind == "link" else f"a {state.kind}, mode {state.mode:04o}"
