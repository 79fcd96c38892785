"""Connection tracking of this kernel: a TCP stream goes on through a router that has loaded the flows of another."""

import errno
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotpair.sessions import conntrack, conntrack_netlink, tool
from hotpair.sessions.backend import Loaded, Missing, TableError
from hotpair.sessions.conntrack import Conntrack
from hotpair.sessions.record import Entry, Table
from tests.ext import routers
from tests.ext.netspaces import Space, Stream
from tests.ext.routers import SERVER, VIRTUAL, Routers

WHY = routers.missing()
pytestmark = pytest.mark.skipif(bool(WHY), reason=WHY)
MARK = 0x80000007
QUIET = 1.0  # seconds in which a stream that may go on would have
LARGE = 3 << 20  # bytes: beyond any window that is told without its scale


def stream_to(world: Routers, host: str, port: int, listening: socket.socket) -> Stream:
    """Connect the client to the server."""
    with world.client.inside():
        near = socket.create_connection((host, port), 20)
    far, _ = listening.accept()
    far.settimeout(20)
    return Stream(near, far)


@pytest.fixture(scope="module")
def network() -> Iterator[Routers]:
    world = Routers()
    yield world
    world.end()


@pytest.fixture
def listening(network: Routers) -> Iterator[socket.socket]:
    with network.server.inside():
        server = socket.create_server((SERVER, 0))
    server.settimeout(20)
    yield server
    server.close()


@pytest.fixture
def world(network: Routers, listening: socket.socket) -> Routers:
    """Two routers whose firewalls are alike, but that alpha's marks the connections; no flow is known."""
    port = listening.getsockname()[1]
    for router, marking in ((network.alpha, f"-A FORWARD -j CONNMARK --set-mark {MARK:#x}"), (network.beta, "")):
        rules = routers.STATEFUL.format(marking=marking, port=port, server=SERVER)
        router.run("iptables-restore", stdin=rules)
        router.run("conntrack", "-F")
    network.through(0)
    return network


@pytest.fixture
def beta(world: Routers) -> Space:
    return world.beta


def dump(router: Space) -> Table:
    with router.inside():
        return Conntrack().dump("")


def load(router: Space, wanted: Table, last: Table | None = None, backend: Conntrack | None = None) -> Loaded:
    with router.inside():
        return (backend or Conntrack()).load(wanted, last)


def table(*entries: Entry, clock: float = 1e9) -> Table:
    return Table("conntrack", "", 0, clock, {entry.key: entry for entry in entries})


def entry(number: int = 1, seconds: float = 300.0, proto: str = "udp", **data: object) -> Entry:
    six = data.pop("six", False)
    here, there = ("2001:db8::1", "2001:db8::2") if six else ("192.0.2.77", "198.51.100.77")
    said = {"proto": proto, "orig": [here, there, number, 53], "reply": [there, here, 53, number], **data}
    return Entry(f"{proto} {here} {number} > {there} 53", remaining_ms=seconds * 1000, data=said)


# A stream through the pair


@pytest.mark.parametrize("host", [SERVER, VIRTUAL])
def test_a_stream_goes_on_through_the_other_router_with_its_mark(
    world: Routers, listening: socket.socket, host: str
) -> None:
    stream = stream_to(world, host, listening.getsockname()[1], listening)
    assert stream.goes()
    dumped = dump(world.alpha)
    [flow] = dumped.entries.values()
    assert flow.data["mark"] == MARK and flow.data["reply"][0] == SERVER
    assert load(world.beta, dumped) == Loaded(1)
    world.through(1)
    assert stream.goes()
    assert dump(world.beta).entries[flow.key].data == flow.data
    stream.close()


def test_without_the_load_the_stream_ends_at_the_other_router(world: Routers, listening: socket.socket) -> None:
    stream = stream_to(world, SERVER, listening.getsockname()[1], listening)
    assert stream.goes()
    world.through(1)
    assert not stream.goes(QUIET)
    assert load(world.beta, dump(world.alpha)) == Loaded(1)
    assert stream.goes()  # the packets are sent again until they get through
    stream.close()


