"""Stick tables between two real HAProxies whose servers stand in different order: clients stay where they were."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotpair import child
from hotpair.sessions import haproxy_socket
from hotpair.sessions.backend import Missing, TableError
from hotpair.sessions.haproxy import Haproxy
from hotpair.sessions.record import Entry, Table, aged
from tests.lab.spaces import wait_until

pytestmark = pytest.mark.skipif(not shutil.which("haproxy", path=child.PATH), reason="needs haproxy")

PEERS = Path(__file__).parents[2] / "etc/haproxy/hotpair-peers.cfg"
SERVERS = ("one", "two", "three")
TOP = """
global
    stats socket {place}.admin mode 600 level admin
    stats socket {place}.user mode 600 level user
    nbthread 1
defaults
    mode http
    timeout connect 10s
    timeout client 30s
    timeout server 30s
frontend front
    bind unix@{place}.front accept-proxy
    use_backend %[path,field(2,/)]
backend source
    stick-table type ip size 10k expire 60s store gpc0
    stick on src
    {servers}
backend cookie
    stick-table type string len 64 size 10k expire 60s
    stick store-response res.cook(SID)
    stick match req.cook(SID)
    {servers}
backend peered
    stick-table type ip size 10k expire 60s peers hotpair
    stick on src
    {servers}
backend words
    stick-table type string len 64 size 10k expire 60s store gpc0
backend six
    stick-table type ipv6 size 10k expire 60s store {counters}
backend lasting
    stick-table type ip size 10k store gpc0
backend sealed
    stick-table type binary len 16 size 10k expire 60s store gpc0
"""
ANSWER = """
frontend {server}
    bind unix@{place}.{server}
    http-request return status 200 content-type text/plain string {server} hdr Set-Cookie "SID=a<<%[rand(1000000000)]"
"""


class Node:
    """A HAProxy with three servers, all within one process."""

    def __init__(self, top: Path, name: str, servers: tuple[str, ...], counters: str) -> None:
        self.place = f"{top}/{name}"
        lines = "\n    ".join(f"server {server} unix@{self.place}.{server}" for server in servers)
        text = TOP.format(place=self.place, servers=lines, counters=counters)
        text += "".join(ANSWER.format(place=self.place, server=server) for server in servers)
        peers = PEERS.read_text().replace("localpeer alpha", f"localpeer {name}")
        for peer, address in (("alpha", "192.0.2.1:10000"), ("beta", "192.0.2.2:10000")):
            assert f"peer {peer} {address}\n" in peers
            peers = peers.replace(f"peer {peer} {address}", f"peer {peer} unix@{top}/{peer}.peer")
        Path(f"{self.place}.cfg").write_text(peers + text)
        self.backend = Haproxy(f"{self.place}.admin")
        self.log = open(f"{self.place}.log", "wb")  # noqa: SIM115
        self.process = subprocess.Popen(
            ["haproxy", "-db", "-f", f"{self.place}.cfg"],
            env=child.environment(),
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
        )

    def says(self) -> str:
        return Path(f"{self.place}.log").read_text()

    def visit(self, table: str, source: str = "192.0.2.99", cookie: str = "") -> tuple[str, str]:
        """Make one request as some client, and return the server that answered and the cookie it gave."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(f"{self.place}.front")
            lines = [f"PROXY TCP4 {source} 192.0.2.10 1000 80", f"GET /{table} HTTP/1.0"]
            lines += [f"Cookie: SID={cookie}"] if cookie else []
            connection.sendall("".join(f"{line}\r\n" for line in [*lines, ""]).encode())
            answer = b"".join(iter(lambda: connection.recv(1 << 16), b"")).decode()
        head, _, server = answer.partition("\r\n\r\n")
        assert server in SERVERS, answer
        [given] = [line.partition("SID=")[2] for line in head.split("\r\n") if line.lower().startswith("set-cookie")]
        return server, given

    def tell(self, command: str) -> str:
        [answer] = haproxy_socket.ask(self.backend.socket, command.encode(), 1)
        return answer

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(60)
        self.log.close()


def runs(node: Node) -> bool:
    assert node.process.poll() is None, node.says()
    return Path(f"{node.place}.admin").exists() and Path(f"{node.place}.three").exists()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Node]]:
    top = tmp_path_factory.mktemp("ha")
    nodes = [
        Node(top, "alpha", SERVERS, "gpc0,gpt0,gpc1,conn_cur,http_req_rate(60s),bytes_in_cnt"),
        Node(top, "beta", SERVERS[::-1], "gpc0,gpt0,conn_cur,http_req_rate(60s),bytes_in_cnt"),
    ]
    try:
        for node in nodes:
            assert wait_until(lambda node=node: runs(node), 60)  # type: ignore[misc]
        yield nodes[0], nodes[1]
    finally:
        for node in nodes:
            node.end()


@pytest.fixture
def two(pair: tuple[Node, Node]) -> tuple[Node, Node]:
    for node in pair:
        for name in ("source", "cookie", "words", "six", "lasting"):
            have(node, name)
    return pair


