"""The parts of the backend for xt_recent that need no kernel: rows, rules, clock, what to replay, the patch's write."""

from collections.abc import Mapping
from math import inf

import pytest

from hotpair.sessions import jiffies, recent_patched, recent_rows, recent_rules
from hotpair.sessions.recent_memory import ABSENCES, HELD, LOOK, Memory
from hotpair.sessions.recent_replay import Limits, Plan, behind, plan, unseen
from hotpair.sessions.recent_rules import Uses
from hotpair.sessions.record import Entry, Table

NOW, TICK = 4_295_040_000, 4.0


def row(address: str, *stamps: int, index: int = 0, last: int = 0, ttl: int = 64) -> bytes:
    shown = ", ".join(map(str, stamps))
    head = f"src={address} ttl: {ttl} last_seen: {last or max(stamps)} oldest_pkt: {index or len(stamps)}"
    return f"{head} {shown}\n".encode()


def ages(text: bytes, now: int = NOW, bits: int = 64) -> dict[str, tuple[float, ...]]:
    return {key: entry.ages_ms for key, entry in recent_rows.entries(text, now, TICK, bits)[0].items()}


# Rows


def test_a_row_is_an_entry_with_its_stamps_as_ages() -> None:
    found, now = recent_rows.entries(row("192.0.2.7", NOW - 250, NOW - 25, NOW), NOW, TICK)
    assert found == {"192.0.2.7": Entry("192.0.2.7", 3, (1000.0, 100.0, 0.0), None, {"ttl": 64})}
    assert now == NOW


def test_no_row_is_an_empty_table() -> None:
    assert recent_rows.entries(b"", NOW, TICK) == ({}, NOW)


def test_addresses_of_ipv6_are_in_their_shortest_form() -> None:
    text = row("2001:0db8:0000:0000:0000:0000:0000:0001", NOW) + row("192.0.2.1", NOW)
    assert list(ages(text)) == ["2001:db8::1", "192.0.2.1"]
    assert list(recent_rows.marks(text)) == ["2001:db8::1", "192.0.2.1"]


def test_a_ring_that_has_turned_is_told_in_the_order_of_time() -> None:
    assert ages(row("192.0.2.1", NOW - 1, NOW, NOW - 3, NOW - 2, index=2)) == {"192.0.2.1": (12.0, 8.0, 4.0, 0.0)}


def test_the_stamp_that_an_older_kernel_never_shows_is_known_by_last_seen() -> None:
    shown = range(NOW - 300, NOW - 45)
    assert len(shown) == 255
    found = ages(row("192.0.2.1", *shown, index=0, last=NOW - 1))["192.0.2.1"]
    assert len(found) == 256 and found[-2:] == (184.0, 4.0)


def test_of_a_row_that_was_read_twice_the_later_one_counts() -> None:
    assert ages(row("192.0.2.1", NOW - 9) + row("192.0.2.1", NOW - 9, NOW)) == {"192.0.2.1": (36.0, 0.0)}


def test_a_clock_that_was_read_too_early_is_put_right_by_the_stamps() -> None:
    text = row("192.0.2.1", NOW - 9) + row("192.0.2.2", NOW + 2)
    found, now = recent_rows.entries(text, NOW, TICK)
    assert now == NOW + 2
    assert [entry.ages_ms for entry in found.values()] == [(44.0,), (0.0,)]


def test_a_stamp_far_in_the_future_makes_nobody_else_older() -> None:
    text = row("192.0.2.1", NOW - 9) + row("192.0.2.2", NOW + 10**6)
    assert ages(text) == {"192.0.2.1": (36.0,), "192.0.2.2": (0.0,)}


def test_two_dumps_agree_on_the_moment_of_a_hit() -> None:
    text = row("192.0.2.1", NOW - 7777)
    moments = set()
    for now in (NOW, NOW + 1, NOW + 12345):
        [entry] = recent_rows.entries(text, now, TICK)[0].values()
        moments.add(now * TICK - entry.ages_ms[0])
    assert moments == {(NOW - 7777) * TICK}


