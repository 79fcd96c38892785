"""xt_recent on this kernel under real packets: the standby has the master's users, and reading them is quick."""

import os
import random
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hotpair.sessions import recent_memory, recent_proc, record
from hotpair.sessions.record import Table
from tests.ext.recents import LATE, LONG, MINE, SIX, WHY, Node

pytestmark = pytest.mark.skipif(bool(WHY), reason=WHY)


class Users(threading.Thread):
    """People who come by at random: one in ten of their packets makes the rules forget them."""

    def __init__(self, node: Node, seed: int) -> None:
        super().__init__(daemon=True)
        self.random = random.Random(seed)
        self.over = threading.Event()
        self.sent = 0
        with node.inside():
            self.sockets = [self._bound(address) for address in MINE + SIX]

    @staticmethod
    def _bound(address: str) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        one = socket.socket(family, socket.SOCK_DGRAM)
        one.bind((address, 0))
        return one

    def run(self) -> None:
        while not self.over.wait(self.random.random() * 0.02):
            for _ in range(self.random.randrange(6)):
                one = self.random.choice(self.sockets)
                port = self.random.choice([9001] * 8 + [9002, 9003])
                one.sendto(b"x", ("::1" if one.family == socket.AF_INET6 else "127.0.0.1", port))
                self.sent += 1

    def end(self) -> None:
        self.over.set()
        self.join(10)
        for one in self.sockets:
            one.close()


def used(node: Node) -> None:
    """Have a table of users, by rules as they are in use: the last one seen longest ago is thrown out of 100."""
    for address in SIX:
        node.run("ip", "address", "add", f"{address}/128", "dev", "lo", "nodad")
    for family in ("iptables", "ip6tables"):
        for port, action in (("9001", "--set"), ("9002", "--remove"), ("9003", "--update --seconds 600 --hitcount 8")):
            match = ["-m", "recent", "--name", "USERS", *action.split()]
            node.run(family, "-A", "INPUT", "-i", "lo", "-p", "udp", "--dport", port, *match)


def carried(last: Table | None, now: Table) -> Table:
    """Send a dump as the mirror does: a difference as lines."""
    step = now if last is None else record.delta(last, now)
    [there] = record.tables(list(record.lines(step)))
    return record.changed(last, there)


def mirrored(here: Node, there: Node, interval: float, seconds: float) -> Users:
    """Mirror the users' table for some time of traffic, and until the standby has seen the end of it."""
    users = Users(here, 7)
    users.start()
    sent: Table | None = None
    loaded: Table | None = None
    started, turn, calm = time.monotonic(), 0, 0
    try:
        while calm <= recent_memory.ABSENCES:
            if time.monotonic() - started > seconds:
                users.end()
                calm += 1
            now = here.dump("USERS")
            dumped = time.monotonic()
            sent = carried(sent, now)
            wanted = record.aged(sent, (time.monotonic() - dumped) * 1000)
            done = there.load(wanted, loaded)
            assert done.problems == ()
            loaded = wanted
            turn += 1
            time.sleep(max(0.0, started + turn * interval - time.monotonic()))
    finally:
        users.end()
    return users


@pytest.mark.parametrize(
    "interval, seconds",
    [
        (0.2, 4.0),
        pytest.param(0.2, 30.0, marks=pytest.mark.skipif(not LONG, reason="takes 30 s: HOTPAIR_LONG=1")),
        pytest.param(1.0, 60.0, marks=pytest.mark.skipif(not LONG, reason="takes 60 s: HOTPAIR_LONG=1")),
    ],
)
def test_the_standby_has_the_masters_users(interval: float, seconds: float) -> None:
    here, there = Node(), Node()
    try:
        for node in (here, there):
            used(node)
        users = mirrored(here, there, interval, seconds)
        master, standby = here.dump("USERS"), there.dump("USERS")  # one kernel: the same clock
    finally:
        here.end()
        there.end()
    assert standby.entries.keys() == master.entries.keys()
    assert any(":" in key for key in master.entries) and len(master.entries) > 60
    assert users.sent > 300
    assert {key: one.hits for key, one in standby.entries.items()} == {
        key: one.hits for key, one in master.entries.items()
    }
    late = {
        key: record.stamps(standby, one)[-1] - record.stamps(master, master.entries[key])[-1]
        for key, one in standby.entries.items()
    }
    print(f"{users.sent} packets, {len(late)} addresses, {min(late.values()):g} to {max(late.values()):g} ms late")
    assert min(late.values()) >= 0 and max(late.values()) <= interval * 1000 + LATE


@pytest.fixture
def many(request: pytest.FixtureRequest) -> Iterator[tuple[Node, list[str]]]:
    """A node with so many tables, each of 100 addresses with three hits."""
    node = Node()
    names = [f"T{number}" for number in range(request.param)]
    rules = "".join(f"-A INPUT -i nothing -m recent --name {name} --set\n" for name in names)
    with node.inside():
        subprocess.run(["iptables-restore"], input=f"*filter\n{rules}COMMIT\n", text=True, check=True)
        written_bare(names)
        yield node, names
    node.end()


def written_bare(names: list[str]) -> None:
    for number, name in enumerate(names):
        fd = os.open(f"{recent_proc.PLACE}/{name}", os.O_WRONLY)
        for line in [f"+10.{number // 250}.{number % 250}.{host}".encode() for host in range(100)] * 3:
            os.lseek(fd, 0, os.SEEK_SET)
            os.write(fd, line)
        os.close(fd)


def read_bare(names: list[str]) -> None:
    for name in names:
        text = Path(recent_proc.PLACE, name).read_bytes()
        assert len([line.split() for line in text.splitlines()]) == 100


def took(do: Callable[[list[str]], object], names: list[str], first: Callable[[list[str]], object] = len) -> float:
    """Return the least time of the processor that something took, of five."""
    times = []
    for _ in range(5):
        first(names)
        started = time.process_time()
        do(names)
        times.append(time.process_time() - started)
    return min(times)


def flush(names: list[str]) -> None:
    for name in names:
        Path(recent_proc.PLACE, name).write_text("/")


@pytest.mark.skipif(not LONG, reason="measures for a minute: HOTPAIR_LONG=1")
@pytest.mark.parametrize("many", [100, 500], indirect=True)
def test_dump_and_load_take_little_longer_than_the_bare_reads_and_writes(many: tuple[Node, list[str]]) -> None:
    node, names = many
    tables = [node.recent.dump(name) for name in names]
    read = took(read_bare, names)
    dumped = took(lambda names: [node.recent.dump(name) for name in names], names)
    bare = took(written_bare, names, flush)
    loaded = took(lambda _: [node.recent.load(one, None) for one in tables], names, flush)
    assert {key: 3 for one in tables for key in one.entries} == {
        key: one.hits for name in names for key, one in node.recent.dump(name).entries.items()
    }
    print(
        f"{100 * len(names)} addresses: read and split {read * 1000:.0f} ms, dump {dumped / read:.2f} times that; "
        f"bare writes {bare * 1000:.0f} ms, load {loaded / bare:.2f} times that"
    )
    assert dumped < 3 * read and loaded < 3 * bare
