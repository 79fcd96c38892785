"""xt_recent on this kernel: real rules in two network namespaces, real packets on the master's side.

HOTPAIR_LONG=1 plays the traffic for as long as the promise says, and measures 10,000 and 50,000 entries.
"""

import errno
import os
import random
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from hotpair.sessions import recent_memory, recent_patched, recent_proc, record
from hotpair.sessions.backend import Loaded, Missing
from hotpair.sessions.jiffies import Clock
from hotpair.sessions.recent import Recent
from hotpair.sessions.record import Entry, Table
from tests.ext.netspaces import Space

LONG = bool(os.environ.get("HOTPAIR_LONG"))
LATE = 250.0  # milliseconds beyond the interval that an entry may look too young on the standby
ONLY_PROC = ["-i", "nothing"]  # a rule that makes a table and meets no packet
MINE = [f"127.1.0.{host}" for host in range(1, 81)]
SIX = [f"2001:db8::{host:x}" for host in range(1, 21)]  # 100 in all, which is what a table has room for


def missing() -> str:
    if os.geteuid():
        return "needs root"
    if lacking := [
        name for name in ("unshare", "ip", "iptables", "ip6tables", "iptables-save") if not shutil.which(name)
    ]:
        return f"no {', '.join(lacking)} here (package iptables)"
    rule = "iptables -A INPUT -m recent --name T --set && test -e /proc/net/xt_recent/T"
    if subprocess.run(["unshare", "-n", "sh", "-c", rule], capture_output=True).returncode:
        return "no namespaces here, or no xt_recent in this kernel"
    return ""


WHY = missing()
pytestmark = pytest.mark.skipif(bool(WHY), reason=WHY)


class Node(Space):
    """A node whose tables are read and written there."""

    def __init__(self) -> None:
        super().__init__()
        self.recent = Recent()

    def rule(self, name: str, *words: str, family: str = "iptables") -> None:
        self.run(family, "-A", "INPUT", *(words or (*ONLY_PROC, "-m", "recent", "--name", name, "--set")))

    def write(self, name: str, *lines: str) -> None:
        with self.inside():
            for line in lines:
                Path(recent_proc.PLACE, name).write_text(line)

    def dump(self, name: str) -> Table:
        with self.inside():
            return self.recent.dump(name)

    def load(self, wanted: Table, last: Table | None = None) -> Loaded:
        with self.inside():
            return self.recent.load(wanted, last)

    def reap(self, name: str, due: dict[str, str]) -> None:
        with self.inside():
            self.recent.reap(name, due)

    def hits(self, name: str) -> dict[str, int]:
        return {key: entry.hits for key, entry in self.dump(name).entries.items()}


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Node, Node]]:
    nodes = Node(), Node()
    yield nodes
    for node in nodes:
        node.end()


@pytest.fixture
def two(pair: tuple[Node, Node]) -> tuple[Node, Node]:
    """Two nodes with a table T each, which is empty."""
    for node in pair:
        for family in ("iptables", "ip6tables"):
            node.run(family, "-F")
        node.rule("T")
        node.recent = Recent()
    return pair


@pytest.fixture
def one(two: tuple[Node, Node]) -> Node:
    return two[0]


def table(rows: Mapping[str, tuple[float, ...]], clock: float = 1e9, **facts: int) -> Table:
    return Table("recent", "T", 0, clock, {key: Entry(key, len(ages), ages) for key, ages in rows.items()}, dict(facts))


# Reading


def test_a_dump_has_what_the_table_has(one: Node) -> None:
    one.write("T", "+192.0.2.1", "+2001:db8::1", "+192.0.2.1")
    found = one.dump("T")
    assert (found.backend, found.name, found.complete) == ("recent", "T", True)
    assert {key: (entry.hits, entry.data) for key, entry in found.entries.items()} == {
        "192.0.2.1": (2, {"ttl": 0}),
        "2001:db8::1": (1, {"ttl": 0}),
    }
    for entry in found.entries.values():
        assert len(entry.ages_ms) == entry.hits and 0 <= entry.ages_ms[-1] <= entry.ages_ms[0] < 2000