@pytest.mark.parametrize("late", [0, 5, 1000])
def test_stamps_of_a_32_bit_kernel_go_on_where_they_wrap(late: int) -> None:
    now = (1 << 32) + late
    text = row("192.0.2.1", (now - 10) % (1 << 32), now % (1 << 32))
    assert ages(text, now, 32) == {"192.0.2.1": (40.0, 0.0)}


@pytest.mark.parametrize(
    "text",
    [
        b"192.0.2.1\n",
        b"src=192.0.2.1 ttl: 64\n",
        b"src=192.0.2.1 ttl: 64 last_seen: 1 oldest_pkt: 1 x\n",
        b"src=192.0.2.1 ttl: 64 last_seen: 1 oldest_pkt: 1 1",
        b"src=1:2 ttl: 64 last_seen: 1 oldest_pkt: 1 1\n",
        b"src=\xff ttl: 64 last_seen: 1 oldest_pkt: 1 1\n",
    ],
)
def test_what_no_kernel_writes_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):
        recent_rows.entries(text, NOW, TICK)


# Clock


def test_a_difference_of_counters_is_right_across_their_end() -> None:
    assert jiffies.signed(5 - (2**32 - 3), 32) == 8
    assert jiffies.signed((2**32 - 3) - 5, 32) == -8
    assert jiffies.signed(2**40, 64) == 2**40


@pytest.mark.parametrize(
    "machine, bits", [("x86_64", 64), ("aarch64", 64), ("s390x", 64), ("armv7l", 32), ("i686", 32)]
)
def test_stamps_are_as_long_as_the_kernels_words(machine: str, bits: int) -> None:
    assert jiffies.kernel_bits(machine) == bits


# Rules

RULES = """\
*filter
:INPUT ACCEPT [0:0]
-A INPUT -p tcp -m recent --set --name SSH --mask 255.255.255.255 --rsource
-A INPUT -p tcp -m recent ! --update --seconds 60 --hitcount 4 --name SSH --mask 255.255.255.255 --rsource -j DROP
-A INPUT -m recent --rcheck --seconds 300 --reap --name SSH --rdest -m comment --comment "-m recent" -j DROP
-A INPUT -m recent --update --seconds 9 --hitcount 40 --rttl --name big --mask ffff:ffff:: --rsource
-A INPUT -m recent --rcheck --name banned --mask 255.255.255.255 --rsource -j DROP
-A INPUT -m recent --update --seconds 60 --name banned --mask 255.255.255.255 --rsource -j DROP
-A INPUT -m recent --set --name a b --mask ff:: --rsource -m recent --rcheck --seconds 7 --hitcount 2 --name c --rdest
COMMIT
"""


def test_rules_tell_how_long_an_entry_counts_and_how_many_stamps_it_has() -> None:
    found = recent_rules.parse(RULES)
    assert found == {
        "SSH": Uses(300, 32),
        "big": Uses(9, 64),
        "banned": Uses(None, 32),
        "a b": Uses(None, 32),
        "c": Uses(7, 2),
    }


@pytest.mark.parametrize("hits, size", [(0, 32), (1, 1), (3, 4), (5, 8), (20, 32), (32, 32), (33, 64), (255, 256)])
def test_a_rule_makes_a_ring_of_a_power_of_two(hits: int, size: int) -> None:
    assert recent_rules.size(hits, 0) == size


def test_the_modules_own_number_of_stamps_is_the_least() -> None:
    assert [recent_rules.size(hits, 100) for hits in (0, 5, 200)] == [128, 128, 256]


# What to replay


Rows = Mapping[str, tuple[float, ...]]


def table(clock: float, rows: Rows) -> Table:
    return Table("recent", "T", 0, clock, {key: Entry(key, len(some), some) for key, some in rows.items()})


