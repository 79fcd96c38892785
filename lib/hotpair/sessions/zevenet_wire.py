"""Packets of Zevenet Pound's `-s` socket and control socket, and what its poundctl prints. Pure.

pound_sync.c and pound.h of Zevenet's Pound 2.8a. Pound writes 5 as the length of every packet: only the fields tell it.
"""

import re
import struct
from typing import NamedTuple

from hotpair.sessions.backend import TableError

MAGIC = b"\xef\xab\x06"
SYNC_REQUEST, ADD, DELETE, UPDATE, WRITE = 1, 2, 3, 4, 5
TIMED = (ADD, UPDATE, WRITE)  # have a content and a time
KNOWN = (ADD, DELETE, UPDATE, WRITE)
HEAD, NUMBERS, TIME = 6, struct.Struct("<III"), struct.Struct("<Q")
LONGEST_KEY = 126  # bytes: with its NUL, 127, which is KEY_SIZE
CONTROL = struct.Struct("<iiii128s")
CONTROL_DELETE = 9  # upstream's 2.x: 8
LISTENER = re.compile(rb'<listener index="(\d{1,6})"')
SERVICE = re.compile(rb'<service index="(\d{1,6})"')
BACKEND = re.compile(rb'<backend index="(\d{1,6})".* address="([^"]*)" avg=')
SESSION = re.compile(rb'<session index="\d{1,9}" key="(.*)" backend="-?\d{1,9}" />')
Place = tuple[int, int, bytes]  # listener, service, key


class Listing(NamedTuple):
    """What poundctl knows of a farm."""

    backends: dict[tuple[int, int], list[str]]  # addresses by listener and service; listener -1 is that of all
    sessions: set[Place]  # without those of the services of all listeners, which the `-s` socket leaves out


class Packet(NamedTuple):
    """What one packet says of a session."""

    action: int
    farm: bytes
    listener: int
    service: int
    backend: int
    key: bytes
    content: bytes = b""
    last: int = 0  # access, in seconds since 1970


def request(farm: bytes) -> bytes:
    """Return the packet that asks for all sessions."""
    return _framed(SYNC_REQUEST, farm, b"")


def write(packet: Packet) -> bytes:
    """Return the packet that writes a session. Pound takes strings without their end: a NUL is sent along.

    Raises ValueError for what Pound does not survive.
    """
    if why := unfit(packet.key):
        raise ValueError(why)
    key = packet.key + b"\0"
    numbers = NUMBERS.pack(packet.listener, packet.service, packet.backend)
    return _framed(WRITE, packet.farm, numbers + bytes([len(key)]) + key + b"\x02x\0" + TIME.pack(packet.last))


def _framed(action: int, farm: bytes, rest: bytes) -> bytes:
    if len(farm) > 255:
        raise ValueError("the farm's name is too long")
    body = bytes([action, len(farm)]) + farm + rest
    return MAGIC + struct.pack("<H", len(MAGIC) + 2 + len(body)) + body


def unfit(key: bytes) -> str:
    """Return what keeps a key from being sent, or "". An empty one ends Pound."""
    if not key:
        return "it is empty"
    if b"\0" in key:
        return "it has a NUL"
    return f"it is longer than {LONGEST_KEY} bytes" if len(key) > LONGEST_KEY else ""


def removal(listener: int, service: int, key: bytes) -> bytes:
    """Return what the control socket takes to remove a session."""
    if why := unfit(key):
        raise ValueError(why)
    return CONTROL.pack(CONTROL_DELETE, listener, service, 0, key)


class Reader:
    """Bytes into packets, in whatever pieces they come."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> list[Packet]:
        """Return the packets that are whole now. Raises TableError for what is no packet."""
        self._data += data
        found, at = [], 0
        while parsed := _packet(self._data, at):
            packet, at = parsed
            found.append(packet)
        del self._data[:at]
        return found

    @property
    def within(self) -> bool:
        """Say whether a packet has begun and not ended."""
        return bool(self._data)


def _packet(data: bytearray, at: int) -> tuple[Packet, int] | None:
    """Return the packet that begins there and where it ends, None while it is not whole."""
    if data[at : at + 3] != MAGIC[: len(data) - at]:
        raise TableError("Pound's packet does not begin as one")
    if len(data) < at + HEAD + 1:
        return None
    action = data[at + HEAD - 1]
    if action not in KNOWN:
        raise TableError(f"Pound's packet has an unknown action {action}")
    farm, end = _text(data, at + HEAD)
    numbers, end = end, end + NUMBERS.size
    key, end = _text(data, end)
    content, last = b"", 0
    if action in TIMED:
        content, end = _text(data, end)
        end += TIME.size
    if len(data) < end:
        return None
    if action in TIMED:
        last = TIME.unpack_from(data, end - TIME.size)[0]
    listener, service, backend = NUMBERS.unpack_from(data, numbers)
    return Packet(action, farm, listener, service, backend, key.rstrip(b"\0"), content.rstrip(b"\0"), last), end


def _text(data: bytearray, at: int) -> tuple[bytes, int]:
    """Return a text with its length before it, and where it ends; that may be beyond what is there."""
    end = at + 1 + (data[at] if at < len(data) else 0)
    return bytes(data[at + 1 : end]), end


def listing(said: bytes) -> Listing:
    """Return what `poundctl -X` prints. Raises TableError when it is not whole.

    By lines, for its XML is none: it escapes nothing in a key but its quotation marks.
    """
    found = Listing({}, set())
    listener, service, whole = -1, -1, False
    for line in said.split(b"\n"):
        if match := LISTENER.match(line):
            listener = int(match[1])
        elif line == b"</listener>":
            listener = -1  # a service outside is of all listeners
        elif match := SERVICE.match(line):
            service = int(match[1])
            found.backends[listener, service] = []
        elif (match := BACKEND.match(line)) and (listener, service) in found.backends:
            found.backends[listener, service].append(match[2].decode(errors="surrogateescape"))
        elif (match := SESSION.fullmatch(line)) and listener >= 0:
            found.sessions.add((listener, service, match[1].replace(b'\\"', b'"')))
        whole = whole or line == b"</pound>"
    if not whole:
        raise TableError("what poundctl printed ends too early")
    return found
