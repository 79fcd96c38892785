"""The sessions of a farm of Zevenet's Pound, through its `-s` socket; what is gone goes through its control socket.

Pound tells when a session was seen last, not how long it lives after that. Without `ttl_seconds`, the TTL of the farm's
configuration, entries have no end: what has expired on the way is written, dropped by Pound, and a problem line.
"""

import time

from hotpair.sessions import tool, zevenet_wire
from hotpair.sessions.backend import Loaded, Missing, TableError
from hotpair.sessions.record import Entry, Table
from hotpair.sessions.zevenet_sync import Sync, remove
from hotpair.sessions.zevenet_wire import WRITE, Packet, Place

SOON = 1000.0  # milliseconds: not worth writing what ends sooner
SAME = 1  # second that rounding puts between two times of one access
STEADY = 100.0  # milliseconds that the clock of the world may move without being believed to have been set


class Zevenet:
    """Farms by name. The paths have %s for it."""

    name = "http"

    def __init__(self, sync: str, control: str, poundctl: str = "poundctl", ttl_seconds: int | None = None) -> None:
        self.sync, self.control, self.poundctl, self.ttl_seconds = sync, control, poundctl, ttl_seconds
        self._offset = 0.0  # milliseconds from time.monotonic() to time.time()

    def names(self) -> list[str]:
        """Return none: farms are named in the configuration."""
        return []

    def dump(self, name: str) -> Table:
        """Return the sessions of a farm. Raises TableError."""
        with Sync(self.sync % name, name.encode()) as conversation:
            rows = self._asked(conversation, name)
        clock, offset = time.monotonic() * 1000, self._wall()
        entries = [_entry(row, clock + offset, self.ttl_seconds) for row in rows.values() if row.key]
        return Table(self.name, name, (clock + offset) / 1000, clock, {entry.key: entry for entry in entries})

    def _asked(self, conversation: Sync, farm: str) -> dict[Place, Packet]:
        """Return all sessions. Raises TableError when Pound has more than it told, for no answer is one of none."""
        conversation.ask()
        listed = zevenet_wire.listing(self._listed(farm)).sessions
        rows, lacking = conversation.follow(listed)
        if lacking:
            raise TableError(
                f"Pound's answer lacks {lacking} of {len(listed)} sessions: it is slow, or must be restarted"
            )
        return rows

    def _wall(self) -> float:
        """Return the offset of the world's clock, the same each time unless that was set: ages then move alike."""
        offset = (time.time() - time.monotonic()) * 1000
        if abs(offset - self._offset) > STEADY:
            self._offset = offset
        return self._offset

    def load(self, wanted: Table, last: Table | None) -> Loaded:
        """Write what is missing or other here, remove what is not wanted. Raises TableError."""
        now, farm = time.time(), wanted.name
        places = zevenet_wire.listing(self._listed(farm)).backends
        problems: list[str] = []
        packets: dict[Place, Packet] = {}
        for entry in wanted.entries.values():
            if entry.remaining_ms is not None and entry.remaining_ms < SOON:
                continue
            try:
                packet = _packet(farm.encode(), entry, now, places)
            except ValueError as error:
                problems.append(f"session {entry.key[:60]!a}: not loaded: {error}")
            else:
                packets[packet.listener, packet.service, packet.key] = packet
        with Sync(self.sync % farm, farm.encode()) as conversation:
            here = self._asked(conversation, farm)
            new = [packet for place, packet in packets.items() if _differs(here.get(place), packet)]
            if new:
                conversation.write(new)
            gone = [place for place in here if place not in packets and not zevenet_wire.unfit(place[2])]
            for listener, service, key in gone:
                remove(self.control % farm, zevenet_wire.removal(listener, service, key))
            if new or gone:
                here = self._asked(conversation, farm)
        done = sum(not _differs(here.get(place), packet) for place, packet in packets.items())
        if left := len(packets) - done:
            problems.append(f"{left} sessions are not there after they were written, or have expired")
        if stay := sum(place in here for place in gone):
            problems.append(f"{stay} sessions are still there after they were removed")
        return Loaded(done, tuple(problems))

    def reap(self, name: str, due: dict[str, str]) -> None:
        """Do nothing: each session was written with its own time, and no deadline was ever told."""

    def _listed(self, farm: str) -> bytes:
        argv = [self.poundctl, "-c", self.control % farm, "-X"]
        try:
            said = tool.run(argv, timeout=10)
        except tool.NotInstalled as error:
            raise TableError(f"no {self.poundctl}: without it, no index can be checked") from error
        if said.code:
            raise Missing(f"{self.poundctl}: {said.why}")
        return said.out


def _entry(row: Packet, wall_ms: float, ttl: int | None) -> Entry:
    data = {"listener": row.listener, "service": row.service, "backend": row.backend}
    key = row.key.decode(errors="surrogateescape")
    address = row.content.decode(errors="surrogateescape")
    age = max(wall_ms - row.last * 1000, 0.0)
    left = None if ttl is None else max(ttl * 1000 - age, 0.0)
    return Entry(f"{row.listener}/{row.service} {key}", 0, (age,), left, {**data, "address": address})


def _packet(farm: bytes, entry: Entry, now: float, places: dict[tuple[int, int], list[str]]) -> Packet:
    """Return what writes an entry. Raises ValueError for what Pound here cannot take or would not survive."""
    where, _, key = entry.key.partition(" ")
    listener, service = entry.data.get("listener"), entry.data.get("service")
    if type(listener) is not int or type(service) is not int or where != f"{listener}/{service}" or listener < 0:
        raise ValueError("it has no proper place")
    if (listener, service) not in places:
        raise ValueError(f"there is no service {listener}/{service} here")
    if why := zevenet_wire.unfit(raw := key.encode(errors="surrogateescape")):
        raise ValueError(f"its key: {why}")
    backend = _backend(entry, places[listener, service])
    age = entry.age_ms or 0.0
    return Packet(WRITE, farm, listener, service, backend, raw, b"", max(int(now - age / 1000), 1))


def _backend(entry: Entry, addresses: list[str]) -> int:
    """Return the index here of the backend that an entry names by its address without a port."""
    address, index = str(entry.data.get("address", "")), entry.data.get("backend")
    same = [number for number, one in enumerate(addresses) if one.rpartition(":")[0] == address]
    if type(index) is int and index in same:
        return index
    if len(same) == 1:
        return same[0]
    raise ValueError(f"there are {len(same)} backends {address} here")


def _differs(here: Packet | None, wanted: Packet) -> bool:
    return here is None or here.backend != wanted.backend or abs(here.last - wanted.last) > SAME
