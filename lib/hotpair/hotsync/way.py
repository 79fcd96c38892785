"""The way to the standby's rsync daemon: through a stunnel of one connection, or the peer's ssh key."""

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from hotpair import child, peer
from hotpair.config import Config, Node
from hotpair.hotsync import doors, templates
from hotpair.hotsync.settings import Hotsync

HOST = "standby"  # only a word: rsync reaches nobody by it


class Way(NamedTuple):
    """What rsync is given so that its connection is made by another program."""

    command: str  # a value of RSYNC_CONNECT_PROG
    descriptors: tuple[int, ...]  # which that program reads


@contextmanager
def there(config: Config) -> Iterator[Way]:
    """Yield the way to the standby. rsync gives the command to a shell: it is made of words that are quoted for it."""
    settings = doors.settings_of(config)
    if settings.transport == "ssh":
        yield Way(_quoted(_ssh(config.node)), ())
        return
    text = templates.fill(
        "stunnel-client.conf",
        host=_host(config.node),
        port=settings.port,
        connect_timeout=f"{config.node.connect_timeout:.0f}",
        **doors.tls(settings),
    )
    fd = child.readable(text.encode(errors="surrogateescape"))
    try:
        yield Way(_quoted([doors.STUNNEL, "-fd", str(fd)]), (fd,))
    finally:
        os.close(fd)


def _host(node: Node) -> str:
    kind, _, where = node.peer.partition(":")
    return "127.0.0.1" if kind == "local" else where


def _ssh(node: Node) -> list[str]:
    kind, _, where = node.peer.partition(":")
    if kind == "local":
        return ["env", f"HOTPAIR_ROOT={where}", peer.program("hotsync-slave"), "door"]
    return peer.ssh_command(node, "hotsync-slave", "door")


def _quoted(argv: list[str]) -> str:
    return "exec " + shlex.join(argv).replace("%", "%%")  # rsync has a word of its own for %H


def password_file(settings: Hotsync) -> str:
    """Return the file that rsync reads the password from, which is in no argument and no environment."""
    return doors.private(settings.password)
