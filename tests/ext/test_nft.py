"""Sets and maps of nftables in two network namespaces: what the standby has after a load, by nft's own word.

HOTPAIR_LONG=1 measures 10,000 and 50,000 elements against the bare tool.
"""

import os
import subprocess
import time

import pytest

from hotpair.sessions.backend import Loaded, Missing
from hotpair.sessions.nft import Nft
from hotpair.sessions.record import Entry, Table
from tests.ext.netspaces import Timed, alike, best, missing, slow, two_of

WHY = missing("nft")
pytestmark = pytest.mark.skipif(bool(WHY), reason=WHY)
RULES = """
flush ruleset
table inet filter {
    set seen { type ipv4_addr; flags timeout, dynamic; timeout 1h; size 65535; counter; }
    set six { type ipv6_addr . inet_service; flags timeout; }
    set nets { type ipv4_addr; flags interval, timeout; }
    set doors { type ifname . mark; flags timeout; }
    map marks { type ipv4_addr : mark; flags timeout; }
    map ways { type ipv4_addr . inet_service : verdict; flags timeout; }
    chain aside { }
}
"""


class Node(Timed):
    """A node with these rules and a backend."""

    def __init__(self) -> None:
        super().__init__()
        self.nft = Nft()

    def script(self, text: str) -> None:
        self.run("nft", "-f", "-", stdin=text)

    def add(self, name: str, *elements: str) -> None:
        self.script(f"add element inet filter {name} {{ {', '.join(elements)} }}\n")

    def dump(self, name: str) -> Table:
        return self.dump_of(self.nft, f"inet filter {name}")

    def load(self, wanted: Table, last: Table | None = None) -> Loaded:
        return self.load_into(self.nft, wanted, last)


pair = two_of(Node)


@pytest.fixture
def two(pair: tuple[Node, Node]) -> tuple[Node, Node]:
    for node in pair:
        node.took = 0.0
        node.script(RULES)
        node.nft = Nft()
    return pair


def exactly(node: Node, name: str) -> dict[str, float]:
    """Return the milliseconds that each element has left, as nft's text says them; these are exact."""
    units = {"d": 86400e3, "h": 3600e3, "m": 60e3, "s": 1e3, "ms": 1.0}
    found = {}
    listing = node.run("nft", "list", "set", "inet", "filter", name).partition("elements = {")[2]
    for element in listing.replace("}", "").split(","):
        words = element.split()
        if "expires" in words:
            text, left, digits = words[words.index("expires") + 1], 0.0, ""
            while text:
                digits = text[: len(text) - len(text.lstrip("0123456789"))]
                unit = "ms" if text[len(digits) :].startswith("ms") else text[len(digits)]
                left += int(digits) * units[unit]
                text = text[len(digits) + len(unit) :]
            found[words[0]] = left
    return found


def many(count: int) -> list[str]:
    return [
        f"10.{n >> 16}.{n >> 8 & 255}.{n & 255} counter packets {n} bytes {n * 60} timeout 1h expires {999 + n % 2000}s"
        for n in range(count)
    ]


def test_ten_thousand_elements_have_their_counters_and_their_time_on_the_other_node(two: tuple[Node, Node]) -> None:
    here, there = two
    here.add("seen", *many(10_000))
    assert there.load(here.dump("seen")) == Loaded(10_000)
    before, mine, theirs = time.monotonic(), exactly(here, "seen"), exactly(there, "seen")
    between = (time.monotonic() - before) * 1000  # by which the second listing may be later than the first
    assert mine.keys() == theirs.keys() and len(mine) == 10_000
    off = [theirs[key] - mine[key] for key in mine]
    late = slow(two)
    assert -1000 - between < min(off) and max(off) < 1000 + late, (min(off), max(off), between, late)
    alike(here.dump("seen"), there.dump("seen"))


