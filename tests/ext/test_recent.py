"""xt_recent on this kernel, in two network namespaces: what is read, written, and removed when its time is over."""

import errno
import os
import random
import time
from pathlib import Path

import pytest

from hotpair.sessions import recent_memory, recent_patched, recent_proc, record
from hotpair.sessions.backend import Missing
from hotpair.sessions.jiffies import Clock
from hotpair.sessions.recent import Recent
from tests.ext.netspaces import two_of
from tests.ext.recents import ONLY_PROC, WHY, Node, table

pytestmark = pytest.mark.skipif(bool(WHY), reason=WHY)

pair = two_of(Node)


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
