"""The gate: whether a push that asks to come in is the master's of the present epoch. rsync's daemon asks it first."""

import json
import os
import time
from typing import Any, NamedTuple

from hotpair import locks, log
from hotpair.exits import Fail
from hotpair.failover import notes, role
from hotpair.failover.role import MASTER, PEER, STANDBY, Role

MOST = 8192  # bytes of what the other end says; rsync lets 5 KB through
NAME = 255  # characters of a node's name
LOCK = "role"  # held by whoever changes the role, or decides by it
FENCED = "the peer was promoted"  # the reason of a role that was a master's until it heard so


class Closed(Fail):
    """The push may not come in. The sender's rsync shows the message."""

    code = os.EX_NOPERM


class Verdict(NamedTuple):
    """What becomes of a push."""

    accepted: bool
    why: str  # it is refused, or ""
    note_epoch: int  # a higher epoch that this node is standby of from now on, or 0


def hello(node_name: str, me: Role) -> dict[str, Any]:
    """Return what a node says of itself where it wants to push."""
    return {"node": node_name, "role": me.role, "epoch": me.epoch, "boot": role.boot_id()}


def parse(text: bytes) -> dict[str, Any]:
    """Return what the other end says of itself. Raises ValueError when it cannot be that."""
    if len(text) > MOST:
        raise ValueError("too long")
    try:
        said = json.loads(text)
    except RecursionError as error:
        raise ValueError("too deep") from error
    if not isinstance(said, dict):
        raise ValueError("not an object")
    return checked(said)


def checked(said: dict[str, Any]) -> dict[str, Any]:
    """Return what the other end says of itself, as it is. Raises ValueError when it cannot be that."""
    epoch, name = said.get("epoch"), said.get("node")
    if type(epoch) is not int or not 0 <= epoch < 1 << 53:
        raise ValueError("no epoch")
    if not isinstance(name, str) or not 0 < len(name) <= NAME or not name.isprintable():
        raise ValueError("no node")
    if said.get("role") not in (PEER, MASTER, STANDBY):
        raise ValueError("no role")
    return said


def decide(mine: Role, theirs: dict[str, Any]) -> Verdict:
    """Say what becomes of a push of a node that says this of itself (as `parse` returns it)."""
    node, their_role, epoch = theirs["node"], theirs["role"], theirs["epoch"]
    if their_role != MASTER:
        return _refused(f"{node} is {their_role}, no master")
    if mine.role == MASTER and epoch > mine.epoch:  # what is here alone is kept aside first, by a demotion
        why = f"this node was master of epoch {mine.epoch} until now: `hotsync-slave demote` there, then push again"
        return Verdict(False, why, epoch)
    if mine.role == MASTER:
        which = f"of epoch {epoch} too" if epoch == mine.epoch else f"of the older epoch {epoch}"
        return _refused(f"this node is master of epoch {mine.epoch}, and {node} calls itself master {which}")
    if mine.role != STANDBY:
        return _refused("this node is no standby: see [hotsync] role there")
    if epoch < mine.epoch:
        return _refused(f"epoch {epoch} of {node} is over: this node knows of epoch {mine.epoch}")
    if mine.reason == FENCED:
        return _refused("this node was a master and has not kept its unseen writes: `hotsync-slave demote` there")
    return Verdict(True, "", epoch if epoch > mine.epoch else 0)


def _refused(why: str) -> Verdict:
    return Verdict(False, why, 0)


def hear(mine: Role, theirs: dict[str, Any]) -> Verdict:
    """Decide, remember what the other node said of itself, and be standby of its epoch where the verdict says so.

    The caller holds the lock of the role.
    """
    verdict = decide(mine, theirs)
    said = {key: theirs[key] for key in ("node", "role", "epoch")}
    notes.write(notes.PEER, {**said, "at": time.time(), "accepted": verdict.accepted, "why": verdict.why})
    if verdict.note_epoch:
        reason = FENCED if mine.role == MASTER else mine.reason
        role.become(STANDBY, verdict.note_epoch, by=theirs["node"], reason=reason)
        if mine.role == MASTER:
            log.notice(f"no longer master: {theirs['node']} was promoted to epoch {verdict.note_epoch}")
    return verdict


def serve(configured: str, fd: int = 0) -> None:
    """Read one line of JSON and return when that push may come in. Raises Closed when it may not.

    configured: the role of [hotsync]. With "dry" in the line nothing is written.
    """
    try:
        theirs = parse(_line(fd))
    except ValueError as error:
        raise Closed(f"this is no word of a hotsync ({error})", "install the same version on both nodes") from error
    if theirs.get("dry") is True:
        verdict = decide(role.foreseen(configured), theirs)
    else:
        with locks.state(LOCK):
            verdict = hear(role.begin(configured), theirs)
            if verdict.accepted:
                _begun(theirs)
    if not verdict.accepted:
        raise Closed(verdict.why)


def _line(fd: int) -> bytes:
    """Return the first line, or as much of it as there is; never more than is needed to see that it is too long."""
    text = b""
    while b"\n" not in text and len(text) <= MOST:
        some = os.read(fd, MOST + 1 - len(text))
        if not some:
            break
        text += some
    return text.split(b"\n", 1)[0]


def _begun(theirs: dict[str, Any]) -> None:
    """Note that a push has begun; which, so that `landed` knows it."""
    push = {"begun": time.time(), "pid": os.environ.get("RSYNC_PID", ""), "epoch": theirs["epoch"]}
    notes.write(notes.RECEIVED, {**notes.read(notes.RECEIVED), **push})


def landed() -> None:
    """Note that the push which began last has ended well. rsync's daemon calls it after each transfer, dry or not."""
    known = notes.read(notes.RECEIVED)
    ours = known.get("pid") and known["pid"] == os.environ.get("RSYNC_PID")
    if ours and os.environ.get("RSYNC_EXIT_STATUS") == "0":
        complete = {"begun": known["begun"], "ended": time.time(), "epoch": known["epoch"]}
        notes.write(notes.RECEIVED, {**known, "pid": "", "complete": complete})
