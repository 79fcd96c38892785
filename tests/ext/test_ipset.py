"""Sets of ipset in two network namespaces: what the standby has after a load, by ipset's own word.

HOTPAIR_LONG=1 measures 10,000 and 50,000 entries against the bare tool.
"""

import os
import subprocess
import time

import pytest

from hotpair.sessions.backend import Loaded, Missing, TableError
from hotpair.sessions.ipset import Ipset
from hotpair.sessions.record import Entry, Table
from tests.ext.netspaces import Timed, alike, best, missing, slow, two_of

WHY = missing("ipset")
pytestmark = pytest.mark.skipif(bool(WHY), reason=WHY)
SEEN = "create seen hash:ip maxelem 100000 timeout 3600 counters comment skbinfo"


class Node(Timed):
    """A node with a set `seen` and a backend."""

    def __init__(self) -> None:
        super().__init__()
        self.ipset = Ipset()

    def script(self, *lines: str) -> None:
        self.run("ipset", "restore", stdin="".join(f"{line}\n" for line in lines))

    def dump(self, name: str = "seen") -> Table:
        return self.dump_of(self.ipset, name)

    def load(self, wanted: Table, last: Table | None = None) -> Loaded:
        return self.load_into(self.ipset, wanted, last)

    def sets(self) -> list[str]:
        return self.run("ipset", "list", "-name").split()


pair = two_of(Node)


@pytest.fixture
def two(pair: tuple[Node, Node]) -> tuple[Node, Node]:
    for node in pair:
        node.took = 0.0
        node.run("ipset", "destroy")
        node.script(SEEN)
        node.ipset = Ipset()
    return pair


def many(count: int) -> list[str]:
    return [
        f"10.{n >> 16}.{n >> 8 & 255}.{n & 255} timeout {1000 + n % 2000} packets {n} bytes {n * 60}"
        for n in range(count)
    ]


def test_ten_thousand_entries_have_their_counters_and_their_time_on_the_other_node(two: tuple[Node, Node]) -> None:
    here, there = two
    here.script(*(f"add seen {one}" for one in many(10_000)))
    assert there.load(here.dump()) == Loaded(10_000)
    mine, theirs = here.dump(), there.dump()
    # each listing tells whole seconds, which may turn between the two: one more than the second that is promised
    assert len(mine.entries) == 10_000 and alike(mine, theirs) <= 2000 + slow(two)
    assert there.sets() == ["seen"]


def test_all_that_belongs_to_an_entry_comes_over(two: tuple[Node, Node]) -> None:
    here, there = two
    here.script(
        'add seen 10.0.0.1 timeout 99 packets 5 bytes 50 comment "one; who" skbmark 0x1/0xff skbprio 1:10 skbqueue 3',
        "add seen 10.0.0.2 timeout 0",
    )
    assert there.load(here.dump()).problems == ()
    assert alike(here.dump(), there.dump()) <= 2000 + slow(two)
    assert there.dump().entries["10.0.0.2"].remaining_ms is None
    assert here.dump().facts == there.dump().facts


def test_addresses_of_ipv6_come_over(two: tuple[Node, Node]) -> None:
    here, there = two
    for node in two:
        node.script("create six hash:ip family inet6 timeout 60")
    here.script("add six 2001:db8::1", "add six 2001:db8::2 timeout 30")
    assert there.load(here.dump("six")).problems == ()
    assert alike(here.dump("six"), there.dump("six")) <= 2000 + slow(two)


def test_a_change_is_written_in_place(two: tuple[Node, Node]) -> None:
    here, there = two
    here.script("add seen 10.0.0.1", "add seen 10.0.0.2", "add seen 10.0.0.3")
    first = here.dump()
    there.load(first)
    there.script("add seen 10.0.0.99")  # tells a change from a replacement
    here.script("del seen 10.0.0.1", "del seen 10.0.0.2", "add seen 10.0.0.1 timeout 300 packets 5 bytes 77")
    here.script("add seen 10.0.0.4")
    assert there.load(here.dump(), first).problems == ()
    found = there.dump().entries
    assert found.keys() == {"10.0.0.1", "10.0.0.3", "10.0.0.4", "10.0.0.99"}
    assert (found["10.0.0.1"].hits, found["10.0.0.1"].data["bytes"]) == (5, 77)
    left = found["10.0.0.1"].remaining_ms
    assert left and 300_000 - slow(two) - 2000 < left <= 300_500


