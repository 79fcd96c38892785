"""Network namespaces for tests of kernel tables: each ends with the process that has it, and leaves nothing behind."""

import ctypes
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

import pytest

from hotpair import child
from hotpair.sessions import record
from hotpair.sessions.backend import Backend, Loaded
from hotpair.sessions.record import Table

CLONE_NEWNET = 0x40000000  # sched.h
LIBC = ctypes.CDLL(None, use_errno=True)


def missing(*programs: str) -> str:
    """Return why there can be no such namespace with these programs, or ""."""
    if os.geteuid():
        return "needs root"
    if lacking := [one for one in ("unshare", "ip", *programs) if not shutil.which(one, path=child.PATH)]:
        return f"no {', '.join(lacking)} here"
    return "no namespaces here" if subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode else ""


def alike(one: Table, other: Table) -> float:
    """Assert that two tables are alike but for the time left, and return by how many milliseconds that is off."""
    assert {key: (e.hits, e.data) for key, e in one.entries.items()} == {
        key: (e.hits, e.data) for key, e in other.entries.items()
    }
    passed, worst = other.clock_ms - one.clock_ms, 0.0
    for key, entry in one.entries.items():
        left = other.entries[key].remaining_ms
        if entry.remaining_ms is None or left is None:
            assert entry.remaining_ms == left, key
        else:
            worst = max(worst, abs(entry.remaining_ms - passed - left))
    return worst


def best(work: Callable[[], object]) -> float:
    """Return the seconds that the quickest of three runs took."""
    times = []
    for _ in range(3):
        begun = time.monotonic()
        work()
        times.append(time.monotonic() - begun)
    return min(times)


def enter(path: str) -> None:
    with open(path, "rb") as file:
        if LIBC.setns(file.fileno(), CLONE_NEWNET):  # os.setns is of Python 3.12
            raise OSError(ctypes.get_errno(), "setns")


@contextmanager
def inside(pid: int | str) -> Iterator[None]:
    """Have this thread, and what it starts, in the network namespace of a process."""
    with open("/proc/thread-self/ns/net", "rb") as before:
        enter(f"/proc/{pid}/ns/net")
        try:
            yield
        finally:
            enter(f"/proc/thread-self/fd/{before.fileno()}")


class Space:
    """A network namespace."""

    def __init__(self) -> None:
        argv = ["unshare", "-n", "sh", "-c", "ip link set lo up && echo up; exec cat"]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout and self.process.stdout.readline() == b"up\n"

    def inside(self) -> AbstractContextManager[None]:
        """Have this thread, and what it starts, in the namespace."""
        return inside(self.process.pid)

    def run(self, *argv: str, stdin: str = "") -> str:
        """Run what must succeed there, and return what it prints."""
        with self.inside():
            done = subprocess.run(argv, input=stdin, capture_output=True, text=True, env=child.environment())
        assert done.returncode == 0, (argv, done.stderr)
        return done.stdout

    def end(self) -> None:
        self.process.communicate()


S = TypeVar("S", bound=Space)


def two_of(kind: Callable[[], S]) -> Callable[[], Iterator[tuple[S, S]]]:
    """Return a fixture: two nodes of a kind, for all tests of a module."""

    def pair() -> Iterator[tuple[S, S]]:
        nodes = kind(), kind()
        yield nodes
        for node in nodes:
            node.end()

    return pytest.fixture(scope="module")(pair)


class Timed(Space):
    """One whose dumps and loads are timed: an entry is that much older when it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.took = 0.0  # milliseconds

    @contextmanager
    def timed(self) -> Iterator[None]:
        begun = time.monotonic()
        with self.inside():
            yield
        self.took += (time.monotonic() - begun) * 1000

    def dump_of(self, backend: Backend, name: str) -> Table:
        with self.timed():
            return backend.dump(name)

    def load_into(self, backend: Backend, wanted: Table, last: Table | None) -> Loaded:
        """Load a table as it must be by now."""
        with self.timed():
            return backend.load(record.aged(wanted, time.monotonic() * 1000 - wanted.clock_ms), last)


def slow(two: tuple[Timed, Timed]) -> float:
    """Return how long the dumps and loads of two nodes have taken (milliseconds)."""
    return sum(node.took for node in two)


class Stream:
    """Both ends of an established TCP connection, wherever they are."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.near, self.far = near, far

    def goes(self, seconds: float = 20.0) -> bool:
        """Say whether a word gets from either end to the other."""
        for one, other in ((self.near, self.far), (self.far, self.near)):
            one.sendall(b"word")
            other.settimeout(seconds)
            try:
                assert other.recv(4, socket.MSG_WAITALL) == b"word"
            except TimeoutError:
                return False
        return True

    def close(self) -> None:
        self.near.close()
        self.far.close()
