"""The sessions of Zevenet's Pound against a test server that has the traps of the real one; see pound_servers."""

import socket
import time
from pathlib import Path

import pytest

from hotpair.sessions import zevenet, zevenet_sync
from hotpair.sessions import zevenet_wire as wire
from hotpair.sessions.backend import TableError
from hotpair.sessions.record import Entry, Table
from hotpair.sessions.zevenet import Zevenet
from tests.ext.pound_servers import Raw, ZevenetPound
from tests.lab.spaces import wait_until


@pytest.fixture
def farm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ZevenetPound, Zevenet]:
    monkeypatch.setattr(zevenet_sync, "QUIET", 0.08)
    monkeypatch.setattr(zevenet_sync, "LATE", 0.4)
    server = ZevenetPound(tmp_path)
    return server, Zevenet(str(tmp_path / "%s.sync"), str(tmp_path / "%s.control"), str(tmp_path / "poundctl"))


def http(backend: int = 0, age: int = 100, service: int = 0) -> Entry:
    data = {"listener": 0, "service": service, "backend": backend, "address": f"127.0.0.{backend + 1}"}
    return Entry("", ages_ms=(age * 1000.0,), data=data)


def table(*keys: str, **options: int) -> Table:
    one = http(**options)
    entries = {f"0/{one.data['service']} {key}" for key in keys}
    return Table("http", "farmX", time.time(), 0.0, {key: one._replace(key=key) for key in entries})


Farm = tuple[ZevenetPound, Zevenet]


def test_sessions_keep_their_age_to_the_second(farm: Farm) -> None:
    server, backend = farm
    before = time.time()
    loaded = backend.load(table("a", "b", backend=1), None)
    assert (loaded.entries, loaded.problems) == (2, ())
    assert all(one[0] == 1 and before - 101 <= one[1] <= time.time() - 100 for one in server.rows.values())
    dumped = backend.dump("farmX")
    found = dumped.entries
    assert set(found) == {"0/0 a", "0/0 b"}
    assert abs(dumped.at - server.rows[b"a"][1] - (found["0/0 a"].age_ms or 0) / 1000) < 0.2
    assert found["0/0 a"].remaining_ms is None
    assert found["0/0 a"].data == {"listener": 0, "service": 0, "backend": 1, "address": "127.0.0.2"}


def test_a_dump_in_pieces_of_one_packet_and_a_bit_is_whole(farm: Farm) -> None:
    server, backend = farm
    server.piece = 53
    server.rows = {f"k{number}".encode(): (0, int(time.time())) for number in range(300)}
    assert len(backend.dump("farmX").entries) == 300


def test_what_is_not_wanted_goes_through_the_control_socket(farm: Farm) -> None:
    server, backend = farm
    server.rows = {b"old": (0, int(time.time()))}
    assert backend.load(table("a"), None).entries == 1
    assert set(server.rows) == {b"a"}


def test_an_empty_table_empties_the_farm(farm: Farm) -> None:
    server, backend = farm
    server.rows = {b"old": (0, int(time.time()))}
    assert backend.load(table(), None) == (0, (), {})
    assert server.rows == {}


def test_what_would_end_pound_is_a_problem_and_is_never_sent(farm: Farm) -> None:
    server, backend = farm
    bad = table("", "a\0b", "k" * 127).entries | table("s", service=3).entries | table("n", backend=2).entries
    loaded = backend.load(table("good")._replace(entries=table("good").entries | bad), None)
    assert (loaded.entries, len(loaded.problems)) == (1, 5)
    assert not server.dead and set(server.rows) == {b"good"}


def test_pound_that_has_stopped_syncing_is_no_empty_farm(farm: Farm) -> None:
    server, backend = farm
    server.rows, server.stopped = {b"a": (0, int(time.time()))}, True
    with pytest.raises(TableError, match="lacks 1 of 1"):
        backend.dump("farmX")
    with pytest.raises(TableError, match="lacks 1 of 1"):
        backend.load(table(), None)
    assert set(server.rows) == {b"a"}


def test_an_expired_session_is_a_problem_and_ends_no_load(farm: Farm) -> None:
    server, backend = farm
    loaded = backend.load(table("a")._replace(entries=table("a").entries | table("x", age=999).entries), None)
    assert loaded.entries == 1 and "have expired" in loaded.problems[0]
    assert set(server.rows) == {b"a"}