def test_the_tables_are_those_of_the_rules(one: Node) -> None:
    one.rule("a b")
    one.rule("six", family="ip6tables")
    with one.inside():
        assert one.recent.names() == ["T", "a b", "six"]


@pytest.mark.parametrize("name", ["none", "..", "", "../../../../etc/passwd", "/etc/passwd"])
def test_a_table_that_no_rule_has_is_missing_and_its_name_leads_nowhere(one: Node, name: str) -> None:
    with pytest.raises(Missing):
        one.dump(name)
    with pytest.raises(Missing):
        one.load(table({"192.0.2.1": (1.0,)})._replace(name=name))
    with pytest.raises(Missing):
        one.reap(name, {"192.0.2.1": "1"})


def test_a_ring_that_has_turned_is_in_the_order_of_time(one: Node) -> None:
    one.run("iptables", "-F")
    one.rule("T", *ONLY_PROC, "-m", "recent", "--name", "T", "--update", "--hitcount", "3")
    clock = Clock()
    for _ in range(6):
        one.write("T", "+192.0.2.1")
        started = clock.now()
        while clock.now() < started + 2:
            time.sleep(0.001)
    [entry] = one.dump("T").entries.values()
    assert entry.hits == 4 and list(entry.ages_ms) == sorted(set(entry.ages_ms), reverse=True)


def test_two_dumps_agree_on_when_a_hit_was(one: Node) -> None:
    one.write("T", *(f"+192.0.2.{host}" for host in range(1, 50)))
    first = one.dump("T")
    time.sleep(0.05)
    second = one.dump("T")
    assert second.clock_ms > first.clock_ms
    assert record.delta(first, second).entries == {}


def test_an_age_is_counted_from_the_kernels_own_clock(one: Node) -> None:
    recent = one.recent
    with one.inside():
        before = time.monotonic()
        Path(recent_proc.PLACE, "T").write_text("+192.0.2.1")
        time.sleep(0.1)
        wrote = time.monotonic()
        [entry] = recent.dump("T").entries.values()
        passed = (time.monotonic() - before) * 1000
    assert entry.age_ms is not None
    assert 100 - 8 <= entry.age_ms <= passed + 8, (entry.age_ms, passed, wrote)


@pytest.mark.parametrize("hitcounts", [(0,), (3,), (0, 3), (40, 0), (1,)])
def test_the_ring_of_a_table_is_what_its_rules_say(one: Node, hitcounts: tuple[int, ...]) -> None:
    one.run("iptables", "-F")
    for hits in hitcounts:
        wanted = ["--update", "--hitcount", str(hits), "--seconds", "60"] if hits else ["--set"]
        one.rule("T", *ONLY_PROC, "-m", "recent", "--name", "T", *wanted)
    one.write("T", *["+192.0.2.1"] * 70)
    found = one.dump("T")
    assert found.facts["ring"] == found.entries["192.0.2.1"].hits
    assert found.facts.get("seconds") == (60 if any(hitcounts) else None)
    assert found.facts["ip_list_tot"] == int(Path(recent_proc.PARAMETERS, "ip_list_tot").read_text())


# Writing


def test_every_address_and_every_hit_is_loaded(two: tuple[Node, Node]) -> None:
    here, there = two
    hosts = [f"192.0.2.{host}" for host in range(1, 60)] + [f"2001:db8::{host:x}" for host in range(1, 40)]
    here.write("T", *(f"+{host}" for host in hosts for _ in range(random.randrange(1, 4))))
    assert there.load(here.dump("T")).problems == ()
    assert there.hits("T") == here.hits("T") and len(here.hits("T")) == 98


def test_what_is_thrown_out_next_is_the_same_on_both(two: tuple[Node, Node]) -> None:
    here, there = two
    total = int(here.dump("T").facts["ip_list_tot"])
    hosts = [f"192.0.{host // 250}.{host % 250 + 1}" for host in range(total)]
    shuffled = random.sample(hosts, total)
    clock = Clock()
    for host in shuffled[:10]:  # in different ticks
        here.write("T", f"+{host}")
        started = clock.now()
        while clock.now() <= started:
            time.sleep(0.001)
    here.write("T", *(f"+{host}" for host in shuffled[10:]))
    there.load(here.dump("T"))
    for node in two:
        node.write("T", *(f"+198.51.100.{host}" for host in range(1, 11)))
    assert there.hits("T").keys() == here.hits("T").keys()
    assert not set(shuffled[:10]) & there.hits("T").keys()


