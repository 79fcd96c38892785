"""Lists of any length over the wire, in messages of bounded size."""

import json
from collections.abc import Iterator
from typing import Any

from hotpair.exits import Refused
from hotpair.wire import Wire

CHUNK = 300_000  # bytes of entries in one message


def send(wire: Wire, key: str, entries: list[Any]) -> None:
    """Send a list under a key."""
    chunk: list[Any] = []
    size = 0
    for entry in entries:
        size += len(json.dumps(entry))
        chunk.append(entry)
        if size > CHUNK:
            wire.send(**{key: chunk}, more=True)
            chunk, size = [], 0
    wire.send(**{key: chunk}, more=False)


def receive(wire: Wire, key: str, first: dict[str, Any] | None = None) -> Iterator[Any]:
    """Yield the entries of a list. first: its first message, when that was received already. Raises Refused."""
    message = wire.receive() if first is None else first
    while True:
        if "refused" in message:
            raise Refused(f"the peer refuses: {message['refused']}")
        entries = message.get(key)
        if not isinstance(entries, list):
            raise Refused(f"expected a list of {key}")
        yield from entries
        if not message.get("more"):
            return
        message = wire.receive()
