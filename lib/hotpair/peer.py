"""Reach the peer: start a program of ours there, over ssh or under another root prefix, and greet it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from hotpair import paths
from hotpair.config import Node
from hotpair.exits import Later, Refused
from hotpair.failover import role
from hotpair.wire import PROTOCOL, Wire

if TYPE_CHECKING:
    from hotpair.detect import Scope

START = 10.0  # seconds that the peer's Python may take, besides the time to connect
BYE = 5.0  # seconds the other end has to finish after the last word


def hello(scope: Scope) -> dict[str, Any]:
    """Return the first message of either end."""
    from hotpair import lineage  # the peer's end comes up while we import what needs SQLite

    me, node, files = role.current(), scope.node, scope.files
    return {
        "hotpair": PROTOCOL,
        "node": node.name,
        "boot": role.boot_id(),
        "role": me.role,
        "epoch": me.epoch,
        "set": files.name,
        "settings": files.settings(),
        "owner-map": any(files.carried.owners),
        "proposals": lineage.told(scope.archive),
    }


def ssh_command(node: Node, *asked: str) -> list[str]:
    """Return the argv that starts what is asked on the peer, as its forced command allows: `syncr-receive SET` or
    `hotsync-slave WORD`. Pinned host key, our key alone, one connection kept for a minute.
    """
    options = {
        "BatchMode": "yes",
        "IdentitiesOnly": "yes",
        "IdentityFile": paths.under(node.ssh_key),
        "UserKnownHostsFile": paths.under(node.ssh_known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "ForwardAgent": "no",
        "ControlMaster": "auto",
        "ControlPath": paths.runtime("ssh-%C"),
        "ControlPersist": "90",  # longer than cron's minute, so that the next change finds it open
        "ConnectTimeout": f"{node.connect_timeout:.0f}",
        "ServerAliveInterval": "5",
        "ServerAliveCountMax": "2",
        "LogLevel": "ERROR",
    }
    words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    host = node.peer.partition(":")[2]
    return ["ssh", "-F", "none", *words, "-p", str(node.ssh_port), "-l", node.ssh_user, host, *asked]


def program(name: str) -> str:
    """Return where a program of ours is on this disk."""
    return os.path.realpath(os.path.join(os.path.dirname(__file__), "../../bin", name))


def spawn(node: Node, set_name: str) -> subprocess.Popen[bytes]:
    """Start the peer's end of a conversation with its standard streams in our hands."""
    return start(node, "syncr-receive", set_name)


def start(node: Node, *asked: str) -> subprocess.Popen[bytes]:
    """Start what is asked on the peer, with its standard streams in our hands. Raises Later when that cannot be."""
    kind, _, where = node.peer.partition(":")
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
    if kind == "local":
        command = [program(asked[0]), *asked[1:]]
        environment["HOTPAIR_ROOT"] = where
    else:
        paths.make_private(paths.runtime())
        command = ssh_command(node, *asked)
    try:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, env=environment
        )
    except OSError as error:
        raise Later(f"cannot start {command[0]}: {error.strerror}") from error


class Peer:
    """An open conversation, greeted: `wire`, the peer's name and the nonce that proves our lines are of today."""

    def __init__(self, process: subprocess.Popen[bytes], wire: Wire, answer: dict[str, Any]) -> None:
        self.process, self.wire, self.answer = process, wire, answer
        self.name = str(answer["node"])
        self.nonce = str(answer["nonce"])
        self.number = 0.0  # under which we propose, once we do


@contextmanager
def wired(node: Node, process: subprocess.Popen[bytes]) -> Iterator[Wire]:
    """Yield the wire to the peer's end, say goodbye on it, and end that. Raises Later, with what ssh said, when it is
    away.
    """
    assert process.stdin and process.stdout and process.stderr
    wire = Wire(process.stdout.fileno(), process.stdin.fileno(), node.io_timeout)
    try:
        yield wire
        wire.send(bye=True)
        process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(BYE)
    except Later as away:
        if away.kind != Later.kind:  # not the peer's doing
            raise
        raise Later(_why(process, away), f"is {node.peer} up, and does its key still hold?") from away
    finally:
        close(process)


@contextmanager
def conversation(scope: Scope, process: subprocess.Popen[bytes] | None = None) -> Iterator[Peer]:
    """Talk with the peer about one set. Raises Later when it is away, Refused when it says no.

    process: the peer's end when it was started ahead, so that it comes up while we look at our files.
    """
    process = process or spawn(scope.node, scope.files.name)
    with wired(scope.node, process) as wire:
        wire.send(**hello(scope))
        # A slow peer must have time to start Python; ssh itself gives up after its own time-out.
        answer = wire.receive(scope.node.connect_timeout + START)
        if "refused" in answer:
            raise Refused(f"the peer refuses: {answer['refused']}")
        if answer.get("hotpair") != PROTOCOL or "nonce" not in answer or "node" not in answer:
            raise Refused("the peer speaks another protocol: install the same version on both nodes")
        yield Peer(process, wire, answer)


def close(process: subprocess.Popen[bytes]) -> None:
    """End the peer's end for certain."""
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            stream.close()


def _why(process: subprocess.Popen[bytes], away: Later) -> str:
    """Return what ssh said last, which tells more than a closed pipe."""
    process.kill()
    assert process.stderr
    os.set_blocking(process.stderr.fileno(), False)  # ssh's kept connection may hold it open
    said = (process.stderr.read() or b"").decode(errors="replace").strip().splitlines()
    return f"{away.message} ({said[-1]})" if said else away.message
