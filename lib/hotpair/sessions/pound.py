"""The sessions of Pound 4, through the HTTP of its control socket.

It takes a session without a time: what is added has its whole time to live, and is ended by `reap`.

Pound answers each change with all sessions, so that many take long: 1000 in 3.4 s, 1500 in 7.5 s. One load changes what
it can in PATIENCE; it tells the rest in a problem line, and the next load, of a table still wanted, goes on there. A
promotion, which is a single load, is thus never held up for longer.
"""

import time

from hotpair.sessions import local_socket
from hotpair.sessions.backend import Deadline, Loaded, TableError
from hotpair.sessions.pound_answer import Service, Session, content, length, service, unfit
from hotpair.sessions.record import Entry, Table

WAIT = 5.0  # seconds that one request may take
MOST = 1 << 27  # bytes of an answer
SOON = 1000.0  # milliseconds: not worth adding what ends sooner
SAME = 1000.0  # milliseconds that a deadline may move without being told again
PATIENCE = 20.0  # seconds of adding and removing in one load, which holds up the other tables; the next goes on
SHORTER = 0.5  # part of its time left that a session may have here before it is added again, which is costly


class Pound:
    """Services as LISTENER/SERVICE, by name or number; - is the listener of those of all listeners."""

    name = "pound"

    def __init__(self, path: str) -> None:
        self.path = path
        self._told: dict[str, dict[str, tuple[float, str]]] = {}  # by name and key: the deadline told last, its mark

    def names(self) -> list[str]:
        """Return none: tables are named in the configuration."""
        return []

    def dump(self, name: str) -> Table:
        """Return the sessions of a service. Raises TableError."""
        found, clock, at = self._service(name), time.monotonic() * 1000, time.time()
        entries = {key: _entry(key, one) for key, one in found.sessions.items()}
        facts = {"type": found.kind, "backends": [backend for backend in found.backends if backend]}
        return Table(self.name, name, at, clock, entries, facts)

    def load(self, wanted: Table, last: Table | None) -> Loaded:
        """Add what is missing, elsewhere or soon over here; remove what is not wanted. Raises TableError."""
        here, start = self._service(wanted.name), time.monotonic()
        problems: list[str] = []
        lost: dict[str, int] = {}  # by backend: sessions that have it and cannot be here
        put: dict[str, str] = {}  # the backend by key
        for key, entry in wanted.entries.items():
            if why := unfit(key):
                problems.append(f"session {key[:40]!a}: not loaded: its key is {why}")
                continue
            backend = entry.data.get("backend")
            if not isinstance(backend, str) or not backend or backend not in here.backends:
                lost[str(backend)] = lost.get(str(backend), 0) + 1
            elif _due(entry, here.sessions.get(key), backend):
                put[key] = backend
        problems += [_lost(backend, count) for backend, count in lost.items()]
        gone = [key for key in here.sessions if key not in wanted.entries]
        if stay := sum(bool(unfit(key)) for key in gone):
            problems.append(f"{stay} sessions not removed: their keys cannot be sent to Pound")
        # what is missing hurts more than what is too much, should there be no time for all
        changes = [("PUT", f"{here.place}/{here.backends.index(name)}?key={key}") for key, name in put.items()]
        changes += [("DELETE", f"{here.place}?key={key}") for key in gone if not unfit(key)]
        if changes:
            done, refused = self._changed(changes, start + PATIENCE)
            here = self._service(wanted.name)
            problems += refused
            if left := len(changes) - done:
                problems.append(f"{left} sessions not yet added or removed: Pound is slow, the next load goes on")
            else:
                problems += _verified(put, here)
        loaded = [key for key, entry in wanted.entries.items() if _is_in(here, key, entry)]
        return Loaded(len(loaded), tuple(problems), self._deadlines(wanted, here, loaded, start))

    def _changed(self, changes: list[tuple[str, str]], until: float) -> tuple[int, list[str]]:
        """Do as much as there is time for, and return how much that was, and what Pound refused."""
        refused: list[str] = []
        for done, (method, where) in enumerate(changes):
            if time.monotonic() > until:
                return done, refused
            status, _ = self._ask(method, f"/session/{where}")
            if status != 200:
                refused.append(f"Pound answers {status} to {method} {where}")
        return len(changes), refused

    def _deadlines(self, wanted: Table, here: Service, loaded: list[str], start: float) -> dict[str, Deadline]:
        """Return the ends that are new or have moved. start: when `wanted` held, by time.monotonic()."""
        told, now = self._told.get(wanted.name, {}), time.monotonic()
        tell: dict[str, Deadline] = {}
        kept: dict[str, tuple[float, str]] = {}
        for key in loaded:
            left, mark = wanted.entries[key].remaining_ms, here.sessions[key].expire
            if left is None:
                continue
            end = start * 1000 + left
            if key in told and told[key][1] == mark and abs(told[key][0] - end) < SAME:
                kept[key] = told[key]
                continue
            kept[key] = (end, mark)
            tell[key] = Deadline(max(end - now * 1000, 0.0), mark)
        self._told[wanted.name] = kept
        return tell

    def reap(self, name: str, due: dict[str, str]) -> None:
        """Remove sessions whose end has not moved since they were added. Raises TableError."""
        here = self._service(name)
        for key, mark in due.items():
            if key in here.sessions and here.sessions[key].expire == mark and not unfit(key):
                status, _ = self._ask("DELETE", f"/session/{here.place}?key={key}")
                if status != 200:
                    raise TableError(f"Pound answers {status} to the removal of session {key}")

    def _service(self, name: str) -> Service:
        status, body = self._ask("GET", "/")
        if status != 200:
            raise TableError(f"Pound answers {status} to a GET of /")
        return service(body, name)

    def _ask(self, method: str, url: str) -> tuple[int, bytes]:
        """Return the status and the body of one request. Raises TableError."""
        until, data = time.monotonic() + WAIT, bytearray()
        with local_socket.connect(self.path, until) as connection:
            # without `Connection: close`, Pound waits for the next request
            request = f"{method} {url} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            local_socket.send(connection, request.encode(), until)
            whole = None
            while whole is None or len(data) < whole:
                chunk = local_socket.receive(connection, until)
                if not chunk:
                    break
                data += chunk
                whole = length(bytes(data)) if whole is None else whole
                if max(len(data), whole or 0) > MOST:
                    raise TableError(f"Pound's answer is longer than {MOST} bytes")
        return content(bytes(data))