def planned(
    now: Rows,
    known: Rows | None = None,
    here: Rows | None = None,
    recent: float = 1000.0,
    limits: Limits | None = None,
) -> Plan:
    """Plan for a dump that came 1000 ms after what is known."""
    seen = {key: (1000.0, some) for key, some in (known or {}).items()}
    rows = None if here is None else table(0, here).entries
    return plan(table(2000, now), seen, rows, limits or Limits(ring=4), recent)


@pytest.mark.parametrize(
    "before, after, new",
    [
        ((500,), (1500,), 0),
        ((500,), (1500, 900), 1),
        ((500, 400), (1500, 1400, 20, 10), 2),
        ((500,), (1500, 1500), 1),  # a hit in the same tick
        ((500, 400, 300, 200), (1400, 1300, 1200, 7), 1),  # the ring forgets its oldest
        ((500, 500, 100, 90), (1500, 1100, 1090, 1090), 1),
        ((500, 400, 300, 200), (40, 30, 20, 10), None),  # it has turned
        ((500, 400), (900,), None),  # removed, and seen again
        ((500,), (900,), None),
        ((500.0004,), (1500.0001,), 0),  # rounded
    ],
)
def test_hits_since_the_last_dump_are_those_after_what_both_have(
    before: tuple[float, ...], after: tuple[float, ...], new: int | None
) -> None:
    assert unseen(before, after, 1000) == new


@pytest.mark.parametrize(
    "here, there, least, new",
    [
        ((900,), (1000,), 1, 0),  # replayed 100 ms after the hit
        ((900,), (1000, 500), 2, 1),
        ((5, 5, 5), (1000, 500, 100), 3, 0),  # loaded whole
        ((900, 400, 90, 40), (500, 100, 50, 10), 4, 1),  # a full ring that has turned by one
        ((5, 5, 5, 5), (900, 800, 700, 600), 4, 0),
        ((900, 800, 700, 600), (300, 200, 100, 99), 4, None),
        ((900, 800), (1000,), 1, None),  # hits of this node's own
        ((1000,), (900,), 1, None),  # seen again since
        ((600,), (1000, 900, 800, 700), 1, 0),  # the others do not count any more
        ((600,), (1000, 900, 800, 700), 3, 2),
        ((140,), (100,), 1, 0),  # the time on the way misjudged
    ],
)
def test_a_new_conversation_finds_out_what_the_one_before_has_brought(
    here: tuple[float, ...], there: tuple[float, ...], least: int, new: int | None
) -> None:
    assert behind(here, there, least, 4) == new


def test_new_hits_of_all_addresses_are_written_in_the_order_of_the_hits() -> None:
    found = planned({"a": (1500, 300, 100), "b": (1600, 200), "c": (150,)}, {"a": (500,), "b": (600,)})
    assert found.added == [(300, "a"), (200, "b"), (150, "c"), (100, "a")]
    assert found.removed == [] and found.due == {}


def test_what_has_not_been_seen_since_is_not_written() -> None:
    found = planned({"a": (1500, 1400)}, {"a": (500, 400)})
    assert found == Plan([], [], {}, {})


def test_an_entry_that_is_another_is_removed_and_written_whole() -> None:
    found = planned({"a": (900, 800)}, {"a": (500, 400, 300)})
    assert found.removed == ["a"] and found.added == [(900, "a"), (800, "a")]


def test_of_more_stamps_than_there_is_room_for_the_last_are_written() -> None:
    assert planned({"a": (900, 800, 700, 600, 500)}, here={}).added == [(age, "a") for age in (800, 700, 600, 500)]


@pytest.mark.parametrize("limits", [Limits(), Limits(2000, 2), Limits(800, 4)])
@pytest.mark.parametrize("recent", [-1.0, 600.0])
def test_an_empty_table_is_filled_at_once_as_it_would_be_address_by_address(limits: Limits, recent: float) -> None:
    rows = {"a": (9000.0, 700.0, 500.0), "b": (1900.0,), "c": (), "d": (900.0, 800.0, 40.0)}
    at_once, one_by_one = (planned(rows, known, recent=recent, limits=limits) for known in ({}, {"gone": (1.0,)}))
    assert at_once == one_by_one and at_once.added


