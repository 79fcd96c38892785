"""Conversations over a unix socket that end in time and in size, whatever the other end does."""

import socket
import time
from contextlib import suppress

from hotpair.sessions.backend import Missing, TableError

CHUNK = 1 << 18


def connect(path: str, until: float) -> socket.socket:
    """Return a connection. Raises Missing when nobody serves there. until: by time.monotonic()."""
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        found.settimeout(_left(path, until))
        found.connect(path)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        found.close()
        raise Missing(f"nobody serves {path}") from error
    except (OSError, ValueError) as error:
        found.close()
        raise TableError(f"{path}: {error}") from error
    except TableError:
        found.close()
        raise
    return found


def send(connection: socket.socket, data: bytes, until: float) -> None:
    """Send all of it. Raises TableError."""
    try:
        connection.settimeout(_left("the socket", until))
        connection.sendall(data)
    except OSError as error:
        raise TableError(f"cannot send: {error or 'time-out'}") from error


def receive(connection: socket.socket, until: float) -> bytes:
    """Return what comes next, b"" at the end. Raises TableError when nothing comes in time."""
    connection.settimeout(_left("the socket", until))
    try:
        return connection.recv(CHUNK)
    except TimeoutError as error:
        raise TableError("no answer in time") from error
    except OSError as error:
        raise TableError(f"cannot receive: {error}") from error


def finish(connection: socket.socket, until: float) -> None:
    """Wait for the other end to close, which it does when it has read what was sent. Raises TableError."""
    connection.settimeout(_left("the socket", until))
    try:
        with suppress(ConnectionError):  # what was sent is looked at afterwards
            while connection.recv(CHUNK):
                continue
    except TimeoutError as error:
        raise TableError("the other end does not read, or does not close") from error


def _left(what: str, until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TableError(f"{what}: no answer in time")
    return left
