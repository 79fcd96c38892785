"""A conversation with the `-s` socket of Zevenet's Pound: all its sessions, and sessions written into it.

It serves one client alone: the answer to one goes to the last that came. It never answers a write, loses what came just
before its client went away, and blocks, with the traffic, when a client that asked does not read on.
"""

import select
import socket
import threading
import time
from contextlib import suppress

from hotpair.sessions import local_socket
from hotpair.sessions.backend import TableError
from hotpair.sessions.zevenet_wire import ADD, DELETE, UPDATE, Packet, Place, Reader, request, write

QUIET = 0.4  # seconds without a packet that end an answer, which has no end marker
LATE = 2.0  # seconds without a packet after which what is lacking does not come any more
LOOKS = 4  # in either of these times
WAIT = 10.0  # seconds that an answer may take
EACH = 0.02  # seconds that a write may take; it takes 2.5 ms
MOST = 1_000_000  # sessions


class Sync:
    """One connection, to be closed when all is verified. A thread reads it all the time, so that Pound never blocks."""

    def __init__(self, path: str, farm: bytes) -> None:
        self.farm, self._reader = farm, Reader()
        self._sessions: dict[Place, Packet] = {}
        self._told: set[Place] = set()  # since it was asked, and maybe gone again
        self._pieces = 0  # that have come
        self._lock, self._ended, self._why = threading.Lock(), threading.Event(), ""
        self._connection = local_socket.connect(path, time.monotonic() + WAIT)
        self._connection.settimeout(None)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __enter__(self) -> "Sync":
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # Pound may have gone first
            self._connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._connection.close()

    def ask(self) -> dict[Place, Packet]:
        """Return all sessions. Raises TableError when the answer breaks off or does not end."""
        until = time.monotonic() + WAIT
        with self._lock:
            self._sessions.clear()
            self._told.clear()
        self._send(request(self.farm), until)
        return self._settled(None, until)

    def follow(self, listed: set[Place]) -> tuple[dict[Place, Packet], int]:
        """Return all sessions when those listed have been told, or do not come; and how many do not."""
        rows = self._settled(listed, time.monotonic() + WAIT)
        with self._lock:
            return rows, len(listed - self._told)

    def _settled(self, listed: set[Place] | None, until: float) -> dict[Place, Packet]:
        """Wait until what is listed has been told, or until nothing has come at several looks.

        Looks, not the clock: of a machine too busy to let us run, a late look would say nothing.
        """
        step = (QUIET if listed is None else LATE) / LOOKS
        pieces, quiet = -1, 0
        while True:
            with self._lock:
                quiet = quiet + 1 if self._pieces == pieces else 0
                pieces, within = self._pieces, self._reader.within
                there = listed is not None and listed <= self._told
                rows = dict(self._sessions) if there or quiet >= LOOKS else None
            if self._ended.is_set():
                raise TableError(self._why)
            if rows is not None and within and not there:
                raise TableError("Pound's answer ends too early")
            if rows is not None:
                return rows
            if time.monotonic() > until:
                raise TableError("Pound's answer does not end")
            self._ended.wait(step)

    def write(self, packets: list[Packet]) -> None:
        """Send sessions, each in one send; then wait until Pound has them."""
        until = time.monotonic() + WAIT + EACH * len(packets)
        for packet in packets:
            self._send(write(packet), until)
        before: dict[Place, Packet] = {}
        while True:
            have = self.ask()
            if have and have == before:
                return  # some have expired
            before = have
            if all(_is_as(have.get((one.listener, one.service, one.key)), one) for one in packets):
                return
            if time.monotonic() > until:
                return  # the caller looks at what is there

    def _send(self, data: bytes, until: float) -> None:
        """Send one packet in one send, when there is room for it."""
        left = until - time.monotonic()
        if not select.select([], [self._connection], [], max(left, 0.0))[1]:
            raise TableError("Pound does not read what is sent")
        try:
            self._connection.sendall(data)
        except OSError as error:
            raise TableError(f"cannot send: {error}") from error

    def _read(self) -> None:
        """Take whatever comes until the connection ends."""
        try:
            while data := self._connection.recv(local_socket.CHUNK):
                with self._lock:
                    self._take(data)
            self._why = "Pound has closed its socket"
        except (OSError, TableError) as error:
            self._why = str(error)
        finally:
            self._ended.set()

    def _take(self, data: bytes) -> None:
        self._pieces += 1
        for packet in self._reader.feed(data):
            place = packet.listener, packet.service, packet.key
            if packet.action in (ADD, UPDATE):
                self._sessions[place] = packet
                self._told.add(place)
            elif packet.action == DELETE:
                self._sessions.pop(place, None)
                self._told.add(place)
        if len(self._told) > MOST:
            raise TableError("Pound's answer does not end")


def _is_as(here: Packet | None, wanted: Packet) -> bool:
    return here is not None and here.backend == wanted.backend and here.last >= wanted.last


def remove(path: str, command: bytes) -> None:
    """Give the control socket one command, which it does not answer."""
    until = time.monotonic() + WAIT
    with local_socket.connect(path, until) as connection:
        local_socket.send(connection, command, until)
        connection.shutdown(socket.SHUT_WR)
        local_socket.finish(connection, until)
