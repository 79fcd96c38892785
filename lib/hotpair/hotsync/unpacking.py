"""Put an archive's files in place: through descriptors, each whole or not at all, owners by their names.

The archive comes from the other node's root, but by a way that could be somebody's: a name that leads elsewhere makes
all of it refused, and no link on the way to a name is followed, whether it was here or came with the archive.
"""

import errno
import hashlib
import os
import re
import stat
import tarfile
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from hotpair import acl, beneath, descend, log, meta, scan
from hotpair.beneath import Place
from hotpair.exits import Later, Refused
from hotpair.failover import accounts
from hotpair.failover.accounts import Translation
from hotpair.hotsync import identity, pack
from hotpair.scan import State

FATAL = (*pack.FULL, errno.EROFS, errno.EIO)
TIME = re.compile(r"-?\d{1,10}(\.\d{1,9})?")
KINDS = {tarfile.REGTYPE: "file", tarfile.LNKTYPE: "file", tarfile.SYMTYPE: "link", tarfile.DIRTYPE: "directory"}


class Unpacked(NamedTuple):
    """What became of the members, by live paths."""

    written: tuple[str, ...]  # what was not as the archive has it
    left: tuple[str, ...]  # what is not as the archive has it, one line each: why


def unpack(tar: tarfile.TarFile, root: str, numbers: Translation, skip: Callable[[str], bool]) -> Unpacked:
    """Put the files of `config/` below a prefix, but what makes a node itself and what is to be skipped."""
    members = {live: member for member in tar.getmembers() if (live := _live(member.name))}
    for member in members.values():
        _check(member)
    wanted = {live: member for live, member in members.items() if not identity.is_own(live) and not skip(live)}
    fd = os.open(root or "/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _Unpacking(tar, fd, numbers).all(wanted)
    finally:
        os.close(fd)


def _live(name: str) -> str:
    """Return the live path that a member stands for, "" for a text of the archive's own. Raises Refused."""
    first, *parts = name.split("/")
    if first == pack.CONFIG and parts and not any(part in ("", ".", "..") or "\0" in part for part in parts):
        return "/" + "/".join(parts)
    if parts or not first.isalpha():
        raise Refused(f"the archive has a member {log.escape(name)!r}", "nothing was restored: find out who made it")
    return ""


def _check(member: tarfile.TarInfo) -> None:
    """Raise Refused for what the other node's `make` does not write."""
    sound = all(0 <= number < accounts.NO_ID for number in (member.uid, member.gid, member.mode))
    if member.islnk():
        _live(member.linkname)
    if not sound or not TIME.fullmatch(member.pax_headers.get("mtime", "0")):
        raise Refused(f"{log.escape(member.name)}: not of this world", "nothing was restored: find out who made it")


class _Unpacking:
    """One archive on its way to one root."""

    def __init__(self, tar: tarfile.TarFile, fd: int, numbers: Translation) -> None:
        self.tar, self.fd, self.numbers = tar, fd, numbers
        self.written: list[str] = []
        self.left: list[str] = []
        self.states: dict[str, State] = {}  # of the files that are in place, by the names of their members

    def all(self, members: dict[str, tarfile.TarInfo]) -> Unpacked:
        """Do all members; directories get their modes and times when what is in them is done."""
        for live, member in members.items():
            self._try(live, member, self._put)
        for live, member in reversed(members.items()):
            if member.isdir():
                self._try(live, member, self._finish)
        return Unpacked(tuple(self.written), tuple(self.left))

    def _try(self, live: str, member: tarfile.TarInfo, do: Callable[[Place, str, tarfile.TarInfo], None]) -> None:
        try:
            with self._place(live) as at:
                do(at, live, member)
        except OSError as error:
            if error.errno in FATAL:
                raise
            astray = error.errno in pack.ASTRAY
            self.left.append(f"{live}: {'a link or a file is on the way' if astray else error.strerror}")

    @contextmanager
    def _place(self, live: str) -> Iterator[Place]:
        """Yield the place of a live path, directories above it made if missing."""
        *folders, name = live.split("/")[1:]
        fd = os.dup(self.fd)
        try:
            for folder in folders:
                with suppress(FileExistsError):
                    os.mkdir(folder, 0o755, dir_fd=fd)
                fd, last = os.open(folder, descend.DIRECTORY, dir_fd=fd), fd
                os.close(last)
            yield Place(fd, name)
        finally:
            os.close(fd)

    def _put(self, at: Place, live: str, member: tarfile.TarInfo) -> None:
        kind, found = KINDS.get(member.type), beneath.lstat(at)
        if kind is None:
            self.left.append(f"{live}: neither a file nor a link nor a directory")
        elif kind == "directory":
            if found is None:
                os.mkdir(at.name, 0o700, dir_fd=at.fd)
                self.written.append(live)
            elif not stat.S_ISDIR(found.st_mode):
                self.left.append(f"{live}: here it is no directory")
        elif found is not None and stat.S_ISDIR(found.st_mode):
            self.left.append(f"{live}: here it is a directory")
        else:
            self._replace(at, live, member)

    def _replace(self, at: Place, live: str, member: tarfile.TarInfo) -> None:
        """Make a file or link beside the place, and rename it into place unless what is there is the same."""
        beside = Place(at.fd, ".hotpair-" + hashlib.blake2b(os.fsencode(live), digest_size=8).hexdigest())
        with suppress(FileNotFoundError):  # what a crash left
            os.unlink(beside.name, dir_fd=at.fd)
        try:
            state = self._make_link(beside, live, member) if member.issym() else self._make_file(beside, live, member)
            if not _same(at, state, self._linked(beside, member)):
                os.rename(beside.name, at.name, src_dir_fd=at.fd, dst_dir_fd=at.fd)
                self.written.append(live)
            self.states[member.name] = state
        finally:
            with suppress(FileNotFoundError):
                os.unlink(beside.name, dir_fd=at.fd)

    def _linked(self, beside: Place, member: tarfile.TarInfo) -> int:
        """Make a file the same inode as the one it is a hard link of; return the inode, or 0 where that cannot be."""
        state = self.states.get(member.linkname) if member.islnk() else None
        if state is None:
            return 0
        with self._place(_live(member.linkname)) as source:
            found = beneath.lstat(source)
            if found is None or not _same(source, state, 0):
                return 0
            os.unlink(beside.name, dir_fd=beside.fd)
            os.link(source.name, beside.name, src_dir_fd=source.fd, dst_dir_fd=beside.fd, follow_symlinks=False)
        if not _same(beside, state, found.st_ino):
            raise OSError(errno.EBUSY, "what it is a hard link of changes meanwhile")
        return found.st_ino

    def _make_link(self, beside: Place, live: str, member: tarfile.TarInfo) -> State:
        state = self._state(live, member)._replace(digest=member.linkname, mode=0, xattrs=())
        os.symlink(member.linkname, beside.name, dir_fd=beside.fd)
        meta.give(beside, state)
        return state

    def _make_file(self, beside: Place, live: str, member: tarfile.TarInfo) -> State:
        member = self._first(member)
        content = self.tar.extractfile(member)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(beside.name, flags, 0o600, dir_fd=beside.fd)
        try:
            while content and (chunk := content.read(scan.CHUNK)):
                scan.write_all(fd, chunk)
            state = self._state(live, member)._replace(digest=scan.digest_of(fd), size=os.fstat(fd).st_size)
            meta.give_fd(fd, state)
            os.fsync(fd)
        finally:
            os.close(fd)
        return state

    def _first(self, member: tarfile.TarInfo) -> tarfile.TarInfo:
        """Return the member with the content of a file that may be a hard link."""
        with suppress(KeyError):
            first = self.tar.getmember(member.linkname) if member.islnk() else member
            if first.isreg():
                return first
        raise OSError(errno.EINVAL, "a hard link of nothing")

    def _finish(self, at: Place, live: str, member: tarfile.TarInfo) -> None:
        fd = os.open(at.name, descend.DIRECTORY, dir_fd=at.fd)
        try:
            state = self._state(live, member)
            meta.give_fd(fd, state)
            os.utime(fd, ns=(state.mtime_ns, state.mtime_ns))
        finally:
            os.close(fd)

    def _state(self, live: str, member: tarfile.TarInfo) -> State:
        """Return the state that a member stands for here, without its content."""
        uid = self.numbers.users.get(member.uname, None if member.uname else member.uid)
        gid = self.numbers.groups.get(member.gname, None if member.gname else member.gid)
        mode = member.mode & 0o7777
        if uid is None or gid is None:
            self.left.append(f"{live}: no {member.uname if uid is None else member.gname} here: root has it")
            mode &= 0o1777
        attributes = tuple(sorted(self._xattrs(member)))
        ns = _ns(member.pax_headers.get("mtime", "0"))
        return State(KINDS[member.type], 0, mode, uid or 0, gid or 0, ns, "", attributes)

    def _xattrs(self, member: tarfile.TarInfo) -> Iterator[tuple[str, str]]:
        for header, text in member.pax_headers.items():
            name = header.removeprefix(pack.XATTR).replace("%3D", "=").replace("%25", "%")
            if header.startswith(pack.XATTR) and name.startswith(scan.XATTRS):
                value = text.encode("utf-8", "surrogateescape")
                if name.startswith(scan.ACLS):
                    value = acl.with_numbers(value, *self.numbers.owners)
                yield name, b64encode(value).decode()


def _same(at: Place, state: State, inode: int) -> bool:
    """Say whether what stands at a place has this state, and this inode if it is to have a certain one."""
    found = beneath.lstat(at)
    if found is None or found.st_ino != (inode or found.st_ino):
        return False
    try:
        return scan.state_of(at, found) == state
    except Later:  # somebody is writing it
        return False


def _ns(text: str) -> int:
    """Return a time of the archive in nanoseconds."""
    whole, _, part = text.partition(".")  # as TIME has it
    ns = abs(int(whole)) * 10**9 + int(part[:9].ljust(9, "0"))
    return -ns if whole.startswith("-") else ns
