"""The parsers of both Pounds: whatever comes, a result or a TableError, and never a hang."""

import json
import random
import struct
from collections.abc import Callable
from datetime import datetime

import pytest

from hotpair.sessions import pound_answer, zevenet_wire
from hotpair.sessions.backend import TableError
from hotpair.sessions.zevenet_wire import Packet, Reader

CAPTURED = bytes.fromhex(
    "efab06050002056661726d5800000000000000000100000008" + b"10.1.1.1".hex() + "09" + b"127.0.0.1".hex()
) + bytes.fromhex("00f6006b00000000")
ROW = Packet(2, b"farmX", 0, 0, 1, b"10.1.1.1", b"127.0.0.1", 1795225088)
SERVICE = {
    "name": "web",
    "session_type": "IP",
    "backends": [{"address": "h:1", "weight": 0}, {"address": "h:1", "weight": 0}],
    "sessions": [{"backend": 1, "expire": "2026-01-02T03:04:05.5", "key": "k"}],
}
BODY = json.dumps(
    {"core": {"timestamp": "2026-01-02T03:04:00"}, "listeners": [{"name": "main", "services": [SERVICE]}]}
).encode()
LISTING = b"""<pound>
<listener index="0" protocol="http" address="a:1" status="active">
<service index="0" name="s" status="active">
<backend index="0" key="" address="127.0.0.1:80" avg="0.000" priority="5" alive="yes"/>
<session index="0" key="abc%<&d\\"" backend="0" />
</service>
</listener>
<service index="0">
</service>
</pound>
"""
ROUNDS = 34_000  # for each of three parsers: 10^5 inputs


def test_a_captured_packet_is_read_whatever_its_length_says_and_in_any_pieces() -> None:
    assert Reader().feed(CAPTURED) == [ROW]
    reader = Reader()
    assert [one for byte in CAPTURED * 2 for one in reader.feed(bytes([byte]))] == [ROW, ROW]
    assert not reader.within


def test_a_deletion_ends_after_its_key() -> None:
    deletion = CAPTURED[:5] + b"\x03" + CAPTURED[6:33]
    assert [one.action for one in Reader().feed(deletion + CAPTURED)] == [3, 2]


def test_a_written_packet_has_its_length_a_nul_and_a_content() -> None:
    packet = zevenet_wire.write(ROW._replace(action=5))
    assert struct.unpack_from("<H", packet, 3)[0] == len(packet)
    assert packet.endswith(b"\x0910.1.1.1\0\x02x\0" + struct.pack("<Q", 1795225088))
    assert zevenet_wire.request(b"farmX") == b"\xef\xab\x06\x0c\x00\x01\x05farmX"


@pytest.mark.parametrize("key", [b"", b"a\0b", b"k" * 127])
def test_a_key_that_pound_does_not_survive_is_not_packed(key: bytes) -> None:
    with pytest.raises(ValueError):
        zevenet_wire.write(ROW._replace(key=key))
    with pytest.raises(ValueError):
        zevenet_wire.removal(0, 0, key)


def test_a_removal_is_144_bytes() -> None:
    assert zevenet_wire.removal(1, 2, b"k") == struct.pack("<iiii128s", 9, 1, 2, 0, b"k")


def test_a_listing_is_read_although_it_is_no_xml() -> None:
    found = zevenet_wire.listing(LISTING)
    assert found.backends == {(0, 0): ["127.0.0.1:80"], (-1, 0): []}
    assert found.sessions == {(0, 0, b'abc%<&d"')}


def test_a_service_is_found_by_name_and_number_and_equal_addresses_are_told_apart() -> None:
    for name in ("main/web", "0/0", "0/web"):
        found = pound_answer.service(BODY, name)
        assert found.backends == ("h:1", "h:1#2")
        assert found.sessions["k"].backend == "h:1#2"
        assert found.sessions["k"].remaining_ms == 5500


def test_what_is_over_has_nothing_left() -> None:
    assert pound_answer.remaining("2026-01-02T03:04:00", datetime(2026, 1, 2, 3, 5)) == 0


def mutated(chance: random.Random, text: bytes) -> bytes:
    data = bytearray(text)
    for _ in range(chance.randrange(1, 5)):
        at = chance.randrange(len(data) + 1)
        act = chance.randrange(4)
        if act == 0:
            data[at : at + 1] = chance.randbytes(1)
        elif act == 1:
            del data[at : at + chance.randrange(1, 20)]
        elif act == 2:
            data[at:at] = data[: chance.randrange(20)]
        else:
            data[at:at] = chance.choice([b"null", b"-1", b"1e999", b"[", b"{}", b'"', b"\0", b"\xff", b"9" * 25])
    return bytes(data)


def read_rest(text: bytes) -> None:
    pound_answer.service(
        pound_answer.content(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text) + text)[1], "0/0"
    )


def read_head(text: bytes) -> None:
    pound_answer.content(text)


@pytest.mark.parametrize(
    "read, text, rounds",
    [
        (lambda text: Reader().feed(text), CAPTURED * 2, ROUNDS),
        (read_rest, BODY, ROUNDS),
        (zevenet_wire.listing, LISTING, ROUNDS),
        (read_head, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", ROUNDS // 4),
    ],
    ids=["packets", "json", "listing", "http"],
)
def test_a_mutilated_answer_is_read_or_refused(read: Callable[[bytes], object], text: bytes, rounds: int) -> None:
    chance, refused = random.Random(5), 0
    for number in range(rounds):
        try:
            read(mutated(chance, text) if number % 8 else chance.randbytes(chance.randrange(200)))
        except TableError:
            refused += 1
    assert rounds // 10 < refused < rounds