def test_what_a_smaller_ring_had_no_room_for_makes_an_address_no_other() -> None:
    before, now = (500, 400, 300, 200, 100), (1400, 1300, 1200, 1100, 7)
    assert planned({"a": now}, {"a": before}).added == [(7, "a")]


def test_what_matches_no_rule_any_more_is_not_loaded_and_the_rest_has_a_deadline() -> None:
    found = planned(
        {"a": (9000, 7000), "b": (9000, 1000, 500), "c": (5000,)}, here={}, recent=-1.0, limits=Limits(5000)
    )
    assert found.added == [(1000, "b"), (500, "b")]
    assert found.due == {"b": 4500} and found.removed == []


def test_an_entry_that_came_since_the_last_dump_needs_no_deadline() -> None:
    found = planned({"a": (999,), "b": (1001,)}, here={}, recent=1000, limits=Limits(5000))
    assert found.due == {"b": 3999}


def test_an_entry_that_looks_too_young_here_has_a_deadline_or_goes_when_it_is_over() -> None:
    rows = {"a": (4000.0,), "b": (4000.0,), "c": (8000.0,), "d": (8000.0,)}
    here = {"a": (100.0,), "b": (3500.0,), "c": (100.0,), "d": (5500.0,)}
    found = planned(rows, here=here, recent=-1.0, limits=Limits(5000, 4))
    assert found.added == [] and found.due == {"a": 1000} and found.removed == ["c"]


def test_an_entry_that_was_lost_here_is_written_whole() -> None:
    found = planned({"a": (1500, 1400), "b": (1500,)}, {"a": (500, 400), "b": (500,)}, here={"b": (490,)})
    assert found.removed == [] and found.added == [(1500, "a"), (1400, "a")]


def test_an_entry_with_hits_of_this_nodes_own_is_replaced() -> None:
    found = planned({"a": (1500,)}, {"a": (500,)}, here={"a": (1490, 100)})
    assert found.removed == ["a"] and found.added == [(1500, "a")]


def test_the_patch_writes_old_stamps_of_ipv4_too_and_needs_no_deadline() -> None:
    rows = {"192.0.2.1": (9000.0,), "2001:db8::1": (9000.0,)}
    found = planned(rows, here={}, recent=-1.0, limits=Limits(5000, exact=True))
    assert found.added == [(9000, "192.0.2.1")] and found.due == {}


# What a conversation remembers


def test_a_disappearance_is_believed_after_three_dumps() -> None:
    memory = Memory(table(0, {"a": (1,), "b": (1,)}))
    gone = [memory.gone(table(1, {"b": (1,)}), None, 0) for _ in range(ABSENCES)]
    assert gone == [[], [], ["a"]] and memory.known.keys() == {"b"}


def test_one_dump_with_it_makes_an_address_present_again() -> None:
    memory = Memory(table(0, {"a": (1,)}))
    with_a, without = table(1, {"a": (1,)}), table(1, {"b": (1,)})
    for now in (without, without, with_a, without, without):
        assert memory.gone(now, None, 0) == []
    assert memory.gone(without, None, 0) == ["a"]


def test_what_only_this_node_has_goes_after_three_dumps_too() -> None:
    memory = Memory(None)
    here = table(0, {"x": (1,)}).entries
    gone = [memory.gone(table(1, {"b": (1,)}), rows, 0) for rows in (here, None, None)]
    assert gone == [[], [], ["x"]]


def test_what_only_this_node_has_is_looked_at_when_the_master_has_it_again() -> None:
    memory = Memory(None)
    assert memory.stale(table(1, {}), 0)
    memory.gone(table(1, {"b": (1,)}), table(0, {"x": (1,)}).entries, 0)
    assert not memory.stale(table(1, {"b": (1,)}), 1)
    assert memory.stale(table(1, {"x": (1,)}), 1)


