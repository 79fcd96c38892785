"""Ends, in time, the entries that a table would keep too long because it cannot be told how old they are."""

import json
import math

from hotpair import log, paths
from hotpair.failover import role
from hotpair.sessions import store
from hotpair.sessions.backend import Deadline, TableError
from hotpair.sessions.backends import Backends

Due = dict[str, dict[str, tuple[float, str]]]  # by label and key: when, in milliseconds since boot, and the mark


class Reaper:
    """What is to be ended, in a file for whoever runs at that time. The caller holds the lock of sessions."""

    def __init__(self) -> None:
        self.due = _read()

    def add(self, label: str, deadlines: dict[str, Deadline]) -> None:
        """Have entries of a table ended in time. A new deadline of a key takes the place of its last one."""
        if deadlines:
            now, table = store.boottime_ms(), self.due.setdefault(label, {})
            table |= {key: (now + one.remaining_ms, one.mark) for key, one in deadlines.items()}
            self._write()

    def next(self) -> float:
        """Return the seconds until the next entry is due, infinity when there is none."""
        due = (at for table in self.due.values() for at, _ in table.values())
        return (min(due, default=math.inf) - store.boottime_ms()) / 1000

    def reap(self, backends: Backends) -> None:
        """End every entry whose time is over, unless it was seen since. A table that fails is logged and let go."""
        now, any_over = store.boottime_ms(), False
        for label, table in list(self.due.items()):
            over = {key: mark for key, (at, mark) in table.items() if at <= now}
            if not over:
                continue
            any_over = True
            kind, _, name = label.partition(" ")
            try:
                backends.of(kind).reap(name, over)
            except TableError as error:
                log.error(f"{label}: entries could not be ended: {error}")
            left = {key: one for key, one in table.items() if key not in over}
            self.due |= {label: left}
            if not left:
                del self.due[label]
        if any_over:
            self._write()

    def _write(self) -> None:
        store.replace(_file(), [json.dumps({"boot": role.boot_id(), "due": self.due}).encode()])


def _read() -> Due:
    """Return what is to be ended; nothing after a reboot, which ended it all."""
    try:
        with open(_file(), encoding="utf-8") as file:
            found = json.load(file)
        if found["boot"] != role.boot_id():
            return {}
        return {
            str(label): {str(key): (float(at), str(mark)) for key, (at, mark) in table.items()}
            for label, table in found["due"].items()
        }
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _file() -> str:
    return paths.state("sessions", "reap.json")
