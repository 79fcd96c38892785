"""The conversation's wire: JSON lines both ways, and between them counted bytes for contents and for rsync.

Every read has a time-out and a bound, because the other end may be hostile, half dead or another version.
"""

import json
import math
import os
import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hotpair import scan
from hotpair.exits import Later, Refused

PROTOCOL = 1
LINE_MAX = 1 << 20  # bytes in one JSON line: a path (4 KiB) and its attributes (64 KiB each) leave room
CHUNK = 1 << 16


class Wire:
    """One end of a conversation over two descriptors."""

    def __init__(self, fd_in: int, fd_out: int, timeout: float) -> None:
        self._in, self._out, self.timeout = fd_in, fd_out, timeout
        self.until = math.inf  # on the monotonic clock: when whatever is under way has taken too long
        self._buffer, self._unsent, self._gathers = bytearray(), bytearray(), False
        os.set_blocking(fd_out, False)  # a peer that does not read must not hold us for ever

    def send(self, **message: Any) -> None:
        """Send one message. Raises Later when the other end is gone."""
        self._write(json.dumps(message).encode() + b"\n")

    def receive(self, timeout: float = 0.0) -> dict[str, Any]:
        """Return the next message. Raises Refused for what is not one, Later for silence or the end."""
        start = 0
        while (end := self._buffer.find(b"\n", start)) < 0:
            start = len(self._buffer)
            if start > LINE_MAX:
                raise Refused("a message is longer than the protocol allows")
            self._fill(timeout or self.timeout)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        try:
            message = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Refused(f"not a message: {line[:60]!r}") from error
        if not isinstance(message, dict):
            raise Refused(f"not a message: {line[:60]!r}")
        return message

    def expect(self, key: str, timeout: float = 0.0) -> Any:
        """Return what the next message says under `key`. Raises Refused with the reason when it is a refusal."""
        message = self.receive(timeout)
        if "refused" in message:
            raise Refused(f"the peer refuses: {message['refused']}")
        if key not in message:
            raise Refused(f"expected {key!r}, got {sorted(message)[:3]!r}")
        return message[key]

    def send_bytes(self, data: bytes) -> None:
        """Send one counted chunk; an empty one says that no more will come."""
        self._write(b"%d\n" % len(data) + data)

    def receive_bytes(self) -> bytes:
        """Return the next counted chunk. Raises Refused for one that is larger than CHUNK."""
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > 16:
                raise Refused("not a counted chunk")
            self._fill(self.timeout)
        head = bytes(self._buffer[:end])
        if not head.isdigit() or len(head) > 16 or int(head) > CHUNK:
            raise Refused(f"not a counted chunk: {head[:20]!r}")
        size = int(head)
        del self._buffer[: end + 1]
        while len(self._buffer) < size:
            self._fill(self.timeout)
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def pump(self, source: int, sink: int) -> None:
        """Carry a program's bytes: `source` to the other end, the other end's to `sink`, until both have ended.

        Each direction has its own thread, so that neither waits for the other (rsync talks both ways at once).
        """
        broken: list[BaseException] = []

        def outward() -> None:
            try:
                while data := os.read(source, CHUNK):
                    self.send_bytes(data)
                self.send_bytes(b"")
            except (OSError, Later) as error:
                broken.append(error)

        thread = threading.Thread(target=outward, daemon=True)
        thread.start()
        open_ = True
        try:
            while data := self.receive_bytes():
                if open_:
                    try:
                        scan.write_all(sink, data)
                    except BrokenPipeError:
                        open_ = False  # the program has ended; what the other end still sends is dropped
        finally:
            os.close(sink)
        thread.join(self.timeout)
        if broken or thread.is_alive():
            raise Later("the connection broke while contents were under way")

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Gather what is sent inside into large writes. Nothing may be received there."""
        self._gathers = True
        try:
            yield
        finally:
            self._gathers = False
        self._write(b"")

    def _write(self, data: bytes) -> None:
        self._unsent += data
        if self._gathers and len(self._unsent) < CHUNK:
            return
        data, self._unsent = bytes(self._unsent), bytearray()
        view = memoryview(data)
        while view:
            self._in_time()
            try:
                view = view[os.write(self._out, view) :]
            except BlockingIOError:
                if not select.select([], [self._out], [], self.timeout)[1]:
                    raise Later(f"the peer read nothing for {self.timeout:g} s") from None
            except OSError as error:
                raise Later(f"the peer is gone: {error.strerror}") from error

    def _in_time(self) -> None:
        if time.monotonic() >= self.until:
            raise Later("not done in the time that a batch has")

    def _fill(self, timeout: float) -> None:
        self._in_time()
        deadline = min(time.monotonic() + timeout, self.until)
        while not select.select([self._in], [], [], max(0.0, deadline - time.monotonic()))[0]:
            self._in_time()
            if time.monotonic() >= deadline:
                raise Later(f"the peer said nothing for {timeout:g} s")
        data = os.read(self._in, CHUNK)
        if not data:
            raise Later("the peer ended the conversation")
        self._buffer += data
