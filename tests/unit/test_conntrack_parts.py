"""The parts of the backend for conntrack that need no kernel: rows, what is written of a flow, problems."""

import struct

import pytest

from hotpair.sessions import conntrack_lines, conntrack_messages, conntrack_netlink
from hotpair.sessions.backend import TableError
from hotpair.sessions.conntrack import problems
from hotpair.sessions.conntrack_messages import Unfit, flow
from hotpair.sessions.record import Entry

TCP = (
    "ipv4     2 tcp      6 299 ESTABLISHED src=10.0.0.1 dst=10.0.1.1 sport=1000 dport=80"
    " src=10.0.5.1 dst=10.9.9.9 sport=8080 dport=5000 [ASSURED] mark=7 use=1\n"
)
SIX = (
    "ipv6     10 udp      17 29 src=2001:db8::1 dst=2001:db8::2 sport=1000 dport=53 packets=1 bytes=60"
    " src=2001:db8::2 dst=2001:db8::1 sport=53 dport=1000 packets=2 bytes=61 [ASSURED] mark=2147483649 zone=5 use=1\n"
)
GRE = (
    "ipv4     2 gre      47 199 src=10.0.0.7 dst=10.0.0.8 srckey=0x1f dstkey=0x2 src=10.0.0.8 dst=10.0.0.7"
    " srckey=0x2 dstkey=0x1f [ASSURED] use=1\n"
)
ZONED = TCP.replace("dport=80 ", "dport=80 zone-orig=3 ")
OFFLOADED = TCP.replace("299 ESTABLISHED ", "").replace("ASSURED", "OFFLOAD")
LEFT_OUT = [
    TCP.replace("ESTABLISHED", "FIN_WAIT"),
    TCP.replace("[ASSURED] ", ""),
    SIX.replace("bytes=60", "bytes=60 [UNREPLIED]"),
    TCP.replace("10.0.0.1", "127.0.0.1"),
    TCP.replace("10.0.0.1", "192.0.2.1").replace("10.0.1.1", "192.0.2.2"),
    "ipv4     2 unknown  50 29 src=10.0.0.1 dst=10.0.1.1 src=10.0.1.1 dst=10.0.0.1 [ASSURED] mark=0 use=1\n",
    "ipv4     2 sctp     132 29 ESTABLISHED src=10.0.0.1 dst=10.0.1.1 sport=3 dport=4 [UNREPLIED] src=10.0.1.1"
    " dst=10.0.0.1 sport=4 dport=3 [ASSURED] mark=0 use=1\n",
    "ipv4     2 icmp     1 29 src=10.0.0.1 dst=10.0.1.1 type=8 code=0 id=55 src=10.0.1.1 dst=10.0.0.1 type=0"
    " code=0 id=55 mark=0 use=1\n",
]
OWN = {"192.0.2.1", "192.0.2.2"}


def read(text: str, own: set[str] = OWN) -> dict[str, Entry]:
    return {entry.key: entry for entry in conntrack_lines.entries(text, own)}


def test_a_row_is_a_flow_with_both_directions_its_mark_and_its_time() -> None:
    key = "tcp 10.0.0.1 1000 > 10.0.1.1 80"
    data: dict[str, object] = {"proto": "tcp", "orig": ["10.0.0.1", "10.0.1.1", 1000, 80]}
    data |= {"reply": ["10.0.5.1", "10.9.9.9", 8080, 5000], "mark": 7}
    assert read(TCP) == {key: Entry(key, remaining_ms=299_000.0, data=data)}


def test_a_flow_of_ipv6_is_known_by_its_zone_too_and_counters_are_passed_over() -> None:
    [(key, entry)] = read(SIX).items()
    assert key == "udp 2001:db8::1 1000 > 2001:db8::2 53 zone 5"
    assert entry.data["reply"] == ["2001:db8::2", "2001:db8::1", 53, 1000]
    assert (entry.data["zone"], entry.data["mark"], entry.remaining_ms) == (5, 2**31 + 1, 29_000.0)


def test_a_zone_of_one_direction_and_the_keys_of_gre_are_read() -> None:
    assert [*read(ZONED)] == ["tcp 10.0.0.1 1000 > 10.0.1.1 80 zone-orig 3"]
    [entry] = read(GRE).values()
    assert entry.data["orig"] == ["10.0.0.7", "10.0.0.8", 0x1F, 2] and "mark" not in entry.data


def test_a_flow_that_the_hardware_forwards_has_no_time_of_its_own_and_is_carried() -> None:
    [entry] = read(OFFLOADED).values()
    assert entry.remaining_ms == conntrack_lines.OFFLOADED_MS


@pytest.mark.parametrize("row", LEFT_OUT)
def test_what_another_node_cannot_go_on_with_is_left_out(row: str) -> None:
    assert read(row + GRE).keys() == read(GRE).keys()


@pytest.mark.parametrize(("address", "end"), [("10.0.0.1", "src"), ("10.0.1.1", "dst")])
def test_a_flow_with_an_end_on_the_node_says_which(address: str, end: str) -> None:
    assert [entry.data["own"] for entry in read(TCP, {address}).values()] == [end]