def table(name: str, *entries: Entry) -> Table:
    return Table("haproxy", name, time.time(), time.monotonic() * 1000, {entry.key: entry for entry in entries})


def have(node: Node, name: str, *entries: Entry) -> None:
    """Make a table hold some entries and no others."""
    backend = Haproxy(node.backend.socket)
    wanted = table(name, *entries)
    assert wait_until(lambda: not backend.load(wanted, None).problems, 60)  # a connection may still have one


# Clients


def test_a_client_stays_on_its_server_by_its_address(two: tuple[Node, Node]) -> None:
    alpha, beta = two
    sources = [f"192.0.2.{number}" for number in range(1, 8)]
    before = {source: alpha.visit("source", source)[0] for source in sources}
    assert set(before.values()) == set(SERVERS)
    dumped = alpha.backend.dump("source")
    assert {source: dumped.entries[source].data["server"] for source in sources} == {
        source: f"source/{server}" for source, server in before.items()
    }
    loaded = beta.backend.load(dumped, None)
    assert (loaded.entries, loaded.problems) == (7, ())
    assert {source: beta.visit("source", source)[0] for source in sources} == before


def test_a_client_stays_on_its_server_by_its_cookie(two: tuple[Node, Node]) -> None:
    alpha, beta = two
    before = {cookie: server for server, cookie in (alpha.visit("cookie") for _ in range(7))}
    assert set(before.values()) == set(SERVERS)
    assert beta.backend.load(alpha.backend.dump("cookie"), None).problems == ()
    assert {cookie: beta.visit("cookie", cookie=cookie)[0] for cookie in before} == before


def test_a_client_that_the_standby_has_seen_moves_to_where_the_master_has_it(two: tuple[Node, Node]) -> None:
    _, beta = two
    server, _ = beta.visit("source", "192.0.2.1")
    [other, _] = [one for one in SERVERS if one != server]
    wanted = table("source", Entry("192.0.2.1", 0, (), 50000.0, {"server": f"source/{other}"}))
    assert wait_until(lambda: not beta.backend.load(wanted, None).problems, 60)
    assert beta.visit("source", "192.0.2.1")[0] == other


def test_peers_as_shipped_keep_a_client_on_its_server(two: tuple[Node, Node]) -> None:
    alpha, beta = two
    sources = [f"192.0.2.{number}" for number in range(1, 8)]
    before = {source: alpha.visit("peered", source)[0] for source in sources}
    assert set(before.values()) == set(SERVERS)
    assert wait_until(lambda: beta.backend.dump("peered").entries.keys() >= set(sources), 60)
    assert {source: beta.visit("peered", source)[0] for source in sources} == before


# What is in a table


def test_a_second_load_writes_what_changed_and_removes_what_is_gone(two: tuple[Node, Node]) -> None:
    _, beta = two
    first = table("source", *(Entry(f"192.0.2.{n}", 0, (), 50000.0, {"gpc0": n}) for n in (1, 2, 3)))
    assert beta.backend.load(first, None).entries == 3
    beta.tell("set table source key 192.0.2.1 data.gpc0 100")  # shows whether it is written again
    later = aged(first, 500)
    entries = {"192.0.2.1": later.entries["192.0.2.1"], "192.0.2.2": Entry("192.0.2.2", 0, (), 59000.0, {"gpc0": 20})}
    assert beta.backend.load(later._replace(entries=entries), first).entries == 2
    assert {key: entry.data for key, entry in beta.backend.dump("source").entries.items()} == {
        "192.0.2.1": {"gpc0": 100},
        "192.0.2.2": {"gpc0": 20},
    }


def test_an_empty_table_empties_the_other(two: tuple[Node, Node]) -> None:
    _, beta = two
    beta.tell("set table source key 192.0.2.1 data.gpc0 1")
    assert beta.backend.load(table("source"), None) == (0, (), {})
    assert beta.backend.dump("source").entries == {}


def test_an_entry_goes_in_time_unless_it_was_seen(two: tuple[Node, Node]) -> None:
    _, beta = two
    entries = [Entry(f"192.0.2.{n}", 0, (), 5000.0, {"gpc0": n}) for n in (1, 2)]
    loaded = beta.backend.load(table("source", *entries), None)
    assert {key: deadline.remaining_ms for key, deadline in loaded.deadlines.items()} == dict.fromkeys(
        ("192.0.2.1", "192.0.2.2"), 5000.0
    )
    again = Haproxy(beta.backend.socket).load(table("source", *entries), None)
    assert again.deadlines.keys() == loaded.deadlines.keys()
    time.sleep(0.5)  # that one is seen later is what is tested
    beta.visit("source", "192.0.2.2")
    for deadlines in (loaded.deadlines, again.deadlines):
        beta.backend.reap("source", {key: deadline.mark for key, deadline in deadlines.items()})
        assert list(beta.backend.dump("source").entries) == ["192.0.2.2"]


def test_an_entry_with_all_its_time_needs_nobody_to_end_it(two: tuple[Node, Node]) -> None:
    loaded = two[1].backend.load(table("source", Entry("192.0.2.1", 0, (), 59500.0)), None)
    assert loaded == (1, (), {})


