"""Whether the standby's tables are like the master's: there at all, of the same type and size."""

from typing import Any

from hotpair.sessions.backend import Missing, TableError
from hotpair.sessions.backends import Backends
from hotpair.sessions.record import Table


def differences(backends: Backends, theirs: Table) -> list[str]:
    """Return what differs between a table of the other node and the one here, one line each."""
    if not theirs.complete:
        return [f"not dumped on {theirs.origin.node}: {theirs.error}"]
    try:
        here = backends.of(theirs.backend).dump(theirs.name)
    except Missing as error:
        return [f"missing on the standby: {error}"]
    except TableError as error:
        return [f"cannot be read on the standby: {error}"]
    return compared(here.facts, theirs.facts, theirs.origin.node)


def compared(here: dict[str, Any], there: dict[str, Any], node: str) -> list[str]:
    """Return the facts that both know and that differ. Pure."""
    return [
        f"{fact} is {here[fact]} on the standby and {there[fact]} on {node}"
        for fact in sorted(here)
        if fact in there and here[fact] != there[fact]
    ]