@pytest.mark.parametrize("text", [TCP + "conntrack: broken\n", TCP + GRE[:-9], "\n"])
def test_a_listing_that_is_none_or_not_whole_is_not_believed(text: str) -> None:
    with pytest.raises(ValueError, match="row"):
        read(text)


def test_no_row_is_an_empty_table() -> None:
    assert read("") == {}


def test_the_addresses_of_the_node_are_those_of_all_its_devices() -> None:
    said = '[{"addr_info":[{"local":"127.0.0.1"},{}]},{},{"addr_info":[{"local":"2001:db8::1"}]}]'
    assert conntrack_lines.addresses(said) == {"127.0.0.1", "2001:db8::1"}
    for broken in ("", "[1]", '{"a":'):
        with pytest.raises(TableError):
            conntrack_lines.addresses(broken)


HOSTILE: list[dict[str, object]] = [
    {"proto": "icmp"},
    {"proto": ["tcp"]},
    {"orig": None},
    {"orig": ["10.0.0.1", "10.0.1.1", 1000]},
    {"orig": ["10.0.0.1\n-F", "10.0.1.1", 1000, 80]},
    {"orig": ["10.0.0.1\0", "10.0.1.1", 1000, 80]},
    {"orig": ["::1", "10.0.1.1", 1000, 80]},
    {"reply": ["::1", "::2", 1000, 80]},
    {"orig": [1, "10.0.1.1", 1000, 80]},
    {"orig": ["10.0.0.1", "10.0.1.1", "1000", 80]},
    {"orig": ["10.0.0.1", "10.0.1.1", True, 80]},
    {"orig": ["10.0.0.1", "10.0.1.1", 65536, 80]},
    {"reply": ["10.0.0.1", "10.0.1.1", -1, 80]},
    {"mark": 2**32},
    {"mark": "7"},
    {"zone": 2**16},
    {"zone-orig": None},
    {"orig": [{"": 1}, ["10.0.1.1"], 1000, 80]},
    {"orig": ["\ud800", "10.0.1.1", 1000, 80]},
]


@pytest.mark.parametrize("data", HOSTILE)
def test_what_is_no_flow_is_not_written(data: dict[str, object]) -> None:
    [entry] = read(TCP).values()
    with pytest.raises(Unfit):
        flow(entry._replace(data={**entry.data, **data}))


def test_a_flow_without_a_time_is_not_written_and_none_lives_for_ever() -> None:
    [entry] = read(TCP).values()
    with pytest.raises(Unfit):
        flow(entry._replace(remaining_ms=None))
    assert flow(entry._replace(remaining_ms=1e14)).seconds == int(conntrack_messages.LONGEST)
    assert [flow(entry._replace(remaining_ms=left)).seconds for left in (0.0, 1.0, 1000.0, 1001.0)] == [1, 1, 1, 2]


def attributes(said: bytes) -> dict[int, bytes]:
    found = {}
    while said:
        length, kind = struct.unpack_from("=HH", said)
        found[kind & 0x7FFF] = said[4:length]
        said = said[length + 3 & ~3 :]
    return found


@pytest.mark.parametrize("row", [TCP, SIX, GRE, ZONED])
def test_every_attribute_is_as_long_as_it_says(row: str) -> None:
    [entry] = read(row).values()
    one = flow(entry)
    parts = conntrack_messages.identity(one) + conntrack_messages.birth(one) + conntrack_messages.state(one)
    found = attributes(parts)
    orig = attributes(found[1])
    assert [*attributes(orig[1]).values()] == [one.orig.src, one.orig.dst]
    assert attributes(orig[2])[2][:2] == struct.pack("!H", entry.data["orig"][2])
    assert struct.unpack("!I", found[7]) == (one.seconds,) and struct.unpack("!I", found[8]) == (one.mark,)


def test_what_is_translated_is_said_as_a_translation() -> None:
    [entry] = read(TCP).values()
    found = attributes(conntrack_messages.birth(flow(entry)))
    assert found.keys() == {2, 6, 13}
    assert attributes(found[6])[1] == bytes([10, 9, 9, 9]) and attributes(found[13])[1] == bytes([10, 0, 5, 1])
    [plain] = read(SIX).values()
    assert attributes(conntrack_messages.birth(flow(plain))).keys() == {2}


def test_an_answer_names_the_message_that_failed_and_a_cut_one_is_passed_over() -> None:
    said = b"".join(conntrack_netlink.ANSWER.pack(36, 2, 0, at, 0, -at, 0, 0, 0, at, 0) for at in (2, 0, 17))
    assert conntrack_netlink.read(said) == {2: 2, 17: 17}
    assert conntrack_netlink.read(said[:50]) == {2: 2}


def test_flows_that_fail_alike_are_one_line() -> None:
    found = problems({"a": "No such file", "b": "No such file", "c\n": "File exists", "d": "Cannot allocate memory"}, 9)
    assert found == (
        "a and 1 more: No such file",
        "'c\\n': File exists",
        "d: Cannot allocate memory, or there are nf_conntrack_max = 9 flows",
    )
