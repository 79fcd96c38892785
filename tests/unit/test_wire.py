"""The wire: whatever the other end says ends in a message, Refused or Later; both ways at once without waiting."""

import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotpair.exits import Later, Refused
from hotpair.wire import CHUNK, LINE_MAX, Wire

DEADLINE = 30.0  # seconds: nothing here takes one


class Fed:
    """A wire whose other end has said its bytes and is gone."""

    def __init__(self, data: bytes, timeout: float = 5.0) -> None:
        ours, theirs = socket.socketpair()
        self.ends = [ours, theirs]
        self.wire = Wire(ours.fileno(), ours.fileno(), timeout)
        self.feeder = threading.Thread(target=self._feed, args=(theirs, data), daemon=True)
        self.feeder.start()

    @staticmethod
    def _feed(theirs: socket.socket, data: bytes) -> None:
        with suppress(OSError):
            theirs.sendall(data)
            theirs.shutdown(socket.SHUT_WR)

    def __enter__(self) -> Wire:
        return self.wire

    def __exit__(self, *_: object) -> None:
        for end in self.ends:
            end.shutdown(socket.SHUT_RDWR)
        self.feeder.join(DEADLINE)
        for end in self.ends:
            end.close()
        assert not self.feeder.is_alive()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
lines = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=80).map(lambda text: text.encode("utf-8", "surrogatepass")),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.integers(0, 5000).map(lambda depth: b"[" * depth + b"]" * depth),
    st.integers(0, 5000).map(lambda depth: b'{"a":' * depth + b"1" + b"}" * depth),
)
heads = st.one_of(
    st.integers(-5, 2 * CHUNK).map(lambda number: b"%d" % number), st.binary(max_size=24), st.just("٣".encode())
)
chunks = st.tuples(heads, st.binary(max_size=100)).map(lambda pair: pair[0] + b"\n" + pair[1])


@settings(max_examples=300, deadline=None)
@given(st.lists(lines, max_size=6), st.booleans())
def test_whatever_is_said_is_a_message_or_refused_or_the_end(said: list[bytes], ended: bool) -> None:
    data = b"\n".join(said) + (b"\n" if ended else b"")
    with Fed(data) as wire:
        try:
            while True:
                assert isinstance(wire.receive(), dict)
        except (Refused, Later):
            pass


@settings(max_examples=300, deadline=None)
@given(st.lists(chunks, max_size=6), st.binary(max_size=20))
def test_whatever_is_said_is_a_chunk_or_refused_or_the_end(said: list[bytes], rest: bytes) -> None:
    with Fed(b"".join(said) + rest) as wire:
        try:
            while True:
                assert len(wire.receive_bytes()) <= CHUNK
        except (Refused, Later):
            pass


@pytest.mark.parametrize("head", [b"%d" % (CHUNK + 1), b"-1", b"+1", b" 1", b"1 ", b"", b"1e3", b"0x10", "٣".encode()])
def test_a_chunk_that_is_not_counted_within_the_bound_is_refused(head: bytes) -> None:
    with Fed(head + b"\n" + b"x" * (2 * CHUNK)) as wire, pytest.raises(Refused, match="not a counted chunk"):
        wire.receive_bytes()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.dictionaries(st.text(), json_values), st.binary()), max_size=8))
