"""Flow entries written into the kernel: many to a system call, and for each what the kernel says to it.

conntrack(8) has the whole table listed for each `-U` and `-D`, and its `-A` leaves a flow alone that is there: 10,000
changes would be 10,000 listings. The kernel finds a flow by its addresses at once.
"""

import errno
import socket
import struct
from collections.abc import Callable, Mapping
from itertools import islice

from hotpair.sessions import conntrack_messages as messages
from hotpair.sessions.backend import TableError
from hotpair.sessions.conntrack_messages import Flow

REQUEST, EXCLUSIVE, CREATE = 0x1, 0x200, 0x400  # NLM_F_*
ERROR = 2  # NLMSG_ERROR
NETFILTER = 12  # NETLINK_NETFILTER
OPTIONS, SHORT_ANSWERS = 270, 10  # SOL_NETLINK, NETLINK_CAP_ACK
HEAD = struct.Struct("=IHHIIBBH")  # nlmsghdr and nfgenmsg
ANSWER = struct.Struct("=IHHIIiIHHII")  # nlmsghdr and nlmsgerr
BATCH = 100  # messages to a call: as many answers have room in the socket's buffer

Failed = dict[str, int]  # by key: an error number


def create(flows: Mapping[str, Flow]) -> Failed:
    """Write flows that are not there; EEXIST is the failure of one that is."""
    flags = CREATE | EXCLUSIVE
    return _send(
        flows, messages.NEW, flags, lambda one: messages.identity(one) + messages.birth(one) + messages.state(one)
    )


def update(flows: Mapping[str, Flow]) -> Failed:
    """Give flows that are there their mark, time and state; ENOENT is the failure of one that is not."""
    return _send(flows, messages.NEW, 0, lambda one: messages.identity(one) + messages.state(one))


def delete(flows: Mapping[str, Flow]) -> Failed:
    """End flows; one that is not there is no failure."""
    failed = _send(flows, messages.DELETE, 0, messages.identity)
    return {key: why for key, why in failed.items() if why != errno.ENOENT}


def _send(flows: Mapping[str, Flow], kind: int, flags: int, body: Callable[[Flow], bytes]) -> Failed:
    failed: Failed = {}
    if not flows:
        return failed
    rest = iter(flows.items())
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER) as kernel:
            kernel.setblocking(False)  # the kernel works, and answers, before a call returns
            kernel.setsockopt(OPTIONS, SHORT_ANSWERS, 1)
            while batch := list(islice(rest, BATCH)):
                keys = [key for key, _ in batch]
                kernel.send(b"".join(_message(kind, flags, at, one, body(one)) for at, (_, one) in enumerate(batch)))
                failed |= {keys[at]: why for at, why in _answers(kernel).items()}
    except OSError as error:
        raise TableError(f"the kernel takes no flows: {error.strerror or error}") from error
    return failed


def _message(kind: int, flags: int, number: int, one: Flow, body: bytes) -> bytes:
    return HEAD.pack(HEAD.size + len(body), kind, REQUEST | flags, number, 0, messages.family(one), 0, 0) + body


def _answers(kernel: socket.socket) -> dict[int, int]:
    """Return the errors that the kernel has answered, by the message's number."""
    found: dict[int, int] = {}
    while True:
        try:
            said = kernel.recv(1 << 16)
        except BlockingIOError:
            return found
        found |= read(said)


def read(said: bytes) -> dict[int, int]:
    """Return what a datagram has of errors. Pure. Raises PermissionError when nothing at all was taken."""
    found: dict[int, int] = {}
    while len(said) >= ANSWER.size:
        length, kind, _, number, _, error, *_ = ANSWER.unpack_from(said)
        if kind == ERROR and error:
            if -error == errno.EPERM:
                raise PermissionError(errno.EPERM, "it needs root")
            found[number] = -error
        said = said[max(length + 3 & ~3, ANSWER.size) :]
    return found
