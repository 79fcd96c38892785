"""The files of /proc/net/xt_recent: one address a write, at the file's beginning, each time."""

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from hotpair.sessions.backend import Missing, TableError

PLACE = "/proc/thread-self/net/xt_recent"  # /proc/net is that of a process's first thread
PARAMETERS = "/sys/module/xt_recent/parameters"
PAGE = 1 << 13  # bytes to ask for: the kernel gives a page at most


def names() -> list[str]:
    """Return the tables that are here."""
    try:
        return sorted(os.listdir(PLACE))
    except FileNotFoundError:  # the module is not loaded
        return []


def parameter(name: str) -> int:
    """Return a parameter of the module, which root may read; 0: not known, or not set."""
    try:
        with open(f"{PARAMETERS}/{name}", "rb") as file:
            return int(file.read())
    except OSError:
        return 0


@contextmanager
def opened(name: str, flags: int) -> Iterator[int]:
    """Open a table. Raises TableError, and turns what goes wrong with it as a whole into that."""
    if "/" in name or name in ("", ".", ".."):  # the name may be the peer's: it leads nowhere else
        raise Missing(f"recent {name}: no table can have that name")
    try:
        fd = os.open(f"{PLACE}/{name}", flags | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise _failure(name, error) from error
    try:
        yield fd
    except OSError as error:
        raise _failure(name, error) from error
    finally:
        os.close(fd)


def _failure(name: str, error: OSError) -> TableError:
    if error.errno in (errno.ENOENT, errno.EIO):  # EIO: its last rule went while it was open
        return Missing(f"recent {name}: no rule of iptables has it")
    return TableError(f"recent {name}: {error.strerror}")


def text(fd: int) -> bytes:
    """Return a table from its beginning to its end."""
    os.lseek(fd, 0, os.SEEK_SET)
    parts = []
    while part := os.read(fd, PAGE):
        parts.append(part)
    return b"".join(parts)


def write(fd: int, sign: bytes, addresses: Iterable[str]) -> dict[str, OSError]:
    """Write addresses with a sign before each, and return those that were refused. Raises OSError for EIO."""
    refused: dict[str, OSError] = {}
    seek, put = os.lseek, os.write
    for address in addresses:
        try:
            seek(fd, 0, 0)
            put(fd, sign + address.encode("utf-8", "replace"))
        except OSError as error:
            if error.errno == errno.EIO:
                raise
            refused[address] = error
    return refused


def put(fd: int, line: bytes) -> OSError | None:
    """Write a line, and return how it was refused. Raises OSError for EIO."""
    os.lseek(fd, 0, os.SEEK_SET)
    try:
        os.write(fd, line)
    except OSError as error:
        if error.errno == errno.EIO:
            raise
        return error
    return None
