"""What HAProxy's runtime socket says, read without a HAProxy; and that no key, table or datum becomes a command."""

import random
import re

import pytest

from hotpair.sessions import haproxy_lines, haproxy_socket
from hotpair.sessions.backend import TableError
from hotpair.sessions.haproxy_lines import Rows, Unsayable
from hotpair.sessions.record import Entry

HEAD = "# table: t, type: ip, size:204800, used:2\n"
FULL = (
    "0x7fd6d80331d8: key=10.0.0.1 use=0 exp=1799993 server_id=2 gpc0=5 conn_cnt=0 conn_cur=3 http_req_cnt=7"
    " http_req_rate(10000)=4 server_key=s2\n"
)
STATE = (
    "1\n# be_id be_name srv_id srv_name srv_addr\n2 app 1 s1 127.0.0.1\n2 app 2 s2 127.0.0.1\n3 other 1 s1 -\n"
    "3 other 2 x -\n3 other 3 y -\n"
)
SERVERS = haproxy_lines.servers(STATE)


def rows(*blocks: str, table: str = "app") -> list[Entry]:
    reader = Rows(haproxy_lines.namer(SERVERS, table))
    return [entry for block in blocks for entry in reader.read(block.encode("latin-1")).values()]


# Reading


def test_a_row_is_read_with_its_server_by_name_and_without_what_is_nothing_or_of_that_node_alone() -> None:
    data = {"server": "app/s2", "gpc0": 5, "http_req_cnt": 7, "http_req_rate": 4}
    assert rows(HEAD + FULL + "\n") == [Entry("10.0.0.1", 0, (), 1799993.0, data)]


def test_rows_are_read_however_the_answer_is_cut() -> None:
    text = HEAD + FULL + FULL.replace("10.0.0.1", "10.0.0.2").replace("gpc0=5", "gpc0=0") + "\n"
    whole = rows(text)
    assert [entry.key for entry in whole] == ["10.0.0.1", "10.0.0.2"]
    for cut in range(len(text)):
        assert rows(text[:cut], text[cut:]) == whole


def test_an_answer_is_whole_with_its_empty_line_only() -> None:
    text = HEAD + FULL + "\n"
    for end in range(len(text) + 1):
        reader = Rows(lambda number, _: number)
        reader.read(text[:end].encode())
        assert reader.whole == (end == len(text))


def test_rows_of_other_versions_are_read() -> None:
    [entry] = rows("0x1: key=::1 use=0 exp=5 shard=3 gpt0=1 glitch_cnt=2 bytes_in_rate(1000)=3 \n")
    assert entry == Entry("::1", 0, (), 5.0, {"gpt0": 1, "glitch_cnt": 2, "bytes_in_rate": 3})


def test_the_key_decides_where_key_and_id_disagree() -> None:
    [moved, gone, none] = rows(
        FULL.replace("server_key=s2", "server_key=s1"),
        FULL.replace("server_id=2", "server_id=9").replace("server_key=s2", "server_key=-"),
        FULL.replace("server_id=2", "server_id=0").replace("server_key=s2", "server_key=-"),
    )
    assert [one.data.get("server") for one in (moved, gone, none)] == ["app/s1", "#9", None]


def test_a_table_that_stands_apart_has_servers_of_whoever_it_is_clear_of() -> None:
    texts = [FULL.replace("server_id=2", f"server_id={n}").replace("=s2", f"={key}") for n, key in
             ((1, "-"), (2, "s2"), (2, "-"), (3, "-"))]  # fmt: skip
    found = [entry.data["server"] for entry in rows(*texts, table="apart")]
    assert found == ["s1", "s2", "#2", "y"]


def test_a_key_that_looks_like_a_row_is_a_key() -> None:
    text = "0x1: key=a\\ use=0\\ exp=1\\ gpc0\\=9 use=0 exp=77 gpc0=5\n"
    assert rows(text) == [Entry("a\\ use=0\\ exp=1\\ gpc0\\=9", 0, (), 77.0, {"gpc0": 5})]


@pytest.mark.parametrize(
    "line", ["No such table", "0x1: key=a use=0", "# contents not dumped", "0x1: key=a\\", "x" + FULL[:-1]]
)
def test_what_is_no_row_is_an_error(line: str) -> None:
    with pytest.raises(ValueError):
        rows(HEAD + FULL + line + "\n")


def test_no_text_makes_the_reader_slow_or_fail_otherwise() -> None:
    chance = random.Random(5)
    pieces = ["0x1: key=", "a", "\\", " ", "=", "use=0", " exp=5", " gpc0=1", "\n", "# table: ", FULL, "\x85", "\u00b2"]
    for _ in range(500):
        text = "".join(chance.choices(pieces, k=chance.randrange(1, 12)))
        try:
            rows(text)
        except ValueError:
            continue
    with pytest.raises(ValueError):
        rows("0x1: key=" + "a\\b" * 20000 + "\n")


def test_tables_are_listed() -> None:
    found = haproxy_lines.heads(HEAD + "# table: p/q, type: string, size:10, used:0\n\n")
    assert found == {"t": ("ip", 204800, 2), "p/q": ("string", 10, 0)}