def test_what_one_end_sends_the_other_receives(said: list[dict[str, object] | bytes]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sender, receiver = (Wire(end.fileno(), end.fileno(), 5.0) for end in (ours, theirs))
        for one in said:
            if isinstance(one, bytes):
                sender.send_bytes(one)
                assert receiver.receive_bytes() == one
            else:
                sender._write(json.dumps(one).encode() + b"\n")
                assert repr(receiver.receive()) == repr(one)  # NaN is not equal to itself


@pytest.mark.parametrize("more", [0, 1], ids=["without end", "with an end"])
def test_a_line_that_is_too_long_is_refused_before_it_is_read(more: int) -> None:
    with Fed(b"x" * (10 * LINE_MAX) + b"\n" * more) as wire:
        with pytest.raises(Refused, match="longer than the protocol allows"):
            wire.receive()
        assert len(wire._buffer) <= LINE_MAX + CHUNK


def test_a_line_of_the_greatest_length_is_received() -> None:
    text = "x" * (LINE_MAX - 100)
    with Fed(json.dumps({"a": text}).encode() + b'\n{"b": 1}\n') as wire:
        assert wire.receive() == {"a": text}
        assert wire.receive() == {"b": 1}


@pytest.mark.parametrize(
    "what, said",
    [
        pytest.param("receive", b"", id="no message"),
        pytest.param("receive", b'{"half', id="half a message"),
        pytest.param("receive_bytes", b"", id="no chunk"),
        pytest.param("receive_bytes", b"5", id="half a header"),
        pytest.param("receive_bytes", b"5\nabc", id="half a chunk"),
    ],
)
def test_silence_is_given_up(what: str, said: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(said)
        with pytest.raises(Later, match="said nothing for 0.05 s"):
            getattr(Wire(ours.fileno(), ours.fileno(), 0.05), what)()


def test_a_peer_that_reads_nothing_is_given_up() -> None:
    source, sink = os.pipe()
    wire = Wire(source, sink, 0.2)
    raised: list[BaseException] = []

    def send() -> None:
        try:
            wire.send(much="x" * (4 << 20))
        except Later as gone:
            raised.append(gone)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    sender.join(10)
    stuck = sender.is_alive()
    while stuck and sender.is_alive():
        os.read(source, 1 << 20)  # let it go, so that it does not write into another test's descriptors
    os.close(source)
    os.close(sink)
    assert not stuck, "it waits for ever to be read"
    assert raised


def test_what_is_gathered_goes_out_in_one_write_and_in_order() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # where each write stays one
    with ours, theirs:
        wire = Wire(ours.fileno(), ours.fileno(), 5.0)
        with wire.gathered():
            for number in range(3):
                wire.send(number=number)
                wire.send_bytes(b"content")
        assert theirs.recv(CHUNK) == b"".join(b'{"number": %d}\n7\ncontent' % number for number in range(3))


def test_what_is_gathered_goes_out_before_it_fills_memory() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(DEADLINE)
        wire = Wire(ours.fileno(), ours.fileno(), 5.0)
        with wire.gathered():
            wire.send_bytes(b"x" * CHUNK)
            assert theirs.recv(10) == b"65536\nxxxx"


def test_a_peer_that_is_gone_is_said_to_be() -> None:
    source, sink = os.pipe()
    os.close(source)
    try:
        with pytest.raises(Later, match="the peer is gone"):
            Wire(sink, sink, 1.0).send(a=1)
    finally:
        os.close(sink)


# Two programs that talk through the wire


class Program:
    """What a program at one end does: write its data, whatever happens, and read until the end."""

    def __init__(self, size: int) -> None:
        self.data = os.urandom(1 << 16) * (size >> 16)
        self.source, self._write_end = os.pipe()
        self._read_end, self.sink = os.pipe()
        self.heard = hashlib.blake2b()
        self.threads = [threading.Thread(target=job, daemon=True) for job in (self._write, self._read)]

    def _write(self) -> None:
        view = memoryview(self.data)
        while view:
            view = view[os.write(self._write_end, view) :]
        os.close(self._write_end)

    def _read(self) -> None:
        while data := os.read(self._read_end, 1 << 16):
            self.heard.update(data)
        os.close(self._read_end)


@pytest.fixture(params=["socket", "pipes"])
def link(request: pytest.FixtureRequest) -> Iterator[tuple[Wire, Wire]]:
    """Both ends of a connection, as ssh gives it (sockets) or as a local peer has it (pipes)."""
    if request.param == "socket":
        ours, theirs = socket.socketpair()
        with ours, theirs:
            yield Wire(ours.fileno(), ours.fileno(), 10.0), Wire(theirs.fileno(), theirs.fileno(), 10.0)
        return
    (a_in, b_out), (b_in, a_out) = os.pipe(), os.pipe()
    yield Wire(a_in, a_out, 10.0), Wire(b_in, b_out, 10.0)
    for fd in (a_in, b_out, b_in, a_out):
        os.close(fd)


def pump(wire: Wire, program: Program, failed: list[BaseException]) -> None:
    try:
        wire.pump(program.source, program.sink)
    except BaseException as error:
        failed.append(error)
    finally:
        os.close(program.source)


@pytest.mark.parametrize("sizes", [(24, 24), (24, 0), (0, 24), (0, 0)], ids=["both", "one", "the other", "neither"])
def test_two_programs_that_write_before_they_read_never_wait_for_each_other(
    link: tuple[Wire, Wire], sizes: tuple[int, int]
) -> None:
    programs = [Program(size << 20) for size in sizes]
    failed: list[BaseException] = []
    ends = zip(link, programs, strict=True)
    threads = [threading.Thread(target=pump, args=(wire, program, failed), daemon=True) for wire, program in ends]
    for thread in (every := threads + [thread for program in programs for thread in program.threads]):
        thread.start()
    deadline = time.monotonic() + DEADLINE
    for thread in every:
        thread.join(max(0.0, deadline - time.monotonic()))
    assert not [thread for thread in every if thread.is_alive()], "somebody waits for ever"
    assert failed == []
    assert programs[0].heard.digest() == hashlib.blake2b(programs[1].data).digest()
    assert programs[1].heard.digest() == hashlib.blake2b(programs[0].data).digest()


def test_messages_go_on_after_programs_have_talked(link: tuple[Wire, Wire]) -> None:
    test_two_programs_that_write_before_they_read_never_wait_for_each_other(link, (1, 1))
    link[0].send(rsync=0)
    assert link[1].expect("rsync") == 0


def test_a_program_that_stops_reading_does_not_stop_the_other_end(link: tuple[Wire, Wire]) -> None:
    """rsync ends when it has had enough; what the other end still sends is dropped."""
    deaf_source, deaf_write = os.pipe()
    deaf_read, deaf_sink = os.pipe()
    os.close(deaf_write)
    os.close(deaf_read)
    loud = Program(8 << 20)
    failed: list[BaseException] = []

    def deaf() -> None:
        link[1].pump(deaf_source, deaf_sink)
        os.close(deaf_source)

    threads = [threading.Thread(target=pump, args=(link[0], loud, failed), daemon=True), *loud.threads]
    threads.append(threading.Thread(target=deaf, daemon=True))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert not [thread for thread in threads if thread.is_alive()], "somebody waits for ever"
    assert failed == []


def test_a_connection_that_breaks_while_programs_talk_is_said_to() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        program = Program(1 << 20)
        for thread in program.threads:
            thread.start()
        theirs.close()
        with pytest.raises(Later):
            Wire(ours.fileno(), ours.fileno(), 5.0).pump(program.source, program.sink)
        with suppress(OSError):
            while os.read(program.source, 1 << 20):  # so that its writer can end
                pass
        os.close(program.source)
        for thread in program.threads:
            thread.join(DEADLINE)
            assert not thread.is_alive()
