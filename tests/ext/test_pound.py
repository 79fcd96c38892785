"""Both Pounds' sessions against test servers that have the traps of the real ones; see pound_servers."""

import time
from pathlib import Path

import pytest

from hotpair.sessions import pound, zevenet, zevenet_sync
from hotpair.sessions.backend import Missing, TableError
from hotpair.sessions.pound import Pound
from hotpair.sessions.record import Entry, Table
from hotpair.sessions.zevenet import Zevenet
from tests.ext.pound_servers import Raw, RestPound, ZevenetPound

A, B, C = "127.0.0.1:8081", "127.0.0.1:8082", "127.0.0.1:8083"


def wanted(name: str, **backends: str) -> Table:
    entries = {key: Entry(key, remaining_ms=60_000.0, data={"backend": one}) for key, one in backends.items()}
    return Table("pound", name, time.time(), 0.0, entries)


def changes(server: RestPound) -> list[str]:
    found = [line for line in server.requests if not line.startswith("GET")]
    server.requests.clear()
    return found


@pytest.fixture
def socket_path(tmp_path: Path) -> Path:
    return tmp_path / "s"


# Pound 4


@pytest.mark.parametrize("version", ["4.16", "4.23"])
def test_sessions_loaded_are_on_their_backends_and_are_dumped_with_the_time_left(
    socket_path: Path, version: str
) -> None:
    server = RestPound(socket_path, version=version)
    loaded = Pound(str(socket_path)).load(wanted("main/web", a=A, b=B), None)
    assert (loaded.entries, loaded.problems) == (2, ())
    found = Pound(str(socket_path)).dump("main/web").entries
    assert {key: one.data["backend"] for key, one in found.items()} == {"a": A, "b": B}
    assert 295_000 < (found["a"].remaining_ms or 0) <= 300_000
    assert not server.dead


def test_only_what_is_new_moved_or_gone_is_sent(socket_path: Path) -> None:
    server, backend = RestPound(socket_path, ttl=60), Pound(str(socket_path))
    backend.load(wanted("main/web", a=A, b=B, c=C), None)
    changes(server)
    loaded = backend.load(wanted("main/web", a=A, b=C, d=B), None)
    assert changes(server) == [
        "DELETE /session/main/web?key=c",
        "PUT /session/main/web/2?key=b",
        "PUT /session/main/web/1?key=d",
    ]
    assert loaded.entries == 3
    backend.load(wanted("main/web", a=A, b=C, d=B), None)
    assert changes(server) == []


def test_a_service_without_sessions_is_never_touched(socket_path: Path) -> None:
    server = RestPound(socket_path)
    for call in (lambda: Pound(str(socket_path)).load(wanted("main/plain", a=A), None),):
        with pytest.raises(TableError, match="keeps no sessions"):
            call()
    with pytest.raises(TableError, match="keeps no sessions"):
        Pound(str(socket_path)).reap("main/plain", {"a": "x"})
    assert changes(server) == [] and not server.dead


def test_a_key_that_pound_does_not_take_is_a_problem_and_is_never_sent(socket_path: Path) -> None:
    server = RestPound(socket_path)
    keys = ["a b", "a&b", "a%20", "é", "k" * 128, "x\r\ny", "", "k" * 127]
    loaded = Pound(str(socket_path)).load(wanted("main/web", **dict.fromkeys(keys, A)), None)
    assert (loaded.entries, len(loaded.problems)) == (1, 7)
    assert changes(server) == [f"PUT /session/main/web/0?key={'k' * 127}"]


def test_a_backend_that_is_not_here_costs_its_sessions_alone(socket_path: Path) -> None:
    RestPound(socket_path)
    loaded = Pound(str(socket_path)).load(wanted("main/web", a=A, b="10.0.0.1:1"), None)
    assert loaded.problems == ("1 sessions not loaded: there is no backend 10.0.0.1:1 here",)
    assert loaded.entries == 1


def test_what_is_nearly_over_is_not_added(socket_path: Path) -> None:
    server = RestPound(socket_path)
    table = wanted("main/web", a=A)
    table.entries["a"] = table.entries["a"]._replace(remaining_ms=900.0)
    Pound(str(socket_path)).load(table, None)
    assert changes(server) == []


def test_a_session_is_reaped_at_its_true_end_unless_it_was_seen_since(socket_path: Path) -> None:
    server, backend = RestPound(socket_path), Pound(str(socket_path))
    loaded = backend.load(wanted("main/web", a=A, b=B), None)
    assert 55_000 < loaded.deadlines["a"].remaining_ms <= 60_000
    index, expire = server.rows["b"]
    server.rows["b"] = index, expire.replace(microsecond=(expire.microsecond + 1) % 1_000_000)  # a client's request
    backend.reap("main/web", {key: one.mark for key, one in loaded.deadlines.items()})
    assert set(server.rows) == {"b"}