def test_an_empty_set_makes_the_other_empty(two: tuple[Node, Node]) -> None:
    here, there = two
    there.script("add seen 10.0.0.1")
    assert there.load(here.dump()) == Loaded(0)
    assert there.dump().entries == {}


def test_what_is_as_good_as_over_does_not_stay_for_ever(two: tuple[Node, Node]) -> None:
    _, there = two
    entries = {key: Entry(key, 0, (), left) for key, left in (("10.0.0.1", 400.0), ("10.0.0.2", 9000.0))}
    there.load(Table("ipset", "seen", time.time(), time.monotonic() * 1000, entries))
    assert there.dump().entries.keys() == {"10.0.0.2"}


def test_a_bad_entry_spares_the_others(two: tuple[Node, Node]) -> None:
    _, there = two
    keys = ["10.0.0.1", "10.0.0.2\nflush seen", "example.org", "10.0.0.3,tcp:80", "-exist"]
    entries = {key: Entry(key, 0, (), 60_000.0) for key in keys}
    loaded = there.load(Table("ipset", "seen", time.time(), time.monotonic() * 1000, entries))
    assert loaded.entries == 1 and len(loaded.problems) == 4
    assert there.dump().entries.keys() == {"10.0.0.1"}


def test_a_set_that_a_killed_load_left_is_no_obstacle(two: tuple[Node, Node]) -> None:
    here, there = two
    here.script("add seen 10.0.0.1")
    there.load(here.dump())
    there.script("create hotpair.7969112315297641 hash:ip family inet6", "add hotpair.7969112315297641 ::1")
    assert there.load(here.dump()).problems == ()
    assert there.sets() == ["seen"] and there.dump().entries.keys() == {"10.0.0.1"}


def test_a_set_that_is_full_is_said_to_be_and_stays_as_it_was(two: tuple[Node, Node]) -> None:
    here, there = two
    there.run("ipset", "destroy")
    there.script("create seen hash:ip maxelem 4 timeout 60 counters", "add seen 192.0.2.1")
    here.script(*(f"add seen 10.0.0.{n}" for n in range(1, 60)))
    with pytest.raises(TableError, match="full"):
        there.load(here.dump())
    assert there.sets() == ["seen"] and there.dump().entries.keys() == {"192.0.2.1"}


def test_a_set_that_is_not_here_is_missing(two: tuple[Node, Node]) -> None:
    here, there = two
    dump = here.dump()
    for name in ("nothing", "seen\nflush"):
        with there.inside(), pytest.raises(Missing):
            there.ipset.dump(name)
        with there.inside(), pytest.raises(Missing):
            there.ipset.load(dump._replace(name=name), None)
    there.load(dump)
    there.run("ipset", "destroy", "seen")
    here.script("add seen 10.0.0.1")
    with pytest.raises(Missing):
        there.load(here.dump(), dump)


def test_a_set_of_another_type_is_not_written(two: tuple[Node, Node]) -> None:
    here, there = two
    there.run("ipset", "destroy")
    there.script("create seen hash:ip family inet6 timeout 60")
    with pytest.raises(TableError, match="family is inet6 here and inet there"):
        there.load(here.dump())


@pytest.mark.skipif(not os.environ.get("HOTPAIR_LONG"), reason="HOTPAIR_LONG=1 measures")
@pytest.mark.parametrize("count", [10_000, 50_000])
def test_a_dump_and_a_load_take_little_longer_than_the_tool_alone(two: tuple[Node, Node], count: int) -> None:
    here, there = two
    here.script(*(f"add seen {one}" for one in many(count)))
    dumped = here.dump()
    adds = "".join(f"add beside {one}\n" for one in many(count))
    ready = f"{SEEN.replace('seen', 'beside')}\n{adds}swap beside seen\ndestroy beside\n".encode()

    def bare(text: bytes, *argv: str) -> None:
        with there.inside():
            subprocess.run(argv, input=text, stdout=subprocess.PIPE, check=True)

    there.load(dumped)
    dumps = best(there.dump) / best(lambda: bare(b"", "ipset", "save", "seen"))
    loads = best(lambda: there.load(dumped)) / best(lambda: bare(ready, "ipset", "restore"))
    print(f"\nipset {count}: dump {dumps:.2f}, load {loads:.2f} times the bare tool")
    assert dumps < 1.5 and loads < 1.5