@pytest.mark.parametrize("text", ["Permission denied", "", "1\n# be_name srv_name\n", STATE + "3 other\n"])
def test_an_answer_without_servers_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        haproxy_lines.servers(text)


# Writing


def test_a_server_is_found_by_name() -> None:
    assert haproxy_lines.server_id(SERVERS, "app", "app/s2") == "2"
    assert haproxy_lines.server_id(SERVERS, "apart", "y") == "3"
    assert haproxy_lines.server_id(SERVERS, "apart", "s1") == "1"


@pytest.mark.parametrize("table, server", [("app", "app/x"), ("app", "other/x"), ("t", "none"), ("t", "#2"), ("t", "")])
def test_a_server_that_is_not_here_is_not_guessed(table: str, server: str) -> None:
    with pytest.raises(Unsayable):
        haproxy_lines.server_id(SERVERS, table, server)


@pytest.mark.parametrize(
    "kind, key",
    [
        ("ip", "10.0.0.1;x"),
        ("ip", "notip"),
        ("ip", ""),
        ("ip", "10.0.0"),
        ("ip", "::1"),
        ("ip", "1.1.1.1\n"),
        ("ip", "\0"),
        ("ipv6", "10.0.0.1"),
        ("ipv6", "::1%lo"),
        ("ipv6", "::1 data.gpc0 1"),
        ("integer", "-1"),
        ("integer", "4294967296"),
        ("integer", "9" * 9999),
        ("integer", "\u0661"),
        ("integer", ""),
        ("string", ""),
        ("string", "a\\nb"),
        ("string", "a\nb"),
        ("string", "\\r"),
        ("string", "\\x00"),
        ("string", "\u00e9"),
        ("string", "a\\\u00e9"),
        ("string", "a" * 5000),
        ("binary", "00ff"),
        ("nonsense", "a"),
    ],
)
def test_a_key_that_no_command_can_name_is_refused(kind: str, key: str) -> None:
    with pytest.raises(Unsayable):
        haproxy_lines.said(kind, key)


def test_a_string_key_is_one_word_of_one_command() -> None:
    """By HAProxy's own rules: a backslash takes away the meaning of what follows, and is gone."""
    chance = random.Random(5)
    for _ in range(3000):
        key = "".join(chance.choices("a;\\ <>\"'#=\t$&|`*~@!x4", k=chance.randrange(1, 9)))
        try:
            said = haproxy_lines.said("string", key)
        except Unsayable:
            continue
        bare = re.sub(rb"\\(.)", b"", said, flags=re.DOTALL)
        assert not set(bare) & set(b"; \t\\<\n\"'")
        assert re.sub(rb"\\(.)", rb"\1", said, flags=re.DOTALL) == haproxy_lines.key_bytes(key)


def test_the_keys_that_haproxy_shows_are_understood() -> None:
    assert haproxy_lines.key_bytes(r"\xC3\xA9\ \\\=\t\e<") == "\u00e9 \\=\t\x1b<".encode()
    assert haproxy_lines.said("string", r"\xC3\xA9\ <<") == b"\xc3\xa9\\ \\<\\<"


@pytest.mark.parametrize(
    "data",
    [
        {"gpc0;x": 1},
        {"gpc0 1": 1},
        {"": 1},
        {"gpc0": "1"},
        {"gpc0": 1.5},
        {"gpc0": True},
        {"gpc0": -1},
        {"gpc0": 1 << 64},
        {"gpc0": None},
        {"GPC": 1},
    ],
)
def test_data_that_haproxy_cannot_have_shown_are_refused(data: dict[str, object]) -> None:
    with pytest.raises(Unsayable):
        haproxy_lines.fields(data, {})


def test_data_are_written_by_the_names_they_have_here() -> None:
    data = {"server": "app/s1", "gpc0": 1, "gpc1": 2, "gpt0": 3}
    assert haproxy_lines.fields(data, {"gpc0": "gpc", "gpc1": ""}) == b" data.gpc 1 data.gpt0 3"


# The socket


def test_answers_are_told_apart() -> None:
    assert haproxy_socket.answers(b"\n\n\n", 3) == ["", "", ""]
    assert haproxy_socket.answers(b"\nNo such table\n\n\n", 3) == ["", "No such table", ""]
    assert haproxy_socket.answers(b"a\nb\n\n", 1) == ["a\nb"]


@pytest.mark.parametrize("reply", [b"", b"\n", b"\n\n\n", b"\nhalf", b"\nNo such table\n"])
def test_an_answer_too_few_or_too_many_is_an_error(reply: bytes) -> None:
    with pytest.raises(TableError):
        haproxy_socket.answers(reply, 2)


def test_two_answers_are_divided_wherever_they_are_cut() -> None:
    text = b"1\n# servers\n\n# table: t\nrow\n\n"
    for cut in range(len(text)):
        first, rest = haproxy_socket.parts(iter([text[:cut], text[cut:]]))
        assert (first, b"".join(rest)) == (b"1\n# servers", b"# table: t\nrow\n\n")
    with pytest.raises(TableError):
        haproxy_socket.parts(iter([b"1\n"]))
