"""The master's configuration backup: one archive with its digest beside it, the former ones kept, and the way back.

Members: `config/...`, what was below /; `packages`, `units`, `users`, `groups` and `logins`, one a line.
"""

import hashlib
import io
import itertools
import lzma
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from hotpair import log, paths, watch
from hotpair.exits import Fail, NoInput
from hotpair.failover import accounts
from hotpair.hotsync import inventory, pack, unpacking
from hotpair.hotsync.settings import Hotsync
from hotpair.hotsync.unpacking import Unpacked

NAME = "config.tar.xz"
SUM = ".sha256"
PRESET = 1  # of xz: 6 takes thrice the time for a tenth of the size
SPOOL = 1 << 26  # bytes of an archive that are held in memory while it is unpacked
TEXTS = ("packages", "units", "users", "groups", "logins")


def archive() -> str:
    """Return where the master's backup is, on both nodes."""
    return paths.state("hotsync", "out", NAME)


def kept(number: int) -> str:
    """Return the directory of a former backup; 1 is the last one."""
    return paths.state("hotsync", "kept", str(number))


def make(settings: Hotsync) -> tuple[str, ...]:
    """Write the backup anew, and keep the former one where it was another. Returns what is not in it as it should be.

    Two files cannot be renamed at once: a crash in between leaves a digest that does not fit, here and not on the
    standby, for what is sent was made whole before. The former pair has been kept by then.
    """
    directory = paths.make_private(os.path.dirname(archive()))
    new = paths.state("hotsync", NAME + ".new")  # not in out/: what a crash leaves there would be sent
    problems = _write(new, settings)
    digest = _digest(new)
    if settings.keep:
        _keep_former(digest)
    _trim(settings.keep)
    _seal(new_sum := paths.state("hotsync", NAME + SUM), digest)
    os.rename(new, archive())
    os.rename(new_sum, archive() + SUM)
    watch.flush(directory)
    return problems


def save(settings: Hotsync, directory: str) -> None:
    """Write a backup of this node into a directory of its own, unless a whole one is there already."""
    if os.path.exists(f"{directory}/{NAME}{SUM}"):
        return
    paths.make_private(directory)
    _write(f"{directory}/{NAME}", settings)
    _seal(f"{directory}/{NAME}{SUM}", _digest(f"{directory}/{NAME}"))


def _write(path: str, settings: Hotsync) -> tuple[str, ...]:
    ours = accounts.read()
    with open(path, "wb", opener=_private) as raw:
        with (
            lzma.open(raw, "wb", preset=PRESET) as packed,
            tarfile.open(
                fileobj=packed, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape"
            ) as tar,
        ):
            packer = pack.Packer(tar, *ours.numbers())
            for name, text in _texts(ours, packer.problems):
                packer.text(name, text)
            for live in pack.expand(settings.config):
                packer.add(live)
        raw.flush()
        os.fsync(raw.fileno())
    return tuple(packer.problems)


def _texts(ours: accounts.Accounts, problems: list[str]) -> Iterator[tuple[str, str]]:
    for name, ask in (("packages", inventory.packages), ("units", inventory.enabled)):
        try:
            yield name, ask()
        except Fail as fail:
            problems.append(f"{name}: {fail.message}")
    users, groups = accounts.texts(ours)
    yield "users", users
    yield "groups", groups
    hashes = accounts.hashes(watch.read(paths.under("/etc/shadow")) or "", ours)
    yield "logins", "".join(f"{name}:{word}\n" for name, word in hashes.items())


def _private(path: str, flags: int) -> int:
    fd = os.open(path, flags | os.O_NOFOLLOW, 0o600)
    os.fchmod(fd, 0o600)
    return fd


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _seal(path: str, digest: str) -> None:
    watch.replace(path, _line(digest), 0o600)


def _line(digest: str) -> str:
    return f"{digest}  {NAME}\n"


