"""Ask the peer what it is, and draw from that what this node still is: no master that the peer has replaced."""

import json
import select
import time
from typing import NamedTuple

from hotpair import locks, log, peer
from hotpair.config import Config, Node
from hotpair.exits import Later
from hotpair.failover import gate, role
from hotpair.failover.role import MASTER, Role

MOST = 4096  # bytes of an answer


class PeerRole(NamedTuple):
    """What the peer says it is."""

    node: str
    role: str
    epoch: int
    serving: bool  # as master, and sure of it since it booted


def words(configuration: Config) -> str:
    """Return what this node answers to that question: one line. Writes nothing: a dry run may have asked."""
    me = role.foreseen(configuration.hotsync.role if configuration.hotsync else None)
    return json.dumps({**gate.hello(configuration.node.name, me), "serving": me.serving})


def ask(node: Node) -> PeerRole | None:
    """Return what the peer says it is; None when it does not answer, or not in these words."""
    try:
        process = peer.start(node, "hotsync-slave", "role")
    except Later:
        return None
    assert process.stdin and process.stdout
    try:
        process.stdin.close()
        return parse(first_line(process.stdout.fileno(), node.connect_timeout + peer.START, MOST))
    finally:
        peer.close(process)


def first_line(fd: int, seconds: float, most: int) -> bytes:
    """Return the first line of an answer, b"" when none comes in time; more than the most is cut off."""
    text, until = b"", time.monotonic() + seconds
    with open(fd, "rb", buffering=0, closefd=False) as file:
        while b"\n" not in text and len(text) <= most:
            if not select.select([fd], [], [], max(until - time.monotonic(), 0))[0]:
                return b""
            some = file.read(most)
            if not some:
                break
            text += some
    return text.partition(b"\n")[0]


def parse(answer: bytes) -> PeerRole | None:
    """Return what an answer says, None when it is none."""
    try:
        said = gate.parse(answer)
    except ValueError:
        return None
    return PeerRole(said["node"], said["role"], said["epoch"], said.get("serving") is True)


def hear(found: PeerRole) -> Role:
    """Remember what the peer said, draw the conclusion, and return what this node is from now on.

    A master of a higher epoch there makes this node a standby ("fenced"). A master here that has booted since it was
    last sure goes on when the peer is none and knows of no later epoch.
    """
    with locks.state(gate.LOCK):
        mine = role.current()
        gate.hear(mine, found._asdict())
        if mine.role == MASTER and not mine.serving and confirmed(mine, found):
            role.confirm()
            log.notice(f"master of epoch {mine.epoch} again: {found.node} says it is {found.role}")
        return role.current()


def confirmed(mine: Role, found: PeerRole) -> bool:
    """Say whether a master that has rebooted may go on after this answer."""
    return found.role != MASTER and found.epoch <= mine.epoch


def settle(configuration: Config) -> tuple[Role, PeerRole | None]:
    """Ask the peer; return what this node is from now on, and what the peer said: None when it does not answer."""
    if configuration.hotsync:
        role.begin(configuration.hotsync.role)
    found = ask(configuration.node)
    return (hear(found) if found else role.current()), found
