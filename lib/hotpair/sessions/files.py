"""Dumps in files, and stored tables put into the kernel and the proxies."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator

from hotpair import locks, watch
from hotpair.exits import Fail, NoInput
from hotpair.failover import role
from hotpair.failover.role import MASTER
from hotpair.sessions import record, store
from hotpair.sessions.apply import LOCK
from hotpair.sessions.backend import TableError
from hotpair.sessions.backends import Backends
from hotpair.sessions.reaper import Reaper
from hotpair.sessions.record import Table, Unreadable

STANDARD = "-"  # standard input, standard output


class NotAll(Fail):
    """Some tables could not be dumped or loaded; the others were."""

    code = os.EX_IOERR


class Result:
    """What became of some tables, in the words of a person and for a machine."""

    def __init__(self) -> None:
        self.done: dict[str, int] = {}  # entries by label
        self.problems: list[str] = []


def dump(place: str, tables: Iterable[Table]) -> Result:
    """Write tables into a file, for root alone, which is replaced whole."""
    result, text = Result(), bytearray()
    for table in tables:
        if table.complete:
            result.done[table.label] = len(table.entries)
        else:
            result.problems.append(f"{table.label}: {table.error}")
        text += b"".join(record.lines(table))
    if place == STANDARD:
        sys.stdout.buffer.write(text)
        sys.stdout.flush()
    else:
        watch.replace(os.path.abspath(place), text.decode(), 0o600)
    return result


def of(place: str) -> list[Table]:
    """Return the tables of a file, as they must be now by the clocks of both nodes. Raises NoInput for none."""
    try:
        if place == STANDARD:
            found = list(record.tables(sys.stdin.buffer))
        else:
            with open(place, "rb") as file:
                found = list(record.tables(file))
    except FileNotFoundError as error:
        raise NoInput(f"{place}: {error.strerror}", "make it with `ssync dump FILE`") from error
    except Unreadable as error:
        raise NoInput(f"{place}: not a dump: {error}", "nothing was loaded; dump it again") from error
    if not found:
        raise NoInput(f"{place}: no table is in it", "nothing was loaded; dump it again")
    return [record.aged(table, (time.time() - table.at) * 1000) for table in found]


def stored() -> list[Table]:
    """Return the tables that the master has sent, as they must be now."""
    return [store.today(one) for one in store.everything()]


def load(tables: Iterable[Table], backends: Backends, meant: Callable[[str], bool]) -> Result:
    """Load those tables whose label is meant, each for itself: one that cannot be loaded spares the others.

    What is not complete, empty, or of an older epoch than this node's is never loaded.
    """
    result, epoch = Result(), _epoch()
    with locks.state(LOCK):
        reaper = Reaper()
        for table in tables:
            if not meant(table.label):
                continue
            if why := _unfit(table, epoch):
                result.problems.append(f"{table.label}: not loaded: {why}")
                continue
            try:
                loaded = backends.of(table.backend).load(table, None)
            except TableError as error:
                result.problems.append(f"{table.label}: not loaded: {error}")
                continue
            result.done[table.label] = loaded.entries
            result.problems += [f"{table.label}: {line}" for line in loaded.problems]
            reaper.add(table.label, loaded.deadlines)
    return result


def _epoch() -> int:
    """Return the epoch whose sessions count here: a master's are those of when it was standby last."""
    history = role.history()
    standing = [one.epoch for one in history if one.role != MASTER] if role.current().role == MASTER else []
    return standing[-1] if standing else role.current().epoch


def _unfit(table: Table, epoch: int) -> str:
    if not table.complete:
        return f"it was not dumped ({table.error})"
    if table.origin.epoch < epoch:
        return f"it is of epoch {table.origin.epoch}, and this node knows of {epoch}"
    return "" if table.entries else "it is empty"


def lines(result: Result, verb: str) -> Iterator[str]:
    """Yield what a person is told."""
    for label, entries in result.done.items():
        yield f"{label}: {entries} entries {verb}"