def test_a_second_load_repeats_nothing(two: tuple[Node, Node]) -> None:
    here, there = two
    here.write("T", "+192.0.2.1", "+192.0.2.1", "+2001:db8::1")
    first = here.dump("T")
    there.load(first)
    before = there.dump("T")
    there.load(record.aged(first, 3.7), first)
    there.recent = Recent()  # another conversation
    there.load(here.dump("T"))
    assert record.delta(before, there.dump("T")).entries == {}


def test_another_conversation_repeats_only_what_came_between(two: tuple[Node, Node]) -> None:
    here, there = two
    here.write("T", "+192.0.2.1", "+192.0.2.2")
    there.load(here.dump("T"))
    before = there.dump("T")
    time.sleep(0.15)
    here.write("T", "+192.0.2.1", "+192.0.2.3")
    there.recent = Recent()
    there.load(here.dump("T"))
    after = there.dump("T")
    assert there.hits("T") == {"192.0.2.1": 2, "192.0.2.2": 1, "192.0.2.3": 1}
    assert record.stamps(after, after.entries["192.0.2.1"])[0] == record.stamps(before, before.entries["192.0.2.1"])[0]


def test_an_address_that_a_dump_missed_is_neither_removed_nor_doubled(two: tuple[Node, Node]) -> None:
    here, there = two
    here.write("T", "+192.0.2.1", "+192.0.2.1", "+192.0.2.2")
    first = here.dump("T")
    torn = first._replace(entries={"192.0.2.2": first.entries["192.0.2.2"]})
    there.load(first)
    there.load(torn, first)
    assert there.hits("T") == {"192.0.2.1": 2, "192.0.2.2": 1}
    there.load(first, torn)
    assert there.hits("T") == {"192.0.2.1": 2, "192.0.2.2": 1}
    there.recent = Recent()
    there.load(torn)
    there.load(first, torn)
    assert there.hits("T") == {"192.0.2.1": 2, "192.0.2.2": 1}


def test_an_address_that_is_gone_goes_after_three_dumps(two: tuple[Node, Node]) -> None:
    here, there = two
    here.write("T", "+192.0.2.1", "+192.0.2.2")
    last = here.dump("T")
    there.load(last)
    there.write("T", "+192.0.2.77")  # this node's own
    here.write("T", "-192.0.2.1")
    there.recent = Recent()
    left = []
    for turn in range(3):
        now = here.dump("T")
        there.load(now, last if turn else None)
        last = now
        left.append(len(there.hits("T")))
    assert left == [3, 3, 1] and there.hits("T") == {"192.0.2.2": 1}


def test_an_address_that_was_removed_and_came_back_has_its_new_hits_only(two: tuple[Node, Node]) -> None:
    here, there = two
    here.write("T", *["+192.0.2.1"] * 5)
    last = here.dump("T")
    there.load(last)
    time.sleep(0.02)
    here.write("T", "-192.0.2.1", "+192.0.2.1")
    there.load(here.dump("T"), last)
    assert there.hits("T") == {"192.0.2.1": 1}


def test_a_table_that_is_suddenly_empty_is_held(two: tuple[Node, Node]) -> None:
    here, there = two
    here.write("T", "+192.0.2.1")
    last = here.dump("T")
    there.load(last)
    here.write("T", "/")
    for _ in range(5):
        now = here.dump("T")
        there.load(now, last)
        last = now
    assert there.hits("T") == {"192.0.2.1": 1}
    for _ in range(4):
        now = record.aged(last, recent_memory.HELD)
        there.load(now, last)
        last = now
    assert there.hits("T") == {}


