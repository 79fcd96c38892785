"""The tables that the standby has got: one readable file each in var/lib/hotpair/sessions, replaced whole.

They are not flushed to the disk: after a crash of the standby its sessions are older than a minute anyway.
"""

import itertools
import json
import os
import time
from collections.abc import Iterable
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import quote

from hotpair import paths
from hotpair.failover import role
from hotpair.sessions import record
from hotpair.sessions.record import Table, Unreadable

SUFFIX = ".jsonl"
LONGEST = 200  # bytes of a file's name


class Stored(NamedTuple):
    """A table, and what became of it here."""

    table: Table  # its `at` is by this node's clock
    loaded: bool  # it is what the kernel or the proxy here was last given, since this node booted
    boottime_ms: float  # when it came
    boot: str  # of this node


def boottime_ms() -> float:
    """Return the milliseconds since boot, time asleep included (CLOCK_BOOTTIME, clock_gettime(2))."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) * 1000


def put(table: Table, loaded: bool) -> None:
    """Store a table that holds for this moment."""
    about = {"loaded": loaded, "boottime_ms": boottime_ms(), "boot": role.boot_id()}
    place = _file(table.label)
    lines = record.lines(table._replace(at=time.time()))
    replace(place, itertools.chain([json.dumps(about).encode() + b"\n"], lines))


def replace(place: str, lines: Iterable[bytes]) -> None:
    """Write a file of root's alone and rename it into place; unlike `watch.replace`, not flushed to the disk."""
    directory, name = os.path.split(place)
    temporary = f"{paths.make_private(directory)}/.{name}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(fd, "wb") as file:
        file.writelines(lines)
    os.rename(temporary, place)


def get(label: str) -> Stored | None:
    """Return a table as it came; None when it is not there, or not whole."""
    return _read(_file(label))


def places() -> list[str]:
    """Return the files of all tables that are stored, in the order of their names."""
    try:
        names = sorted(os.listdir(paths.state("sessions")))
    except FileNotFoundError:
        return []
    return [paths.state("sessions", name) for name in names if name.endswith(SUFFIX)]


def everything() -> list[Stored]:
    """Return every table that is stored, in the order of their names."""
    return [one for one in map(_read, places()) if one]


def touch(label: str) -> None:
    """Note that a table is as it was stored."""
    os.utime(_file(label))


def today(stored: Stored) -> Table:
    """Return a stored table as it must be now."""
    passed = boottime_ms() - stored.boottime_ms
    if stored.boot != role.boot_id():
        passed = (time.time() - stored.table.at) * 1000
    return record.aged(stored.table, max(passed, 0.0))


def _read(path: str) -> Stored | None:
    try:
        with open(path, "rb") as file:
            about = json.loads(file.readline() or b"{}")
            table = next(record.tables(file))
        same = about["boot"] == role.boot_id()
        return Stored(table, same and about["loaded"] is True, float(about["boottime_ms"]), str(about["boot"]))
    except FileNotFoundError:
        return None
    except (Unreadable, StopIteration, ValueError, KeyError, TypeError):
        return None


def _file(label: str) -> str:
    name = quote(label, safe=" ").replace(" ", "+")
    return paths.state("sessions", (name if len(name) <= LONGEST else sha256(name.encode()).hexdigest()) + SUFFIX)