@pytest.mark.parametrize(
    ("name", "elements"),
    [
        ("six", ["2001:db8::1 . 443 timeout 10m expires 99s", "2001:db8::2 . 80"]),
        ("nets", ["10.0.0.0/24 timeout 5m", "10.1.0.5-10.1.0.9", "192.0.2.1 timeout 90s"]),
        ("doors", ['"eth0" . 7 timeout 5m', '"lo" . 255']),
        ("marks", ["10.0.0.1 timeout 30m expires 10m : 0x2", "10.0.0.2 : 3"]),
        ("ways", ["10.0.0.1 . 80 timeout 30m : jump aside", "10.0.0.2 . 81 : drop", "10.0.0.3 . 81 : accept"]),
        ("seen", ['10.0.0.1 timeout 5m comment "one, who; {came}"', "10.0.0.2"]),
    ],
)
def test_each_kind_of_table_comes_over_and_changes(two: tuple[Node, Node], name: str, elements: list[str]) -> None:
    here, there = two
    kind = "map" if name in ("marks", "ways") else "set"
    here.add(name, *elements)
    first = here.dump(name)
    assert len(first.entries) == len(elements)
    assert there.load(first).problems == ()
    assert alike(first, there.dump(name)) <= 1000 + slow(two)
    assert first.facts == there.dump(name).facts
    here.script(f"flush {kind} inet filter {name}\n")
    here.add(name, elements[-1])
    second = here.dump(name)
    assert there.load(second, first).problems == ()
    assert alike(second, there.dump(name)) <= 1000 + slow(two) and len(second.entries) == 1


def test_a_change_writes_what_has_changed_and_leaves_the_rest(two: tuple[Node, Node]) -> None:
    here, there = two
    here.add("seen", "10.0.0.1 counter packets 1 bytes 9 timeout 30m", "10.0.0.2", "10.0.0.3")
    first = here.dump("seen")
    there.load(first)
    there.add("seen", "10.0.0.99")  # tells a change from a replacement
    here.script("delete element inet filter seen { 10.0.0.1, 10.0.0.2 }\n")
    here.add("seen", "10.0.0.1 counter packets 5 bytes 77 timeout 30m expires 5m", "10.0.0.4")
    assert there.load(here.dump("seen"), first).problems == ()
    found = there.dump("seen").entries
    assert found.keys() == {"10.0.0.1", "10.0.0.3", "10.0.0.4", "10.0.0.99"}
    assert (found["10.0.0.1"].hits, found["10.0.0.1"].data["bytes"]) == (5, 77)
    left = found["10.0.0.1"].remaining_ms
    assert left and 300_000 - slow(two) - 2000 < left <= 300_500


def test_a_change_of_data_reaches_a_map_whether_its_element_is_still_there_or_not(two: tuple[Node, Node]) -> None:
    here, there = two
    here.add("marks", "10.0.0.1 timeout 5m : 1", "10.0.0.2 timeout 5m : 2")
    first = here.dump("marks")
    there.load(first)
    there.script("delete element inet filter marks { 10.0.0.2 }\n")
    here.script("flush map inet filter marks\n")
    here.add("marks", "10.0.0.1 timeout 5m : 7", "10.0.0.2 timeout 5m : 8")
    assert there.load(here.dump("marks"), first).problems == ()
    assert {key: one.data["value"] for key, one in there.dump("marks").entries.items()} == {
        "10.0.0.1": "7",
        "10.0.0.2": "8",
    }


def test_what_somebody_else_wrote_into_a_map_ends_in_a_replacement(two: tuple[Node, Node]) -> None:
    here, there = two
    empty = here.dump("marks")
    there.load(empty)
    there.add("marks", "10.0.0.1 : 5")
    here.add("marks", "10.0.0.1 timeout 5m : 1")
    assert there.load(here.dump("marks"), empty).problems == ()
    assert there.dump("marks").entries["10.0.0.1"].data["value"] == "1"


def test_an_empty_table_makes_the_other_empty(two: tuple[Node, Node]) -> None:
    here, there = two
    there.add("seen", "10.0.0.1")
    assert there.load(here.dump("seen")) == Loaded(0)
    assert there.dump("seen").entries == {}


def test_what_is_as_good_as_over_is_not_given_its_full_time_again(two: tuple[Node, Node]) -> None:
    here, there = two
    here.add("seen", "10.0.0.1 timeout 5m expires 900ms", "10.0.0.2")
    there.load(here.dump("seen"))
    assert there.dump("seen").entries.keys() == {"10.0.0.2"}