def test_a_table_that_was_made_anew_is_filled_again(two: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = two
    here.write("T", "+192.0.2.1", "+192.0.2.1", "+2001:db8::1")
    last = here.dump("T")
    there.load(last)
    there.run("iptables", "-F")
    with pytest.raises(Missing):
        there.load(last, last)
    there.rule("T")
    monkeypatch.setattr(recent_memory, "LOOK", 0.0)
    there.load(record.aged(last, 100), last)
    assert there.hits("T") == here.hits("T")


def test_one_bad_address_is_a_problem_and_the_others_are_loaded(one: Node) -> None:
    bad = ["nonsense", "192.0.2.0/24", "192.0.2.1 ", "/", "\ud800", "2001:db8::g"]
    loaded = one.load(table({**dict.fromkeys(bad, (5.0,)), "192.0.2.1": (4.0,), "2001:db8::1": (3.0,)}))
    assert sorted(one.hits("T")) == ["192.0.2.1", "2001:db8::1"]
    assert loaded.entries == 2
    assert sorted(loaded.problems) == sorted(f"{key}: Invalid argument" for key in bad)


def test_more_addresses_than_there_is_room_for_are_named_and_the_last_ones_kept(one: Node) -> None:
    total = int(one.dump("T").facts["ip_list_tot"])
    rows = {f"10.{host // 65536}.{host // 256 % 256}.{host % 256}": (1e6 - host,) for host in range(total + 7)}
    loaded = one.load(table(rows))
    assert loaded.problems == (
        f"7 addresses are more than ip_list_tot = {total} has room for here: the oldest are left out",
    )
    assert one.hits("T").keys() == set(list(rows)[7:])


# Deadlines


def test_what_is_loaded_from_a_file_goes_when_its_time_is_over_unless_it_was_seen(one: Node) -> None:
    rows = {
        "192.0.2.1": (70e3, 50e3),
        "192.0.2.2": (50e3,),
        "2001:db8::3": (59e3,),
        "192.0.2.4": (61e3,),
    }
    loaded = one.load(table(rows, seconds=60))
    assert one.hits("T") == {"192.0.2.1": 1, "192.0.2.2": 1, "2001:db8::3": 1}
    assert {key: due.remaining_ms for key, due in loaded.deadlines.items()} == {
        "192.0.2.1": 10e3,
        "192.0.2.2": 10e3,
        "2001:db8::3": 1e3,
    }
    marks = {key: due.mark for key, due in loaded.deadlines.items()}
    clock = Clock()
    started = clock.now()
    while clock.now() < started + 3:
        time.sleep(0.001)
    one.write("T", "+192.0.2.2")
    one.reap("T", marks | {"192.0.2.99": "1"})
    assert one.hits("T") == {"192.0.2.2": 2}


def test_what_is_mirrored_live_has_no_deadline(two: tuple[Node, Node]) -> None:
    here, there = two
    for node in two:
        node.rule("T", *ONLY_PROC, "-m", "recent", "--name", "T", "--rcheck", "--seconds", "60")
        node.recent = Recent()
    last = here.dump("T")
    assert last.facts["seconds"] == 60
    there.load(last)
    here.write("T", "+192.0.2.1")
    now = here.dump("T")
    assert there.load(now, last).deadlines == {}
    there.recent = Recent()
    assert there.load(record.aged(now, 100)).deadlines == {}
    assert there.load(record.aged(now, 30e3)).deadlines.keys() == {"192.0.2.1"}


# The patch, which this kernel does not have


def test_this_kernel_is_not_taken_for_one_with_the_patch() -> None:
    assert not recent_patched.here()


def test_a_kernel_that_refuses_the_patchs_write_is_written_to_as_any_other(
    one: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent_patched, "here", lambda: True)
    [line] = recent_patched.writes("192.0.2.9", 64, [1, 2])
    with one.inside(), recent_proc.opened("T", os.O_RDWR) as fd:
        refused = recent_proc.put(fd, line)
    assert refused is not None and refused.errno == errno.EINVAL and one.hits("T") == {}
    loaded = one.load(table({"192.0.2.1": (9.0, 5.0), "2001:db8::1": (4.0,)}))
    assert loaded.problems == () and one.hits("T") == {"192.0.2.1": 2, "2001:db8::1": 1}


# The promise


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
def test_the_standby_has_the_masters_users(pair: tuple[Node, Node], interval: float, seconds: float) -> None:
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


# Speed


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
