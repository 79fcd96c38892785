"""The standby's end of a mirror: take the master's tables, store them, and put them into the kernel and the proxies."""

from collections.abc import Iterator
from typing import Any

from hotpair import locks
from hotpair.config import Config
from hotpair.exits import Refused
from hotpair.failover import gate, role
from hotpair.failover.role import STANDBY
from hotpair.sessions import check, reaper, record, store
from hotpair.sessions.backend import TableError
from hotpair.sessions.backends import Backends
from hotpair.sessions.record import Origin, Table, Unreadable
from hotpair.sessions.settings import Sessions
from hotpair.wire import Wire

LOCK = "ssync.tables"  # held by whoever loads tables, and while it is decided that this node does
MOST = 1_000_000  # entries of one table
# kinds that must go on from what the last conversation loaded: else every hit of `recent` would be a new one, and flows
# of `conntrack` that have ended since would stay, for a load from nothing spares what is the node's own
RESUMED = ("recent", "conntrack")


def serve(configuration: Config, wire: Wire) -> None:
    """Serve one conversation. Raises Refused when the other end is not the master of this epoch, Later at its end."""
    hello = wire.receive()
    dry = hello.get("check") is True
    try:
        origin = _admitted(configuration, hello, dry)
    except Refused as refusal:
        wire.send(refused=str(refusal))
        raise
    wire.send(accepted=True)
    backends = Backends(configuration.sessions or Sessions())
    receiver = Receiver(backends, origin)
    while True:
        steps, word = _cycle(wire)
        if "bye" in word:
            return
        if dry:
            found = {step.label: check.differences(backends, step) for step in steps}
            wire.send(cycle=word.get("cycle"), problems={label: said for label, said in found.items() if said})
            continue
        try:
            receiver.take(steps)
        except Refused as refusal:
            wire.send(refused=str(refusal))
            raise
        wire.send(cycle=word.get("cycle"), problems=receiver.problems, again=receiver.again)


def _admitted(configuration: Config, hello: dict[str, Any], dry: bool) -> Origin:
    if configuration.hotsync is None or configuration.sessions is None:
        raise Refused("this node has no [sessions]: write the section on both nodes")
    if hello.get("ssync") != record.VERSION:
        raise Refused("the other node speaks another ssync: install the same version on both")
    try:
        theirs = gate.checked(hello)
    except ValueError as error:
        raise Refused(f"this is no word of an ssync ({error})") from error
    if dry:
        verdict = gate.decide(role.foreseen(configuration.hotsync.role), theirs)
    else:
        with locks.state(gate.LOCK):
            verdict = gate.hear(role.begin(configuration.hotsync.role), theirs)
    if not verdict.accepted:
        raise Refused(verdict.why)
    return Origin(theirs["node"], str(theirs.get("boot", "")), theirs["epoch"])


def _cycle(wire: Wire) -> tuple[list[Table], dict[str, Any]]:
    """Return the tables that come, and the word that ends them."""
    steps: list[Table] = []
    while True:
        message = wire.receive()
        if "ssync" not in message:
            return steps, message
        if isinstance(message.get("entries"), int) and message["entries"] > MOST:
            raise Refused(f"more than {MOST} entries in one table")
        try:
            steps.append(record.body(message, _entries(wire)))
        except Unreadable as error:
            raise Refused(f"not a table: {error}") from error


def _entries(wire: Wire) -> Iterator[dict[str, Any]]:
    while True:
        yield wire.receive()


class Receiver:
    """What a conversation has brought so far, and what became of the last cycle."""

    def __init__(self, backends: Backends, origin: Origin) -> None:
        self.backends, self.origin = backends, origin
        self.reaper = reaper.Reaper()
        self.whole: dict[str, Table] = {}  # by label: as the master last told it
        self.loaded: dict[str, Table] = {}  # what the table here was last given
        self.problems: dict[str, list[str]] = {}
        self.again: list[str] = []  # labels that are wanted whole

    def take(self, steps: list[Table]) -> None:
        """Store and load what came. Raises Refused when this node is a standby no more."""
        self.problems, self.again = {}, []
        with locks.state(LOCK):
            mine = role.current()
            if mine.role != STANDBY or mine.epoch != self.origin.epoch:
                raise Refused(f"this node is {mine.role} of epoch {mine.epoch} now")
            for step in steps:
                if why := self._take(step):
                    self.problems[step.label] = why
            self.reaper.reap(self.backends)

    def _take(self, step: Table) -> list[str]:
        """Take one table, and return what was wrong with that."""
        if not step.complete:
            return [f"not dumped: {step.error}"]
        label = step.label
        try:
            whole = record.changed(self.whole.get(label), step._replace(origin=self.origin))
        except Unreadable:
            self.again.append(label)
            return []
        if label not in self.whole and (why := self._resume(whole)):
            return [why]
        self.whole[label] = whole
        return self._load(whole, step.since_ms is not None and not step.entries and not step.gone)

    def _resume(self, whole: Table) -> str:
        """Take up where the last conversation ended; return why this first dump of a table must not be loaded."""
        stored = store.get(whole.label)
        if stored is None:
            return ""
        same = stored.table.origin == whole.origin
        if not whole.entries and stored.table.entries and not same:
            return "it is empty since the master booted or changed: what is stored here is kept, and not loaded"
        if same and stored.loaded and whole.backend in RESUMED:
            self.loaded[whole.label] = stored.table
        return ""

    def _load(self, whole: Table, unchanged: bool) -> list[str]:
        """Load a table and store it, neither of which needs the other: a disk may be full, a proxy may not run here."""
        label, problems = whole.label, list[str]()
        last = self.loaded.pop(label, None)
        try:
            loaded = self.backends.of(whole.backend).load(whole, last)
        except TableError as error:
            problems.append(f"not loaded: {error}")
        else:
            self.loaded[label] = whole
            problems += loaded.problems
        try:
            if unchanged and last and label in self.loaded:
                store.touch(label)
            else:
                store.put(whole, loaded=label in self.loaded)
            if label in self.loaded:
                self.reaper.add(label, loaded.deadlines)
        except OSError as error:
            problems.append(f"not stored: {error.strerror}")
        return problems