def test_a_table_without_expiry_has_none(two: tuple[Node, Node]) -> None:
    alpha, beta = two
    alpha.tell("set table lasting key 192.0.2.1 data.gpc0 1")
    dumped = alpha.backend.dump("lasting")
    assert dumped.entries["192.0.2.1"].remaining_ms is None
    assert beta.backend.load(dumped, None) == (1, (), {})
    loaded = beta.backend.load(table("lasting", Entry("192.0.2.1", 0, (), 9000.0, {"gpc0": 2})), None)
    assert loaded.problems == ("lasting: entries expire never here: have `expire` alike on both nodes",)


def test_any_key_comes_through_and_none_is_a_command(two: tuple[Node, Node]) -> None:
    alpha, beta = two
    beta.tell("set table words key victim data.gpc0 1")
    words = [
        "a b",
        "a;clear table words key victim",
        "\\",
        "a\\",
        "a<<",
        "<<",
        "\u00e9",
        '"q"',
        "'",
        "#a",
        "a=b",
        "k use=0 exp=1",
    ]
    keys = [word.encode() for word in [*words, "a\tb", "\x01", "\x7f", "help", "@1 show info", "$(id)"]]
    for key in keys:
        said = b"".join(b"\\" + bytes([byte]) for byte in key)
        haproxy_socket.ask(alpha.backend.socket, b"set table words key " + said + b" data.gpc0 7", 1)
    dumped = alpha.backend.dump("words")
    assert len(dumped.entries) == len(keys)
    wanted = dumped._replace(entries=dumped.entries | {"victim": Entry("victim", 0, (), 50000.0, {"gpc0": 1})})
    loaded = beta.backend.load(wanted, None)
    assert loaded.problems == ()
    here = beta.backend.dump("words").entries
    assert {key: entry.data for key, entry in here.items()} == {key: e.data for key, e in wanted.entries.items()}
    assert beta.backend.load(table("words"), wanted).problems == ()
    assert beta.backend.dump("words").entries == {}


def test_a_key_that_no_command_can_hold_is_named_and_the_others_go_on(two: tuple[Node, Node]) -> None:
    _, beta = two
    entries = [Entry(key, 0, (), 50000.0, {"gpc0": 1}) for key in ("a\\nb", "good", "")]
    loaded = beta.backend.load(table("words", *entries), None)
    assert loaded.entries == 1
    assert loaded.problems == ("a\\nb: its key does not fit into a command", ": its key is empty")
    assert list(beta.backend.dump("words").entries) == ["good"]


def test_counters_of_an_ipv6_address_arrive_but_no_count_of_connections(two: tuple[Node, Node]) -> None:
    alpha, beta = two
    alpha.tell(
        "set table six key 2001:db8::1 data.gpc0 1 data.gpt0 2 data.gpc1 3 data.conn_cur 4"
        " data.http_req_rate 5 data.bytes_in_cnt 12345678901"
    )
    dumped = alpha.backend.dump("six")
    data = {"gpc0": 1, "gpt0": 2, "http_req_rate": 5, "bytes_in_cnt": 12345678901}
    assert dumped.entries["2001:db8::1"].data == data | {"gpc1": 3}
    assert dumped.facts == {"type": "ipv6", "size": 10240}
    loaded = beta.backend.load(dumped, None)
    assert loaded.problems == ("gpc1: the table does not hold that here",)
    assert beta.backend.dump("six").entries["2001:db8::1"].data == data


def test_a_server_that_is_not_here_is_named(two: tuple[Node, Node]) -> None:
    _, beta = two
    data = {"server": "source/four", "gpc0": 7}
    entries = [Entry(f"192.0.2.{n}", 0, (), 50000.0, data) for n in (1, 2, 3)]
    loaded = beta.backend.load(table("source", *entries), None)
    assert loaded.problems == ("192.0.2.1 and 2 more: there is no server source/four here",)
    assert beta.backend.dump("source").entries["192.0.2.1"].data == {"gpc0": 7}


# What cannot be done


def test_what_is_missing_is_named(two: tuple[Node, Node], tmp_path: Path) -> None:
    beta = two[1].backend
    assert {"source", "cookie", "words", "six", "sealed"} <= set(beta.names())
    for name in ("nothing", "x;clear table source data.gpc0 ge 0", ""):
        with pytest.raises(Missing):
            beta.dump(name)
        with pytest.raises(Missing):
            beta.load(table(name), None)
    with pytest.raises(TableError, match="type binary"):
        beta.dump("sealed")
    with pytest.raises(TableError, match="does not run here"):
        Haproxy(str(tmp_path / "none")).names()


def test_a_socket_that_may_not_show_entries_is_no_empty_table(two: tuple[Node, Node]) -> None:
    beta = two[1]
    beta.tell("set table source key 192.0.2.1 data.gpc0 1")
    limited = Haproxy(f"{beta.place}.user")
    with pytest.raises(TableError, match="level"):
        limited.dump("source")
    with pytest.raises(TableError, match="level"):
        limited.load(table("source"), None)
    assert list(beta.backend.dump("source").entries) == ["192.0.2.1"]
