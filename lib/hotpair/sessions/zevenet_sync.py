"""A conversation with the `-s` socket of Zevenet's Pound: all its sessions, and sessions written into it.

It serves one client alone: the answer to one goes to the last that came. It never answers a write, loses what came just
before its client went away, and blocks, with the traffic, when a client that asked does not read on.
"""

import select
import socket
import time

from hotpair.sessions import local_socket
from hotpair.sessions.backend import TableError
from hotpair.sessions.zevenet_wire import ADD, DELETE, UPDATE, Packet, Place, Reader, request, write

QUIET = 0.4  # seconds without a packet that end an answer, which has no end marker
WAIT = 10.0  # seconds that an answer may take
EACH = 0.02  # seconds that a write may take; it takes 2.5 ms
MOST = 1_000_000  # packets of one answer


class Sync:
    """One connection, to be closed when all is verified."""

    def __init__(self, path: str, farm: bytes) -> None:
        self.farm, self.sessions, self._reader = farm, dict[Place, Packet](), Reader()
        self._connection = local_socket.connect(path, time.monotonic() + WAIT)

    def __enter__(self) -> "Sync":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ask(self) -> dict[Place, Packet]:
        """Return all sessions. Raises TableError when the answer breaks off or does not end."""
        until = time.monotonic() + WAIT
        self.sessions.clear()
        self._send(request(self.farm), until)
        return self._settled(until)

    def follow(self) -> dict[Place, Packet]:
        """Return all sessions, with what has changed since they were asked for."""
        return self._settled(time.monotonic() + WAIT)

    def _settled(self, until: float) -> dict[Place, Packet]:
        """Take packets until there is a while without any. Raises TableError."""
        packets = 0
        while self._readable(QUIET):
            packets += self._take(until)
            if packets > MOST or time.monotonic() > until:
                raise TableError("Pound's answer does not end")
        if self._reader.within:
            raise TableError("Pound's answer ends too early")
        return dict(self.sessions)

    def write(self, packets: list[Packet]) -> None:
        """Send sessions, each in one send, reading on meanwhile; then wait until Pound has them."""
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
        """Send one packet when there is room for it, and read what comes before: Pound may wait for that."""
        while time.monotonic() < until:
            readable, writable, _ = select.select([self._connection], [self._connection], [], 1.0)
            if readable:
                self._take(until)
            if writable:
                local_socket.send(self._connection, data, until)
                return
        raise TableError("Pound does not read what is sent")

    def _readable(self, wait: float) -> bool:
        return bool(select.select([self._connection], [], [], wait)[0])

    def _take(self, until: float) -> int:
        """Take what is there, and return how many packets that was."""
        data = local_socket.receive(self._connection, until)
        if not data:
            raise TableError("Pound has closed its socket")
        packets = self._reader.feed(data)
        for packet in packets:
            place = packet.listener, packet.service, packet.key
            if packet.action in (ADD, UPDATE):
                self.sessions[place] = packet
            elif packet.action == DELETE:
                self.sessions.pop(place, None)
        return len(packets)


def _is_as(here: Packet | None, wanted: Packet) -> bool:
    return here is not None and here.backend == wanted.backend and here.last >= wanted.last


def remove(path: str, command: bytes) -> None:
    """Give the control socket one command, which it does not answer."""
    until = time.monotonic() + WAIT
    with local_socket.connect(path, until) as connection:
        local_socket.send(connection, command, until)
        connection.shutdown(socket.SHUT_WR)
        local_socket.finish(connection, until)