def test_an_end_is_told_again_only_when_it_has_moved(socket_path: Path) -> None:
    RestPound(socket_path)
    backend, table = Pound(str(socket_path)), wanted("main/web", a=A)
    assert set(backend.load(table, None).deadlines) == {"a"}
    assert backend.load(table, table).deadlines == {}
    table.entries["a"] = table.entries["a"]._replace(remaining_ms=90_000.0)
    assert backend.load(table, table).deadlines["a"].remaining_ms > 85_000


def test_a_session_that_would_end_too_early_here_is_added_again(socket_path: Path) -> None:
    server, backend = RestPound(socket_path, ttl=20), Pound(str(socket_path))
    backend.load(wanted("main/web", a=A), None)
    changes(server)
    backend.load(wanted("main/web", a=A), None)
    assert changes(server) == ["PUT /session/main/web/0?key=a"]


def test_where_weights_differ_a_backend_is_told_or_said_to_be_unknown_never_guessed(socket_path: Path) -> None:
    server = RestPound(socket_path, emergency=True)
    backend = Pound(str(socket_path))
    backend.load(wanted("main/web", a=A, b=B, c=C), None)
    assert {key: row[0] for key, row in server.rows.items()} == {"a": 0, "b": 1, "c": 2}
    dumped = backend.dump("main/web")
    assert {key: one.data for key, one in dumped.entries.items()} == {"a": {"backend": A}, "b": {}, "c": {}}
    loaded = backend.load(dumped, None)
    assert "does not tell" in loaded.problems[0]


def test_pound_that_is_slow_to_add_holds_a_load_up_for_so_long_only(
    socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RestPound(socket_path)
    monkeypatch.setattr(pound, "PATIENCE", -1.0)
    loaded = Pound(str(socket_path)).load(wanted("main/web", a=A, b=B), None)
    assert loaded.entries == 0 and loaded.problems[0].startswith("2 sessions not yet")


def test_no_socket_and_no_service_are_missing(socket_path: Path) -> None:
    with pytest.raises(Missing):
        Pound(str(socket_path)).dump("main/web")
    RestPound(socket_path)
    with pytest.raises(Missing):
        Pound(str(socket_path)).dump("main/nothing")


@pytest.mark.parametrize(
    "pieces, holds",
    [
        ([], True),
        ([b""], False),
        ([b"HTTP/1.1 200 OK\r\n"] + [b"X: y\r\n"] * 1000, True),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{"], True),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{"], False),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n{"], True),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"], True),
        ([b"SSH-2.0\r\n"], True),
        ([b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n"], True),
    ],
)
def test_an_answer_that_is_none_or_never_ends_is_an_error_in_time(
    socket_path: Path, pieces: list[bytes], holds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pound, "WAIT", 0.3)
    Raw(socket_path, pieces, 0.01 if len(pieces) > 2 else 0, holds)
    start = time.monotonic()
    with pytest.raises(TableError):
        Pound(str(socket_path)).dump("main/web")
    assert time.monotonic() - start < 3


# Zevenet's Pound


@pytest.fixture
def farm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ZevenetPound, Zevenet]:
    monkeypatch.setattr(zevenet_sync, "QUIET", 0.15)
    server = ZevenetPound(tmp_path)
    return server, Zevenet(str(tmp_path / "%s.sync"), str(tmp_path / "%s.control"), str(tmp_path / "poundctl"))


def http(backend: int = 0, age: float = 100, service: int = 0, **more: str) -> Entry:
    data = {"listener": 0, "service": service, "backend": backend, "address": f"127.0.0.{backend + 1}", **more}
    return Entry("", ages_ms=(age * 1000.0,), data=data)


def table(*keys: str, **options: int) -> Table:
    one = http(**options)
    entries = {f"0/{one.data['service']} {key}" for key in keys}
    return Table("http", "farmX", time.time(), 0.0, {key: one._replace(key=key) for key in entries})


Farm = tuple[ZevenetPound, Zevenet]


def test_sessions_keep_their_age_to_the_second(farm: Farm) -> None:
    server, backend = farm
    loaded = backend.load(table("a", "b", backend=1), None)
    assert (loaded.entries, loaded.problems) == (2, ())
    assert all(one[0] == 1 and abs(time.time() - 100 - one[1]) < 2.5 for one in server.rows.values())
    found = backend.dump("farmX").entries
    assert set(found) == {"0/0 a", "0/0 b"}
    assert abs((found["0/0 a"].age_ms or 0) - 100_000) < 2500
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