def test_the_table_here_is_read_now_and_then() -> None:
    memory = Memory(None)
    assert [memory.stale(table(1, {}), moment) for moment in (0, LOOK / 2, LOOK, LOOK + 0.1)] == [
        True,
        False,
        True,
        False,
    ]


def test_what_there_is_no_room_for_is_not_held() -> None:
    memory = Memory(None)
    here = table(0, {"x": (1,), "y": (9,), "b": (1,)}).entries
    assert memory.gone(table(1, {"a": (1,), "b": (1,)}), here, 3) == ["y"]


def test_an_empty_table_is_held_for_half_a_minute() -> None:
    memory = Memory(table(0, {"a": (1,)}))
    assert [memory.held(table(clock, {})) for clock in (5, 5 + HELD - 1, 5 + HELD)] == [True, True, False]
    assert not memory.held(table(HELD, {"a": (1,)}))
    assert memory.held(table(HELD * 9, {}))


def test_what_could_not_be_written_is_tried_again() -> None:
    memory = Memory(None)
    memory.learn({"a": (0, (1.0,)), "b": (0, (1.0,))}, {"b": "why"})
    assert memory.known == {"a": (0, (1.0,))}


# The patch


def test_the_patchs_write_is_as_its_source_reads_it() -> None:
    assert recent_patched.writes("192.0.2.1", 64, [4295038596, 4295038671]) == [
        b"*192.0.2.1;64;4295038596;4295038671;\x00"
    ]


def test_no_write_is_longer_than_the_patch_takes_and_none_is_shorter_than_need_be() -> None:
    stamps = list(range(4_295_000_000, 4_295_000_256))
    lines = recent_patched.writes("192.0.2.111", 64, stamps)
    assert all(line.startswith(b"*192.0.2.111;64;4") and line.endswith(b";\0") for line in lines)
    assert [len(line) for line in lines[:-1]] == [413] * (len(lines) - 1)
    assert [int(word) for line in lines for word in line[:-2].split(b";")[2:]] == stamps


def test_a_write_may_have_421_bytes() -> None:
    stamps = [10**9 + one for one in range(36)]
    [line] = recent_patched.writes("192.0.2.111", 123, [*stamps, 10**5])
    assert len(line) == 17 + 36 * 11 + 7 + 1 == 421
    assert len(recent_patched.writes("192.0.2.111", 123, [*stamps, 10**6])) == 2


@pytest.mark.parametrize("ttl, written", [(255, b"255"), (256, b"0"), (-1, b"0"), (None, b"0"), ("64", b"0")])
def test_a_time_to_live_that_does_not_fit_is_none(ttl: object, written: bytes) -> None:
    assert recent_patched.writes("192.0.2.1", ttl, [7]) == [b"*192.0.2.1;%b;7;\0" % written]


def test_no_stamp_is_no_write() -> None:
    assert recent_patched.writes("192.0.2.1", 64, []) == []


@pytest.mark.parametrize(
    "key, taken", [("192.0.2.1", True), ("2001:db8::1", False), ("192.0.2.1;0;1", False), ("", False)]
)
def test_the_patch_takes_addresses_of_ipv4_only(key: str, taken: bool) -> None:
    assert recent_patched.takes(key) is taken


def test_ages_become_stamps_of_this_kernel_the_oldest_first() -> None:
    assert recent_patched.rebased([0.0, 1000.0, 98.0], NOW, TICK, 64) == [NOW - 250, NOW - 24, NOW]
    assert recent_patched.rebased([40.0], 5, TICK, 32) == [2**32 - 5]


def test_nothing_is_planned_for_an_entry_without_stamps() -> None:
    assert planned({"a": ()}, here={}, limits=Limits(inf)) == Plan([], [], {}, {})
