"""What nft lists, read; and what it is given, in which no key of another node can be more than a key."""

import json

import pytest

from hotpair.sessions import nft_rows, nft_values, tool
from hotpair.sessions.nft_rows import Batch, Head
from hotpair.sessions.nft_values import Unsayable
from hotpair.sessions.record import Entry

SEEN = Head("set", ("ipv4_addr",), (), ("timeout",), 3600, 0, True)
PLAIN = SEEN._replace(timeout=0, counter=False)
MARKS = PLAIN._replace(kind="map", data=("mark",))


def listed(kind: str, **found: object) -> bytes:
    """Return what nft 1.0.6 lists of a set or map."""
    return json.dumps({"nftables": [{"metainfo": {"version": "1.0.6"}}, {kind: found}]}).encode()


def test_a_set_is_read_with_counters_and_half_a_second_for_what_json_leaves_out() -> None:
    elem = [
        {"elem": {"val": "10.0.0.1", "timeout": 1800, "expires": 753, "counter": {"packets": 5, "bytes": 77}}},
        {"elem": {"val": "10.0.0.2", "expires": 0, "comment": "x"}},
        "10.0.0.3",
    ]
    text = listed("set", type="ipv4_addr", flags=["timeout"], timeout=3600, elem=elem, stmt=[{"counter": None}])
    head, elements = nft_rows.listed(text)
    assert head == SEEN
    assert list(nft_rows.entries(head, elements).values()) == [
        Entry("10.0.0.1", 5, (), 753_500.0, {"timeout": 1800, "bytes": 77}),
        Entry("10.0.0.2", 0, (), 500.0, {"comment": "x"}),
        Entry("10.0.0.3"),
    ]


def test_a_map_is_read_with_its_data() -> None:
    elem = [
        [{"elem": {"val": {"concat": ["10.0.0.1", 80]}, "expires": 9}}, {"jump": {"target": "aside"}}],
        [{"concat": ["10.0.0.2", 81]}, {"drop": None}],
    ]
    head, elements = nft_rows.listed(listed("map", type=["ipv4_addr", "inet_service"], map="verdict", elem=elem))
    found = nft_rows.entries(head, elements)
    assert {key: one.data["value"] for key, one in found.items()} == {
        "10.0.0.1 . 80": "jump aside",
        "10.0.0.2 . 81": "drop",
    }


def test_a_set_without_elements_is_empty() -> None:
    assert nft_rows.listed(listed("set", type="mark"))[1] == []


@pytest.mark.parametrize("text", [b"", b"{}", b'{"nftables": []}', b'{"nftables": [{"chain": {}}]}'])
def test_what_lists_no_set_is_no_set(text: bytes) -> None:
    with pytest.raises((ValueError, KeyError)):
        nft_rows.listed(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"prefix": {"addr": "10.0.0.0", "len": 24}}, "10.0.0.0/24"),
        ({"range": ["10.0.0.1", "10.0.0.9"]}, "10.0.0.1-10.0.0.9"),
        ({"concat": ["10.0.0.1", {"range": [80, 90]}]}, "10.0.0.1 . 80-90"),
        ({"|": ["established", "new"]}, '{"|":["established","new"]}'),  # a shape that is not known stays as it is
    ],
)
def test_a_value_is_shown_as_in_text(value: object, text: str) -> None:
    assert nft_values.shown(value) == text


@pytest.mark.parametrize(
    ("kinds", "text", "words"),
    [
        ("ipv4_addr", "10.0.0.1", "10.0.0.1"),
        ("ipv4_addr", "10.0.0.0/24", "10.0.0.0/24"),
        ("ipv4_addr", "10.0.0.1-10.0.0.9", "10.0.0.1-10.0.0.9"),
        ("ipv6_addr", "2001:db8::/32", "2001:db8::/32"),
        ("ether_addr", "02:00:00:00:00:01", "02:00:00:00:00:01"),
        ("ifname", "eth0.5", '"eth0.5"'),
        ("ipv4_addr inet_service ifname", "10.0.0.1 . 80-90 . lo", '10.0.0.1 . 80-90 . "lo"'),
        ("inet_proto", "tcp", "tcp"),
        ("verdict", "goto aside", "goto aside"),
        ("ipv4_addr", "*", "*"),
    ],
)
def test_a_value_of_its_type_is_written(kinds: str, text: str, words: str) -> None:
    assert nft_values.said(kinds.split(), text) == words


