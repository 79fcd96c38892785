"""The node's role and epoch, in var/lib/hotpair/role.json with their history; "peer", epoch 0, without that file."""

import json
import time
from typing import Any, NamedTuple

from hotpair import paths, watch
from hotpair.exits import ConfigFail

PEER, MASTER, STANDBY = "peer", "master", "standby"
KEPT = 100  # entries of the history


class Role(NamedTuple):
    """One entry of the file: what the node is, and how that came."""

    role: str = PEER  # "peer" (both ways and nothing else), "master" or "standby"
    epoch: int = 0  # rises at each promotion
    since: float = 0.0  # seconds since 1970
    by: str = ""  # who or what said so
    reason: str = ""
    boot: str = ""  # the boot in which a master heard that the peer is none, or was promoted

    @property
    def serving(self) -> bool:
        """Say whether this is the master and knows so since it booted: the peer may have taken over meanwhile."""
        return self.role == MASTER and self.boot == boot_id()


def current() -> Role:
    """Return the role. Raises ConfigFail when the file is there but is not one."""
    entries = history()
    return entries[-1] if entries else Role()


def history() -> list[Role]:
    """Return every role there was, the present one last. Raises ConfigFail when the file is not one."""
    text = watch.read(_file())
    if text is None:
        return []
    try:
        return [_entry(found) for found in json.loads(text)["history"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigFail(f"{_file()}: not a role file", "restore it from the other node's word") from error


def _entry(found: dict[str, Any]) -> Role:
    return Role(
        str(found["role"]),
        int(found["epoch"]),
        float(found["since"]),
        str(found["by"]),
        str(found["reason"]),
        str(found["boot"]),
    )


def become(role: str, epoch: int, by: str, reason: str = "") -> Role:
    """Write a new role, on the disk when this returns. by: the program or person; reason: a person's words."""
    new = Role(role, epoch, time.time(), by, reason, boot_id())
    _write([*history(), new])
    return new


def confirm() -> None:
    """Note that a master has heard since it booted that the peer is none."""
    entries = history()
    _write([*entries[:-1], entries[-1]._replace(boot=boot_id())])


def foreseen(configured: str | None) -> Role:
    """Return the role, which is the configured one, of epoch 1, when there was none yet. Writes nothing.

    configured: None without [hotsync]: such a node is a peer. A master that begins so has still to hear the peer.
    """
    if configured is None:
        return current()
    entries = history()
    return entries[-1] if entries else Role(configured, 1, time.time(), "hotpair.ini")


def begin(configured: str) -> Role:
    """Return what `foreseen` does; from now on it is written down."""
    mine = foreseen(configured)
    if not history():
        _write([mine])
    return mine


def _write(entries: list[Role]) -> None:
    paths.make_private(paths.state())
    kept = [entry._asdict() for entry in entries[-KEPT:]]
    watch.replace(_file(), json.dumps({"history": kept}, indent=1) + "\n")


def _file() -> str:
    return paths.state("role.json")


def boot_id() -> str:
    """Return the kernel's id of this boot (random(4), /proc/sys/kernel/random/boot_id)."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