def _keep_former(digest: str) -> None:
    """Move the former backup to the kept ones, if it is whole, differs from the new one and is not there already."""
    try:
        former = verify(archive())
    except Fail:  # none, or torn by a crash: then its predecessor was kept before
        return
    if former == digest or watch.read(f"{kept(1)}/{NAME}{SUM}") == _line(former):
        return
    home = paths.make_private(os.path.dirname(kept(1)))
    shutil.rmtree(f"{home}/new", ignore_errors=True)
    paths.make_private(f"{home}/new")
    for tail in ("", SUM):
        os.link(archive() + tail, f"{home}/new/{NAME}{tail}")
    numbers = _numbers(home)
    free = next(number for number in itertools.count(1) if number not in numbers)
    for number in range(free, 1, -1):
        os.rename(kept(number - 1), kept(number))
    os.rename(f"{home}/new", kept(1))
    watch.flush(home)


def _trim(most: int) -> None:
    """Remove what is kept beyond the number to be kept."""
    for number in _numbers(os.path.dirname(kept(1))):
        if number > most:
            shutil.rmtree(kept(number))


def _numbers(home: str) -> set[int]:
    return {int(name) for name in os.listdir(home) if name.isdigit()} if os.path.isdir(home) else set()


def verify(path: str) -> str:
    """Return the digest of an archive. Raises Fail when it is not the one that stands beside it."""
    try:
        with open(path, "rb") as file:
            return _verified(path, file)
    except FileNotFoundError:
        raise NoInput(f"{path}: not there", "it comes with a run of `hotsync` on the master") from None


def _verified(path: str, file: io.BufferedReader) -> str:
    said = watch.read(path + SUM)
    if said is None:
        raise NoInput(f"{path}{SUM}: not there", "it comes with a run of `hotsync` on the master")
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    if said != _line(digest):
        raise Fail(f"{path}: its digest is not the one beside it", "wait for the next run, or restore a kept one")
    return digest


@contextmanager
def _opened(path: str) -> Iterator[tarfile.TarFile]:
    """Yield an archive to be read in any order. Raises Fail when its digest is wrong or it is no archive."""
    paths.make_private(paths.state())
    with tempfile.SpooledTemporaryFile(SPOOL, dir=paths.state()) as plain:
        try:
            with open(path, "rb") as file:
                _verified(path, file)
                file.seek(0)
                with lzma.open(file) as packed:
                    shutil.copyfileobj(packed, plain)
            plain.seek(0)
            with tarfile.open(fileobj=plain, mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
                yield tar
        except FileNotFoundError:
            raise NoInput(f"{path}: not there", "it comes with a run of `hotsync` on the master") from None
        except (lzma.LZMAError, EOFError, tarfile.TarError) as error:
            raise Fail(f"{path}: {log.escape(str(error))}", "restore a kept one") from None


def _text(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    file = tar.extractfile(member) if member.isreg() else None
    return file.read().decode("utf-8", "surrogateescape") if file else ""


def unpack(path: str, root: str, skip: Callable[[str], bool] = lambda live: False) -> Unpacked:
    """Put what was below / below a prefix ("" for /), but what makes this node itself and the live paths to skip.

    Raises Fail, and nothing has been done, for an archive that is not whole, and Refused for one that is not ours.
    """
    numbers = accounts.translation(read(path).accounts, accounts.read(root))
    with _opened(path) as tar:
        return unpacking.unpack(tar, root, numbers, skip)


class Contents(NamedTuple):
    """What an archive says of the node that made it."""

    texts: dict[str, str]  # of TEXTS, "" for one that is not in it
    names: frozenset[str]  # of all members
    size: int  # bytes, unpacked
    seconds: float  # it took to read all of it

    @property
    def accounts(self) -> accounts.Accounts:
        return accounts.parse(self.texts["users"], self.texts["groups"])


def read(path: str) -> Contents:
    """Read an archive through, its digest first; nothing is written. Raises Fail when it is not whole."""
    begun, size, names, texts = time.monotonic(), 0, set(), dict.fromkeys(TEXTS, "")
    verify(path)
    try:
        with tarfile.open(path, "r|xz", encoding="utf-8", errors="surrogateescape") as tar:
            for member in tar:  # a stream is read to its end
                size += member.size
                names.add(member.name)
                if member.name in texts:
                    texts[member.name] = _text(tar, member)
    except (lzma.LZMAError, EOFError, tarfile.TarError) as error:
        raise Fail(f"{path}: {log.escape(str(error))}", "restore a kept one") from None
    return Contents(texts, frozenset(names), size, time.monotonic() - begun)
