"""What the failover remembers: small JSON files in var/lib/hotpair/hotsync, each replaced whole and on the disk."""

import json
import os
from contextlib import suppress
from typing import Any

from hotpair import paths, watch

PEER = "peer.json"  # what the other node last said of itself
RECEIVED = "received.json"  # the pushes that came in: when the last one began, and the last complete one
SENT = "state.json"  # of a master: its last complete push, and what fails since when
PROMOTION = "promotion.json"  # a promotion under way, or how the last one went
DEMOTION = "demotion.json"  # a demotion or a hand-over under way: a master that serves nothing, or not all
SERVED = "served.json"  # the boot in which the services were started
UNSEEN = "unseen.json"  # what a demotion kept aside


def read(name: str) -> dict[str, Any]:
    """Return what a file says, {} when it is not there or cannot be read as one."""
    text = watch.read(_file(name))
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def write(name: str, what: dict[str, Any]) -> None:
    """Replace a file; it is on the disk when this returns."""
    paths.make_private(paths.state("hotsync"))
    watch.replace(_file(name), json.dumps(what, indent=1) + "\n")


def forget(name: str) -> None:
    """Remove a file, if it is there."""
    with suppress(FileNotFoundError):
        os.unlink(_file(name))


def _file(name: str) -> str:
    return paths.state("hotsync", name)