def _entry(key: str, session: Session) -> Entry:
    data = {"backend": session.backend} if session.backend else {}
    return Entry(key, remaining_ms=session.remaining_ms, data=data)


def _due(entry: Entry, session: Session | None, backend: str) -> bool:
    """Say whether a session is to be added, or added again."""
    left = entry.remaining_ms
    if left is not None and left < SOON:
        return False
    if session is None or session.backend not in (backend, None):
        return True
    return left is not None and session.remaining_ms < left * SHORTER


def _is_in(here: Service, key: str, entry: Entry) -> bool:
    return key in here.sessions and here.sessions[key].backend in (entry.data.get("backend"), None)


def _lost(backend: str, count: int) -> str:
    if backend == "None":
        return f"{count} sessions not loaded: Pound does not tell on which backend they are, whose weights differ"
    return f"{count} sessions not loaded: there is no backend {backend} here"


def _verified(put: dict[str, str], here: Service) -> list[str]:
    """Return what Pound did not do although it said so. One that went again meanwhile is loaded the next time."""
    missing = sum(key not in here.sessions for key in put)
    moved = sum(key in here.sessions and here.sessions[key].backend not in (put[key], None) for key in put)
    problems = [f"{missing} sessions are not there after Pound took them"] if missing else []
    return problems + ([f"{moved} sessions are on another backend than Pound was told"] if moved else [])
