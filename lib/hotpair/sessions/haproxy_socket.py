"""HAProxy's runtime socket: one line of commands for each connection, bounded in time and in what comes back.

HAProxy's management guide, section 9.3: the commands of a line are divided by `;`, each answer ends with an empty line,
and HAProxy closes the connection after the last one.
"""

import socket
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from hotpair.sessions.backend import TableError

TIMEOUT = 10.0  # seconds that HAProxy may be silent
MOST = 256 << 20  # bytes of one answer
BLOCK = 1 << 18
LINE = 8 << 10  # bytes of commands: half of tune.bufsize's default, which is what a line must fit into
DENIED = "permission denied: [sessions] haproxy-socket needs root, and `level operator` or `admin` in haproxy.cfg"


def stream(path: str, command: bytes) -> Iterator[bytes]:
    """Yield what HAProxy answers, in blocks as they come. Raises TableError."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(TIMEOUT)
            connection.connect(path)
            connection.sendall(command + b"\n")
            size = 0
            while block := connection.recv(BLOCK):
                size += len(block)
                if size > MOST:
                    raise TableError(f"HAProxy answers with more than {MOST >> 20} MB")
                yield block
    except TimeoutError:
        raise TableError(f"HAProxy is silent for {TIMEOUT:g} s at {path}") from None
    except PermissionError:
        raise TableError(f"{path}: {DENIED}") from None
    except (FileNotFoundError, ConnectionRefusedError):
        raise TableError(f"HAProxy does not run here, or not with `stats socket {path} level admin`") from None
    except (OSError, ValueError) as error:  # a path too long for a socket, or with a NUL
        raise TableError(f"{path}: {error}") from None


def answers(reply: bytes, count: int) -> list[str]:
    """Return what each of some commands was answered, "" for nothing. Raises TableError when one was not."""
    if reply == b"\n" * count:
        return [""] * count
    found: list[str] = []
    said: list[str] = []
    for line in reply.decode("latin-1").split("\n")[:-1]:
        if line:
            said.append(line)
        else:
            found.append("\n".join(said))
            said = []
    if len(found) != count or said or not reply.endswith(b"\n"):
        raise TableError(f"HAProxy answered {len(found)} of {count} commands")
    return found


def ask(path: str, commands: bytes, count: int) -> list[str]:
    """Return what HAProxy answers to each of some commands, divided by semicolons. Raises TableError."""
    return answers(b"".join(stream(path, commands)), count)


class Order(NamedTuple):
    """The commands that one entry needs."""

    key: str
    line: bytes  # divided by semicolons
    answers: int  # as many as there are commands


def carry_out(path: str, orders: Iterable[Order]) -> Iterator[tuple[list[Order], list[str]]]:
    """Give orders, as many at a time as make a line; yield those of each line and their answers. Raises TableError."""
    batch: list[Order] = []
    size = 0
    for order in orders:
        if batch and size + len(order.line) >= LINE:
            yield batch, _given(path, batch)
            batch, size = [], 0
        batch.append(order)
        size += len(order.line) + 1
    if batch:
        yield batch, _given(path, batch)


def _given(path: str, batch: list[Order]) -> list[str]:
    return ask(path, b";".join([order.line for order in batch]), sum([order.answers for order in batch]))


def parts(blocks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Divide the blocks of two answers into the first answer, whole, and the blocks of the second."""
    head = b""
    for block in blocks:
        head += block
        first, end, rest = head.partition(b"\n\n")
        if end:
            return first, _followed(rest, blocks)
    raise TableError("HAProxy ended its answer too early")


def _followed(first: bytes, blocks: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from blocks