def test_a_large_window_passes_a_router_that_has_not_seen_it_agreed(world: Routers, listening: socket.socket) -> None:
    stream = stream_to(world, SERVER, listening.getsockname()[1], listening)
    assert stream.goes()
    load(world.beta, dump(world.alpha))
    with world.beta.inside():
        assert Path("/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal").read_text() == "0\n"
    world.beta.run("iptables", "-I", "FORWARD", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP")
    world.through(1)
    stream.near.setblocking(False)
    sent = stream.near.send(b"x" * LARGE)  # as much as the ends have room for, none of it read yet
    stream.near.setblocking(True)
    got = 0
    while got < sent:
        got += len(stream.far.recv(1 << 16))
    [_, rule, *_] = world.beta.run("iptables", "-nvxL", "FORWARD").splitlines()[1:]
    assert rule.split()[:3] == ["0", "0", "DROP"]
    stream.close()


# What a load does to the table


def test_what_is_loaded_is_what_is_dumped(beta: Space) -> None:
    wanted = table(
        entry(1, mark=MARK),
        entry(2, six=True, reply=["2001:db8::3", "2001:db8::1", 54, 2]),
        entry(3, proto="tcp", reply=["10.9.9.9", "10.8.8.8", 1053, 2003], mark=7),
        entry(4, proto="udplite"),
        entry(5, proto="gre"),
    )
    assert load(beta, wanted) == Loaded(5)
    found = dump(beta).entries
    assert {key: one.data for key, one in found.items()} == {key: one.data for key, one in wanted.entries.items()}
    assert all(295_000 < (one.remaining_ms or 0) <= 300_000 for one in found.values())


@pytest.mark.parametrize("zone", ["zone", "zone-orig"])
def test_a_flow_stays_in_its_zone(beta: Space, zone: str) -> None:
    one = entry(1)
    one = one._replace(key=f"{one.key} {zone} 5", data={**one.data, zone: 5})
    assert load(beta, table(one)) == Loaded(1)
    assert dump(beta).entries[one.key].data == one.data
    assert load(beta, table(), table(one)) == Loaded(0)
    assert dump(beta).entries == {}


def test_a_conversation_changes_what_has_changed_and_ends_what_has_ended(beta: Space) -> None:
    backend, translated = Conntrack(), ["10.9.9.9", "192.0.2.77", 53, 2]
    first = table(entry(1), entry(2, reply=translated), entry(3))
    load(beta, first, None, backend)
    later = table(entry(1, mark=9), entry(2, 900, reply=translated), clock=first.clock_ms + 1000)
    assert load(beta, later, first, backend) == Loaded(2)
    one, two = (dump(beta).entries[key] for key in later.entries)
    assert one.data["mark"] == 9 and (two.remaining_ms or 0) > 890_000 and two.data["reply"] == translated
    assert len(dump(beta).entries) == 2


def test_a_flow_that_is_refreshed_at_every_cycle_lives_on(beta: Space) -> None:
    backend, last = Conntrack(), None
    for cycle in range(8):
        wanted = table(entry(1, 5), clock=1e9 + cycle * 1000)
        load(beta, wanted, last, backend)
        last = wanted
    assert backend._written[entry(1).key].clock_ms >= 1e9 + 6000


def test_a_load_writes_nothing_when_nothing_has_changed(beta: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    backend, wanted = Conntrack(), table(entry(1), entry(2))
    load(beta, wanted, None, backend)
    monkeypatch.setattr(conntrack_netlink.messages, "identity", None)
    assert load(beta, wanted, wanted, backend) == Loaded(2)
    assert load(beta, wanted) == Loaded(2)


def test_a_flow_that_was_lost_here_or_is_translated_otherwise_is_made_again(beta: Space) -> None:
    backend, first = Conntrack(), table(entry(1), entry(2))
    load(beta, first, None, backend)
    beta.run("conntrack", "-F")
    later = table(entry(1, 900, mark=1), entry(2, reply=["10.9.9.9", "192.0.2.77", 53, 2]))
    assert load(beta, later, first, backend) == Loaded(2)
    assert {key: one.data for key, one in dump(beta).entries.items()} == {
        key: one.data for key, one in later.entries.items()
    }
    assert load(beta, first) == Loaded(2)
    assert dump(beta).entries[entry(2).key].data == entry(2).data


def test_what_is_in_the_way_and_not_assured_makes_room(beta: Space) -> None:
    words = "-I -p udp -s 192.0.2.77 -d 198.51.100.77 --sport 1 --dport 53 -t 30"
    beta.run("conntrack", *words.split())
    assert load(beta, table(entry(1, mark=3))) == Loaded(1)
    assert dump(beta).entries[entry(1).key].data["mark"] == 3


def test_a_load_takes_nothing_away_that_no_load_has_brought(beta: Space) -> None:
    load(beta, table(entry(1)))
    assert load(beta, table()) == Loaded(0)
    assert load(beta, table(), table(entry(2))) == Loaded(0)
    assert list(dump(beta).entries) == [entry(1).key]


def test_a_flow_between_the_nodes_is_neither_written_nor_ended(beta: Space) -> None:
    mine = entry(1, orig=["192.0.2.5", "10.16.1.1", 1, 22], reply=["10.16.1.1", "192.0.2.5", 22, 1], own="src")
    theirs = mine._replace(data={**mine.data, "own": "dst"})
    assert load(beta, table(mine)) == Loaded(0)
    assert dump(beta).entries == {}
    assert load(beta, table(theirs)) == Loaded(1)  # of a client with an address that this node has now, too
    assert load(beta, table(), table(mine)) == Loaded(0)
    assert len(dump(beta).entries) == 1


def test_a_bad_flow_is_a_line_and_the_others_are_loaded(beta: Space) -> None:
    bad = entry(2, orig=["192.0.2.1 -j x", "198.51.100.77", 2, 53])
    said = load(beta, table(bad, entry(1)))
    assert said == Loaded(1, (f"{bad.key}: an address that is none",))
    assert list(dump(beta).entries) == [entry(1).key]


def test_a_table_has_no_name_and_a_kernel_without_tracking_none(
    beta: Space, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with beta.inside():
        assert Conntrack().names() == [""]
        with pytest.raises(Missing):
            Conntrack().dump("x")
        monkeypatch.setattr(conntrack, "MOST", str(tmp_path / "none"))
        assert Conntrack().names() == []
        with pytest.raises(Missing):
            Conntrack().dump("")


def test_without_the_tool_it_is_said_which_package_has_it(beta: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conntrack, "LIST", ("conntrack-is-not-here",))
    monkeypatch.setitem(tool.PACKAGES, "conntrack-is-not-here", "conntrack")
    with pytest.raises(TableError, match="install the package conntrack"):
        dump(beta)


def test_who_may_not_write_is_told_so() -> None:
    said = conntrack_netlink.ANSWER.pack(36, 2, 0, 1, 0, -errno.EPERM, 0, 0, 0, 1, 0)
    with pytest.raises(PermissionError):
        conntrack_netlink.read(said)