@pytest.mark.parametrize(
    ("kinds", "text"),
    [
        ("ipv4_addr", "10.0.0.1 } ; flush ruleset"),
        ("ipv4_addr", "10.0.0.1\n"),
        ("ipv4_addr", "10.0.0.1,10.0.0.2"),
        ("ipv4_addr", "example.org"),
        ("ipv4_addr", "10.0.0.1/33"),
        ("ipv4_addr", "10.0.0.1/"),
        ("ipv4_addr", "10.0.0.1-"),
        ("ipv4_addr", "10.0.0.1/8-10.0.0.2"),
        ("ipv4_addr", "10.0.0.\u0661"),
        ("ipv4_addr", "10.0.0.1\0"),
        ("ipv4_addr", "$address"),
        ("ipv4_addr", ""),
        ("ipv6_addr", "fe80::1%eth0"),
        ("ifname", 'lo" . "x'),
        ("ifname", "x" * 16),
        ("mark", "1; flush ruleset"),
        ("mark", "0x1}"),
        ("mark", "\u0661"),
        ("verdict", "jump a; drop"),
        ("verdict", "accept\n"),
        ("ipv4_addr inet_service", "10.0.0.1"),
        ("ipv4_addr inet_service", "10.0.0.1 . 80 . 90"),
        ("something_new", "1"),
    ],
)
def test_a_value_that_is_not_of_its_type_is_never_written(kinds: str, text: str) -> None:
    with pytest.raises(Unsayable):
        nft_values.said(kinds.split(), text)


@pytest.mark.parametrize(
    ("head", "entry", "words"),
    [
        # the counter comes first: nft 1.0.6 takes no other order
        (SEEN, Entry("10.0.0.1", 5, (), 1500.4, {"bytes": 7}), "counter packets 5 bytes 7 expires 1500ms"),
        (SEEN, Entry("10.0.0.1", 0, (), 9000.0, {"timeout": 9}), "counter packets 0 bytes 0 timeout 9s expires 9000ms"),
        (PLAIN, Entry("10.0.0.1", 0, (), 9500.0, {"timeout": 9}), "timeout 9s expires 9000ms"),  # more is an error
        (PLAIN, Entry("10.0.0.1", 0, (), 9500.0), "timeout 10s expires 9500ms"),
        (PLAIN, Entry("10.0.0.1", 3, (), None, {"bytes": 1, "comment": "a; {b}"}), 'comment "a; {b}"'),
        (MARKS, Entry("10.0.0.1", 0, (), 9000.0, {"timeout": 9, "value": "2"}), "timeout 9s expires 9000ms : 2"),
    ],
)
def test_an_element_is_written_with_all_that_it_has(head: Head, entry: Entry, words: str) -> None:
    assert nft_rows.element(head, entry, 0) == f"10.0.0.1 {words}"


def test_an_element_has_the_timeout_of_the_set_that_it_is_from() -> None:
    assert nft_rows.element(PLAIN, Entry("10.0.0.1", 0, (), 5000.0), 60) == "10.0.0.1 timeout 60s expires 5000ms"


@pytest.mark.parametrize(
    ("head", "entry"),
    [
        (SEEN, Entry("10.0.0.1")),  # all expire there
        (PLAIN._replace(flags=()), Entry("10.0.0.1", 0, (), 5000.0)),  # nothing expires there
        (SEEN, Entry("10.0.0.1", 0, (), 5000.0, {"bytes": "1 } ; flush ruleset"})),
        (SEEN, Entry("10.0.0.1", 0, (), 5000.0, {"timeout": -1})),
        (PLAIN, Entry("10.0.0.1", 0, (), None, {"comment": 'x" } ; flush ruleset'})),
        (PLAIN, Entry("10.0.0.1", 0, (), None, {"comment": "x\n"})),
        (MARKS, Entry("10.0.0.1")),
        (MARKS, Entry("10.0.0.1", 0, (), None, {"value": "1 } ; flush ruleset"})),
    ],
)
def test_an_element_that_cannot_be_written_so_is_not_written_otherwise(head: Head, entry: Entry) -> None:
    with pytest.raises(Unsayable):
        nft_rows.element(head, entry, 0)


def test_less_than_a_second_is_not_written() -> None:
    assert [nft_rows.lasting(Entry("x", 0, (), left)) for left in (999.0, 1000.0, None)] == [False, True, True]


def test_the_line_of_a_complaint_leads_to_its_element() -> None:
    batch = Batch("inet filter seen")
    batch.flush("set")
    batch.elements("add", {"a": "1.1.1.1", "c": "3.3.3.3"})
    batch.elements("delete", {})
    lines = batch.text().decode().splitlines()
    assert lines == ["flush set inet filter seen", "add element inet filter seen {", "1.1.1.1,", "3.3.3.3,", "}"]
    assert batch.keys == {3: "a", 4: "c"}
    batch.singly("add", {"b": "2.2.2.2", "d": "4.4.4.4"}, {"b"})
    assert batch.lines[5:] == ["add element inet filter seen { 4.4.4.4 }"] and batch.keys[6] == "d"


def test_many_entries_with_the_same_problem_are_one_line() -> None:
    few = tool.problems({"a": "bad", "b": "worse"})
    assert few == ("'a': bad", "'b': worse")
    assert tool.problems({str(n): "bad" for n in range(9)}) == ("9 entries, '0' among them: bad",)
