"""Write live files into a tar archive (POSIX.1-2001): by descriptors, with owners, times, ACLs and attributes.

Attributes are in headers SCHILY.xattr.NAME, as GNU tar and star write them, so that `tar --xattrs` reads them too.
"""

import errno
import glob
import io
import os
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from typing import IO

from hotpair import beneath, descend, paths, quiet, scan
from hotpair.hotsync import identity

CONFIG = "config"  # below this name of an archive is what was below /
XATTR = "SCHILY.xattr."
FULL = (errno.ENOSPC, errno.EDQUOT)
ASTRAY = (errno.ENOTDIR, errno.ELOOP)
TRIES = 3  # readings of a file that changes meanwhile
SPOOL = 1 << 24  # bytes of a file that are held in memory
LEFT_OUT = (
    "/etc/hotpair",  # keys
    "/var/lib/hotpair",
    "/etc/ssh/ssh_host_*",
    *(f"/etc/{name}{tail}" for name in ("shadow", "gshadow") for tail in ("", "-")),  # root's among them
    *("/dev", "/proc", "/sys", "/run"),
)


class Packer:
    """Adds members to an open archive, in an order that depends on nothing but their names."""

    def __init__(self, tar: tarfile.TarFile, users: dict[int, str], groups: dict[int, str]) -> None:
        self.tar, self.users, self.groups = tar, users, groups
        self.problems: list[str] = []  # what is not in the archive as it should be, and why
        self._inodes: dict[tuple[int, int], str] = {}
        self._seen: set[str] = set()

    def text(self, name: str, text: str) -> None:
        """Add a text as a file of the archive's own."""
        data = text.encode("utf-8", "surrogateescape")
        info = tarfile.TarInfo(name)
        info.mode, info.size = 0o600, len(data)
        self.tar.addfile(info, io.BytesIO(data))

    def add(self, live: str) -> None:
        """Add a live path with all below it. What is not there, or vanishes, is passed over."""
        folder, name = os.path.split(live)
        pending = self._in(folder, [name] if name else None)
        while pending:
            pending += self._in(pending.pop())

    def _in(self, folder: str, names: list[str] | None = None) -> list[str]:
        """Add the entries of a directory and return which of them are directories."""
        folders = []
        try:
            fd = descend.open_directory(folder)
        except OSError as error:
            self._failed(folder, error)
            return []
        try:
            for name in sorted(os.listdir(fd) if names is None else names):
                live = f"{folder.rstrip('/')}/{name}"
                if live not in self._seen and _wanted(live):
                    self._seen.add(live)
                    if self._entry(beneath.Place(fd, name), live):
                        folders.append(live)
        finally:
            os.close(fd)
        return folders[::-1]

    def _entry(self, at: beneath.Place, live: str) -> bool:
        """Add one entry without what is below it; say whether it is a directory."""
        try:
            found = os.stat(at.name, dir_fd=at.fd, follow_symlinks=False)
            if stat.S_ISLNK(found.st_mode):
                info, content = self._info(live, found, tarfile.SYMTYPE), None
                info.linkname = os.readlink(at.name, dir_fd=at.fd)
            elif stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode):
                info, content = self._read(at, live)
            else:
                return False  # a socket, a FIFO, a device: whoever made it makes it again
        except OSError as error:
            self._failed(live, error)
            return False
        self.tar.addfile(info, content)  # what fails here fails for all
        if content:
            content.close()
        return info.isdir()

    def _read(self, at: beneath.Place, live: str) -> tuple[tarfile.TarInfo, IO[bytes] | None]:
        """Return the member for a file or directory, and a copy of its content."""
        fd = beneath.open_read(at)
        try:
            found = os.fstat(fd)
            if stat.S_ISDIR(found.st_mode):
                return self._info(live, found, tarfile.DIRTYPE, fd), None
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.EAGAIN, "changes while it is looked at")
            inode = found.st_dev, found.st_ino
            if found.st_nlink > 1 and inode in self._inodes:
                info = self._info(live, found, tarfile.LNKTYPE)
                info.linkname = self._inodes[inode]
                return info, None
            content, found = self._content(fd, live)
            info = self._info(live, found, tarfile.REGTYPE, fd)
        finally:
            os.close(fd)
        info.size = content.tell()
        content.seek(0)
        self._inodes[inode] = info.name
        return info, content

    def _content(self, fd: int, live: str) -> tuple[IO[bytes], os.stat_result]:
        """Return a copy of a file's content, its position at the end, and the stat under which it was read."""
        for tried in range(TRIES):
            before = os.fstat(fd)
            copy = tempfile.SpooledTemporaryFile(SPOOL, dir=paths.state())  # noqa: SIM115 (the caller closes it)
            os.lseek(fd, 0, os.SEEK_SET)
            with open(fd, "rb", closefd=False) as file:
                shutil.copyfileobj(file, copy)
            if quiet.of(os.fstat(fd)) == quiet.of(before):
                break
            if tried + 1 < TRIES:
                copy.close()
        else:
            self.problems.append(f"{live}: changed while it was read")
        return copy, before

    def _info(self, live: str, found: os.stat_result, kind: bytes, fd: int | None = None) -> tarfile.TarInfo:
        info = tarfile.TarInfo(CONFIG + live)
        info.type, info.mode = kind, stat.S_IMODE(found.st_mode)
        info.uid, info.gid = found.st_uid, found.st_gid
        info.uname, info.gname = self.users.get(info.uid, ""), self.groups.get(info.gid, "")
        info.pax_headers = {"mtime": moment(found.st_mtime_ns)}
        if fd is not None:
            for name in scan.xattrs(fd):
                key = name.replace("%", "%25").replace("=", "%3D")  # as GNU tar does: "=" ends the name
                info.pax_headers[XATTR + key] = os.getxattr(fd, name).decode("utf-8", "surrogateescape")
        return info

    def _failed(self, live: str, error: OSError) -> None:
        if error.errno in FULL:
            raise error
        if error.errno != errno.ENOENT:
            why = "a link is on the way: list where it leads" if error.errno in ASTRAY else error.strerror
            self.problems.append(f"{live}: {why}")


def _wanted(live: str) -> bool:
    return os.path.basename(live) != paths.INBOX and not identity.covered(live, LEFT_OUT)


def moment(ns: int) -> str:
    """Return a time as a header of the archive has it: no nanosecond is lost."""
    return f"{'-' * (ns < 0)}{abs(ns) // 10**9}.{abs(ns) % 10**9:09d}"


def expand(patterns: Iterable[str]) -> Iterator[str]:
    """Yield the live paths that globs match now; a plain path as it is."""
    root = paths.root()
    for pattern in patterns:
        plain = "/" + pattern.strip("/")
        if glob.has_magic(plain):
            yield from sorted(found[len(root) :] for found in glob.glob(glob.escape(root) + plain))
        else:
            yield plain
