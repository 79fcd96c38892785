"""The sessions of Pound 4 against a test server that has the traps of the real one; see pound_servers."""

import time
from pathlib import Path

import pytest

from hotpair.sessions import pound
from hotpair.sessions.backend import Missing, TableError
from hotpair.sessions.pound import Pound
from hotpair.sessions.record import Entry, Table
from tests.ext.pound_servers import Raw, RestPound

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
        "PUT /session/main/web/2?key=b",
        "PUT /session/main/web/1?key=d",
        "DELETE /session/main/web?key=c",
    ]
    assert loaded.entries == 3
    backend.load(wanted("main/web", a=A, b=C, d=B), None)
    assert changes(server) == []


def test_a_service_without_sessions_is_never_touched(socket_path: Path) -> None:
    server = RestPound(socket_path)
    with pytest.raises(TableError, match="keeps no sessions"):
        Pound(str(socket_path)).load(wanted("main/plain", a=A), None)
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


def test_pound_that_is_slow_holds_a_load_up_for_so_long_only_and_the_next_goes_on(
    socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RestPound(socket_path)
    backend, table = Pound(str(socket_path)), wanted("main/web", a=A, b=B)
    monkeypatch.setattr(pound, "PATIENCE", -1.0)
    loaded = backend.load(table, None)
    assert loaded.entries == 0 and loaded.problems[0].startswith("2 sessions not yet")
    monkeypatch.undo()
    loaded = backend.load(table, table)
    assert (loaded.entries, loaded.problems, set(loaded.deadlines)) == (2, (), {"a", "b"})


def test_a_session_that_pound_refuses_costs_no_other(socket_path: Path) -> None:
    server = RestPound(socket_path)
    server.refused = "a"
    loaded = Pound(str(socket_path)).load(wanted("main/web", a=A, b=B), None)
    assert set(server.rows) == {"b"} and loaded.entries == 1
    assert loaded.problems[0] == "Pound answers 400 to PUT main/web/0?key=a"


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
