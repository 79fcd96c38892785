"""The master's end of a mirror: dump the tables that are switched on again and again, and tell the standby."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hotpair import locks, peer
from hotpair.config import Config
from hotpair.exits import Refused
from hotpair.failover import gate, role
from hotpair.sessions import reaper, record
from hotpair.sessions.apply import LOCK
from hotpair.sessions.backends import Backends
from hotpair.sessions.record import Origin, Table
from hotpair.sessions.settings import Sessions
from hotpair.wire import Wire


class Mirror:
    """One conversation with the standby."""

    def __init__(self, backends: Backends, origin: Origin, wire: Wire) -> None:
        self.backends, self.origin, self.wire = backends, origin, wire
        self.told: dict[str, Table] = {}  # by label: what the standby knows
        self.problems: dict[str, None] = {}  # lines, each once, in the order they came up
        self.entries: dict[str, int] = {}  # by label, in the last cycle
        self.cycles = 0
        self.behind = 0.0  # seconds, at most, from what a client did until the standby had it
        self._begun = time.monotonic()  # of the last cycle

    def cycle(self) -> None:
        """Dump every table, tell the standby what has changed, and hear what became of it."""
        self.cycles += 1
        since, self._begun = self._begun, time.monotonic()
        with self.wire.gathered():
            for table in self.backends.dump(self.backends.followed(), self.origin):
                self._tell(table)
            self.wire.send(cycle=self.cycles)
        answer = self.wire.receive()
        if "refused" in answer:
            raise Refused(f"the standby refuses: {answer['refused']}")
        self._hear(answer)
        self.behind = max(self.behind, time.monotonic() - since)

    def _tell(self, table: Table) -> None:
        last, label = self.told.get(table.label), table.label
        step = record.delta(last, table) if last and table.complete else table
        if table.complete:  # not the dump itself: what differs too little to be told now adds up
            self.told[label] = record.changed(last, step)
            self.entries[label] = len(table.entries)
        for message in record.messages(step):
            self.wire.send(**message)

    def _hear(self, answer: dict[str, Any]) -> None:
        problems, again = answer.get("problems"), answer.get("again")
        if answer.get("cycle") != self.cycles or not isinstance(problems, dict) or not isinstance(again, list):
            raise Refused("the standby's answer is none")
        for label in again:
            self.told.pop(label, None)
        self.problems |= {f"{label}: {line}": None for label, lines in problems.items() for line in lines}


@contextmanager
def conversation(configuration: Config, dry: bool = False) -> Iterator[tuple[Wire, Origin]]:
    """Talk with the standby's `ssync apply`. Raises Later when it is away, Refused when it says no.

    dry: it is only to compare.
    """
    node, me = configuration.node, role.current()
    with peer.wired(node, peer.start(node, "ssync", "apply")) as wire:
        hello = gate.hello(node.name, me)
        wire.send(ssync=record.VERSION, check=dry, **hello)
        answer = wire.receive(node.connect_timeout + peer.START)
        if "refused" in answer:
            raise Refused(f"the standby refuses: {answer['refused']}")
        yield wire, Origin(node.name, hello["boot"], me.epoch)


def run(configuration: Config, every: float, seconds: float) -> Mirror:
    """Mirror for some seconds, a cycle each `every` seconds. Raises as `conversation` does."""
    backends = Backends(configuration.sessions or Sessions())
    until = time.monotonic() + seconds
    with conversation(configuration) as (wire, origin):
        mirror = Mirror(backends, origin, wire)
        while True:
            begun = time.monotonic()
            mirror.cycle()
            reap(backends)
            if begun + every > until:
                return mirror
            time.sleep(max(begun + every - time.monotonic(), 0))


def reap(backends: Backends, seconds: float = 0.0) -> None:
    """End what is due on this node now, and what will be within some seconds when its time has come."""
    until = time.monotonic() + seconds
    while True:
        with locks.state(LOCK):
            due = reaper.Reaper()
            due.reap(backends)
        wait = max(due.next(), 0.0)
        if time.monotonic() + wait > until:
            return
        time.sleep(wait)


def compare(configuration: Config) -> dict[str, list[str]]:
    """Return what differs between the tables here and the standby's, by label. Raises as `conversation` does."""
    backends = Backends(configuration.sessions or Sessions())
    with conversation(configuration, dry=True) as (wire, origin):
        for table in backends.dump(backends.followed(), origin):
            for message in record.messages(table._replace(entries={})):
                wire.send(**message)
        wire.send(cycle=1)
        found = wire.expect("problems")
        return {str(label): [str(line) for line in lines] for label, lines in found.items()}
