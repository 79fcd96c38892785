"""What ipset saves, read; and lines for it, in which no key of another node can be more than a key."""

import pytest

from hotpair.sessions import ipset_rows
from hotpair.sessions.ipset_rows import Head, Unsayable
from hotpair.sessions.record import Entry

CREATE = "create s hash:ip family inet hashsize 1024 maxelem 65536 timeout 3600 counters comment skbinfo"
OWN = " bucketsize 12 initval 0xe4731b9b"
SEEN = Head("hash:ip", {"family": "inet", "timeout": "3600", "counters": ""})


def saved(*rows: str) -> dict[str, Entry]:
    return ipset_rows.saved(["".join(f"{line}\n" for line in (CREATE + OWN, *rows))])[1]


def test_entries_are_read_with_half_a_second_for_what_ipset_leaves_out() -> None:
    found = saved("add s 10.0.0.1 timeout 99 packets 5 bytes 50", "add s 2001:db8::1 timeout 0")
    alike = ["add s 10.0.0.1 timeout 99 packets 5 bytes 50", "add s 10.0.0.2 timeout 0 packets 1 bytes 2"]
    assert saved(*alike) == saved(alike[0]) | {"10.0.0.2": Entry("10.0.0.2", 1, (), None, {"bytes": 2})}
    assert saved(*alike, 'add s 10.0.0.3 timeout 9 packets 0 bytes 0 comment "x"').keys() > saved(*alike).keys()
    assert found == {
        "10.0.0.1": Entry("10.0.0.1", 5, (), 99_500.0, {"bytes": 50}),
        "2001:db8::1": Entry("2001:db8::1"),  # 0 is for ever
    }


def test_what_else_an_entry_has_is_kept() -> None:
    row = 'add s 10.0.0.1 timeout 9 nomatch packets 0 bytes 0 comment "a b; c" skbmark 0x1/0xff skbprio 1:10 skbqueue 3'
    found = saved(row.replace(" nomatch", ""), row.replace("0.1", "0.2"))
    more = {"comment": "a b; c", "skbmark": "0x1/0xff", "skbprio": "1:10", "skbqueue": "3"}
    assert found["10.0.0.1"].data == {"bytes": 0, **more}
    assert found["10.0.0.2"].data["nomatch"] is True and found["10.0.0.2"].data["bytes"] == 0


@pytest.mark.parametrize("text", ["", "create s", CREATE + "\nnonsense\n", CREATE + "\nadd s 10.0.0.1 sort of\n"])
def test_what_is_no_saved_set_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        ipset_rows.saved([text])


def test_a_set_is_made_again_without_what_is_its_own() -> None:
    head = ipset_rows.saved([f"{CREATE}{OWN}\n"])[0]
    assert head.create("other") == CREATE.replace("create s", "create other")
    assert head.facts() == {
        **{"type": "hash:ip", "family": "inet", "maxelem": "65536", "timeout": "3600"},
        **{"counters": True, "comment": True, "skbinfo": True},
    }


def test_a_list_says_the_same_of_a_set() -> None:
    text = f"Name: s\nType: hash:ip\nRevision: 6\nHeader: {CREATE.partition('hash:ip ')[2]}{OWN}\nReferences: 0\n"
    head = ipset_rows.saved([f"{CREATE}{OWN}\n"])[0]
    assert (ipset_rows.listed(text).type, ipset_rows.listed(text).options) == (head.type, head.options)


@pytest.mark.parametrize(
    ("kind", "family", "key"),
    [
        ("hash:ip", "inet", "10.0.0.1"),
        ("hash:ip", "inet6", "2001:db8::1"),
        ("hash:net", "inet", "10.0.0.0/8"),
        ("hash:ip,port", "inet", "10.0.0.1,tcp:80"),
        ("hash:ip,port", "inet6", "2001:db8::1,icmpv6:echo-request"),
        ("hash:ip,port", "inet", "10.0.0.1,icmp:8/0"),
        ("hash:net,iface", "inet", "10.0.0.0/8,physdev:eth0.5"),
        ("hash:ip,mark", "inet", "10.0.0.1,0x00000010"),
        ("bitmap:port", "", "80"),
        ("bitmap:ip,mac", "", "10.0.0.1"),
        ("bitmap:ip,mac", "", "10.0.0.1,AA:BB:CC:DD:EE:FF"),
    ],
)
def test_an_entry_of_its_type_is_written(kind: str, family: str, key: str) -> None:
    assert ipset_rows.words(Head(kind, {"family": family}), Entry(key)) == key


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("hash:ip", "10.0.0.1\nflush s"),
        ("hash:ip", "10.0.0.1 timeout"),
        ("hash:ip", "10.0.0.1\n"),
        ("hash:ip", "-exist"),
        ("hash:ip", "example.org"),
        ("hash:ip", "10.0.0.0/8"),
        ("hash:ip", "10.0.0.1-10.0.0.200"),
        ("hash:ip", "2001:db8::1"),
        ("hash:ip", "10.0.0.1,tcp:80"),
        ("hash:ip", ""),
        ("hash:net", "10.0.0.0/"),
        ("hash:ip,port", "10.0.0.1"),
        ("hash:ip,port", "10.0.0.1,tcp:80\nflush"),
        ("hash:net,iface", "10.0.0.0/8,a b"),
        ("bitmap:port", "-f"),  # an option of ipset
        ("hash:new", "1"),
    ],
)
def test_what_is_no_entry_of_its_type_is_never_written(kind: str, key: str) -> None:
    with pytest.raises(Unsayable):
        ipset_rows.words(Head(kind, {"family": "inet"}), Entry(key))


@pytest.mark.parametrize(
    ("left", "timeout"), [(1000.0, 1), (99_499.0, 99), (99_500.0, 100), (1e13, 2147483), (None, 0)]
)
def test_the_time_left_is_written_in_the_nearest_seconds(left: float | None, timeout: int) -> None:
    entry = Entry("10.0.0.1", 2, (), left, {"bytes": 3, "comment": "the set here has no room for one"})
    assert ipset_rows.words(SEEN, entry) == f"10.0.0.1 timeout {timeout} packets 2 bytes 3"


def test_less_than_a_second_is_not_written_for_it_would_be_for_ever() -> None:
    assert [ipset_rows.lasting(Entry("x", 0, (), left)) for left in (999.0, 1000.0, None)] == [False, True, True]


@pytest.mark.parametrize(
    "entry",
    [
        Entry("10.0.0.1", 0, (), None, {"comment": 'x"\nflush s'}),
        Entry("10.0.0.1", 0, (), None, {"skbmark": "0x1\nflush s"}),
        Entry("10.0.0.1", 0, (), None, {"bytes": "1\nflush s"}),
        Entry("10.0.0.1", 0, (), 5000.0),  # nothing expires in this set
    ],
)
def test_data_that_cannot_be_written_refuse_the_entry(entry: Entry) -> None:
    head = Head("hash:ip", {"family": "inet", "counters": "", "comment": "", "skbinfo": ""})
    with pytest.raises(Unsayable):
        ipset_rows.words(head, entry)