def test_with_the_ttl_a_session_has_an_end_and_one_that_is_over_is_not_written(farm: Farm) -> None:
    server, backend = farm
    backend.ttl_seconds = 300
    backend.load(table("a"), None)
    entry = backend.dump("farmX").entries["0/0 a"]
    assert (entry.remaining_ms or 0) + (entry.age_ms or 0) == pytest.approx(300_000)
    server.rows.clear()
    over = {"0/0 a": entry._replace(remaining_ms=900.0)}
    assert backend.load(table()._replace(entries=over), None) == (0, (), {})
    assert server.rows == {}


def test_writes_of_a_client_that_leaves_at_once_are_lost_and_those_of_a_load_are_not(farm: Farm) -> None:
    server, backend = farm
    server.slow = 0.1
    with socket.socket(socket.AF_UNIX) as hasty:
        hasty.connect(backend.sync % "farmX")
        hasty.sendall(wire.write(wire.Packet(wire.WRITE, b"farmX", 0, 0, 0, b"a", b"", int(time.time()))))
    assert wait_until(lambda: server.lost == 1, 30)
    assert server.rows == {}
    assert backend.load(table("a"), None).entries == 1
    assert set(server.rows) == {b"a"}


MANY = 400  # packets; 278 fit into a socket that nobody reads


def test_pound_stands_still_for_a_client_that_does_not_read_and_never_syncs_again(farm: Farm) -> None:
    server, backend = farm
    server.rows = {b"k%d" % number: (0, int(time.time())) for number in range(MANY)}
    with socket.socket(socket.AF_UNIX) as lazy, socket.socket(socket.AF_UNIX) as control:
        lazy.connect(backend.sync % "farmX")
        lazy.sendall(wire.request(b"farmX"))
        assert wait_until(lambda: server.sent > 50, 30)
        control.connect(backend.control % "farmX")
        control.sendall(bytes(144))
        control.settimeout(0.3)
        with pytest.raises(TimeoutError):
            control.recv(1)
    assert server.sent < MANY
    assert wait_until(lambda: server.stopped, 30)
    with pytest.raises(TableError, match="lacks"):
        backend.dump("farmX")


def test_a_load_that_removes_many_reads_what_pound_says_of_it(farm: Farm) -> None:
    server, backend = farm
    server.rows = {b"k%d" % number: (0, int(time.time())) for number in range(MANY)}
    assert backend.load(table("a"), None).problems == ()
    assert set(server.rows) == {b"a"} and not server.stopped
    assert server.sent > 2 * MANY


def test_pound_answers_the_last_client_alone_and_no_answer_is_no_empty_farm(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, backend = farm
    server.rows = {b"a": (0, int(time.time()))}
    path = backend.sync % "farmX"
    with zevenet_sync.Sync(path, b"farmX") as first, zevenet_sync.Sync(path, b"farmX") as second:
        assert wait_until(lambda: server.clients == 2, 30)
        assert first.ask() == {}
        assert set(second.follow({(0, 0, b"a")})[0]) == {(0, 0, b"a")}

    class Overtaken(zevenet_sync.Sync):
        def ask(self) -> dict[wire.Place, wire.Packet]:
            with zevenet_sync.Sync(path, b"farmX"):
                assert wait_until(lambda: server.clients == 4, 30)
                return super().ask()

    monkeypatch.setattr(zevenet, "Sync", Overtaken)
    with pytest.raises(TableError, match="lacks 1 of 1"):
        backend.dump("farmX")


@pytest.mark.parametrize("text", [b"rubbish" * 99, b"\xef\xab\x06\x05\x00\x02\x05far", b"\xef\xab\x06\x05\x00\x63\x00"])
@pytest.mark.parametrize("holds", [True, False])
def test_a_malformed_answer_is_an_error_in_time(
    tmp_path: Path, text: bytes, holds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zevenet_sync, "QUIET", 0.1)
    Raw(tmp_path / "f", [text], holds=holds)
    with pytest.raises(TableError):
        Zevenet(str(tmp_path / "%s"), str(tmp_path / "no%s"), "/nowhere/poundctl").dump("f")


def test_an_answer_without_end_is_an_error_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zevenet_sync, "WAIT", 0.5)
    Raw(tmp_path / "f", [b"\xef\xab\x06\x05\x00\x03\x01f" + bytes(12) + b"\x01k"] * 10_000, 0.001)
    with pytest.raises(TableError, match="does not end"):
        Zevenet(str(tmp_path / "%s"), str(tmp_path / "no%s")).dump("f")


def test_without_poundctl_nothing_is_written(farm: Farm) -> None:
    server, backend = farm
    other = zevenet.Zevenet(backend.sync, backend.control, "/nowhere/poundctl")
    with pytest.raises(TableError, match="poundctl"):
        other.load(table("a"), None)
    assert server.rows == {}