def test_a_bad_element_spares_the_others(two: tuple[Node, Node]) -> None:
    _, there = two
    bad = ["10.0.0.2 } ; flush ruleset ; add element inet filter seen { 10.0.0.3", "example.org", "10.0.0.1\n"]
    entries = {key: Entry(key, 1, (), 60_000, {"bytes": 1}) for key in ["10.0.0.1", *bad]}
    entries["10.0.0.9"] = Entry("10.0.0.9", data={"bytes": 0})  # would have to last for ever
    wanted = Table("nft", "inet filter seen", time.time(), time.monotonic() * 1000, entries)
    loaded = there.load(wanted)
    assert loaded.entries == 1 and len(loaded.problems) == 4
    assert there.dump("seen").entries.keys() == {"10.0.0.1"}


def test_an_element_that_nft_itself_refuses_spares_the_others(two: tuple[Node, Node]) -> None:
    here, there = two
    here.add("ways", "10.0.0.1 . 80 : drop", "10.0.0.2 . 80 : jump aside", "10.0.0.3 . 80 : accept")
    there.script("delete chain inet filter aside\n")
    loaded = there.load(here.dump("ways"))
    assert loaded.entries == 2 and len(loaded.problems) == 1 and "10.0.0.2 . 80" in loaded.problems[0]
    assert there.dump("ways").entries.keys() == {"10.0.0.1 . 80", "10.0.0.3 . 80"}


def test_many_elements_that_nft_refuses_spare_the_others_and_are_told_of_each_time(two: tuple[Node, Node]) -> None:
    here, there = two
    here.add("ways", *(f"10.0.0.{n} . 80 : jump aside" for n in range(1, 41)), "10.0.1.1 . 80 : drop")
    there.script("delete chain inet filter aside\n")
    first = here.dump("ways")
    loaded = there.load(first)
    assert loaded.entries == 1 and there.dump("ways").entries.keys() == {"10.0.1.1 . 80"}
    here.add("ways", "10.0.1.2 . 80 : drop")
    again = there.load(here.dump("ways"), first)
    assert again.entries == 2 and again.problems == loaded.problems != ()
    assert there.dump("ways").entries.keys() == {"10.0.1.1 . 80", "10.0.1.2 . 80"}


def test_a_table_that_is_not_here_is_missing(two: tuple[Node, Node]) -> None:
    here, there = two
    dump = here.dump("seen")
    for name in ("inet filter nothing", "inet nothing seen", "inet filter", "inet filter seen;flush ruleset"):
        with there.inside(), pytest.raises(Missing):
            there.nft.dump(name)
        with there.inside(), pytest.raises(Missing):
            there.nft.load(dump._replace(name=name), None)
    there.load(dump)
    there.script("delete set inet filter seen\n")
    here.add("seen", "10.0.0.1")
    with pytest.raises(Missing):
        there.load(here.dump("seen"), dump)


def test_the_tables_that_are_here_are_named(two: tuple[Node, Node]) -> None:
    with two[0].inside():
        names = two[0].nft.names()
    assert names == [f"inet filter {name}" for name in ("doors", "marks", "nets", "seen", "six", "ways")]


@pytest.mark.skipif(not os.environ.get("HOTPAIR_LONG"), reason="HOTPAIR_LONG=1 measures")
@pytest.mark.parametrize("count", [10_000, 50_000])
def test_a_dump_and_a_load_take_little_longer_than_the_tool_alone(two: tuple[Node, Node], count: int) -> None:
    here, there = two
    here.add("seen", *many(count))
    ready = "flush set inet filter seen\nadd element inet filter seen {\n" + ",\n".join(many(count)) + "}\n"
    dumped = here.dump("seen")

    def bare(*argv: str, text: str = "") -> None:
        with there.inside():
            subprocess.run(argv, input=text.encode(), stdout=subprocess.PIPE, check=True)

    there.script(ready)
    dumps = best(lambda: there.dump("seen")) / best(lambda: bare("nft", "-j", "list", "set", "inet", "filter", "seen"))
    loads = best(lambda: there.load(dumped)) / best(lambda: bare("nft", "-f", "-", text=ready))
    print(f"\nnft {count}: dump {dumps:.2f}, load {loads:.2f} times the bare tool")
    assert dumps < 1.5 and loads < 1.5


def test_a_set_in_which_nothing_expires_is_no_place_for_what_does(two: tuple[Node, Node]) -> None:
    here, there = two
    here.add("six", "2001:db8::1 . 443 timeout 10m")
    there.script("delete set inet filter six\nadd set inet filter six { type ipv6_addr . inet_service; }\n")
    loaded = there.load(here.dump("six"))
    assert loaded.entries == 0 and "nothing expires" in loaded.problems[0]
