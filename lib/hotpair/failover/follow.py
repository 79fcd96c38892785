"""Follow keepalived: read from its FIFO what this node is to be, in order, and make it that."""

import os
import re
import select
import time

from hotpair import config, log
from hotpair.exits import Fail
from hotpair.failover import demotion, gate, role, takeover
from hotpair.failover.takeover import Order

LINE = re.compile(rb'(?:INSTANCE|GROUP) "([^"]*)" (MASTER|BACKUP|FAULT|STOP)\b.*')
AGAIN = 10.0  # seconds until what failed is tried again
# seconds: keepalived says BACKUP whenever it starts, and MASTER 4 s later when nobody else is. That is no demotion.
SETTLE = 8.0
MOST = 65536
BY = "keepalived"


def newest(text: bytes) -> tuple[str, bytes]:
    """Return the last state that the whole lines of a text tell, "" for none, and what follows the last line."""
    *lines, left = text.split(b"\n")
    found = [match[2].decode() for line in lines if (match := LINE.fullmatch(line))]
    return (found[-1] if found else ""), left[-MOST:]


def follow(fifo: str, settle: float = SETTLE, again: float = AGAIN) -> None:
    """Promote and demote as keepalived says, until it closes the FIFO. What fails is logged and tried again.

    Only the newest state counts when several are waiting.
    """
    wanted, due, told, left = "", None, "", b""
    fd = os.open(fifo, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while True:
            wait = None if due is None else max(due - time.monotonic(), 0)
            if not select.select([fd], [], [], wait)[0]:
                failure = become(wanted)
                if failure and failure != told:  # once for each reason
                    log.error(f"keepalived says {wanted}: {failure}")
                told, due = failure, time.monotonic() + again if failure else None
                continue
            some = os.read(fd, MOST)
            if not some:
                return
            said, left = newest(left + some)
            if said and said != wanted:
                wanted, told = said, ""
                due = time.monotonic() + (0 if said == "MASTER" else settle)
    finally:
        os.close(fd)


def become(wanted: str) -> str:
    """Be what keepalived says, unless this node is that already. Returns "" or why not."""
    try:
        mine = role.current()
        if wanted == "MASTER":
            takeover.promote(config.load(), Order(BY, f"{BY} made this node MASTER"))
        elif mine.serving or mine.reason == gate.FENCED:
            demotion.demote(config.load(), BY, f"{BY} says {wanted}")
    except Fail as fail:
        return str(fail)
    return ""
