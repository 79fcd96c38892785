"""What Pound 4 answers at its control socket: HTTP and JSON into services and sessions. Pure.

The fields are those of Pound 4.16 and 4.23. Before 4.18 the fields of `core` are beside `listeners`.
"""

import json
import re
from datetime import datetime
from typing import Any, NamedTuple

from hotpair.sessions.backend import Missing, TableError

HEAD = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r]")
LENGTH = re.compile(rb"\r\nContent-Length:[ \t]*(\d{1,12})[ \t]*\r\n", re.IGNORECASE)
END = b"\r\n\r\n"
LONGEST_HEAD = 1 << 16
LONGEST_KEY = 127  # KEY_SIZE in pound.h
KEY = re.compile(r"[!-$'-~]+")  # Pound decodes nothing: & ends a key; % is left to whom may decode it one day


class Session(NamedTuple):
    """One row."""

    backend: str | None  # None: Pound does not tell which
    expire: str  # as Pound writes it: local time without a zone
    remaining_ms: float


class Service(NamedTuple):
    """One service and its sessions, at one moment."""

    place: str  # in a URL: LISTENER/SERVICE
    kind: str  # how it knows a session: IP, COOKIE ...
    backends: tuple[str, ...]  # by index, what an index is for; "" where no session can be
    sessions: dict[str, Session]


def length(data: bytes) -> int | None:
    """Return how long an answer is, None while its head is not whole. Raises TableError when it is none."""
    end = data.find(END, 0, LONGEST_HEAD)
    if end < 0:
        if len(data) >= LONGEST_HEAD or not b"HTTP/1.".startswith(data[:7]):
            raise TableError("Pound's answer is no HTTP")
        return None
    found = LENGTH.search(data, 0, end + 2)
    if not HEAD.match(data) or not found:
        raise TableError("Pound's answer is no HTTP with a length")
    return end + len(END) + int(found[1])


def content(data: bytes) -> tuple[int, bytes]:
    """Return the status and the body of an answer. Raises TableError unless it is whole."""
    size, head = length(data), HEAD.match(data)
    if size is None or head is None or len(data) < size:
        raise TableError("Pound's answer ends too early")
    return int(head[1]), data[data.index(END) + len(END) : size]


def service(body: bytes, name: str) -> Service:
    """Return the service LISTENER/SERVICE, whose sessions Pound keeps. Raises TableError.

    LISTENER is - for the services of all listeners. Both may be numbers, where there are no names.
    """
    try:
        found = json.loads(body.decode(errors="surrogateescape"), strict=False)
        core = found.get("core", found)
        place, wanted = _located(found, name)
        return _service(place, wanted, datetime.fromisoformat(core["timestamp"]))
    except TableError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError, OSError) as error:
        raise TableError(f"Pound's answer is not as expected: {type(error).__name__} {error}"[:200]) from error


def _located(found: dict[str, Any], name: str) -> tuple[str, dict[str, Any]]:
    listener, _, wanted = name.partition("/")
    if listener == "-":
        first, services = "-", found["services"]
    else:
        first, one = _named(found["listeners"], listener, f"listener {listener!r}")
        services = one["services"]
    second, one = _named(services, wanted, f"service {name!r}")
    return f"{first}/{second}", one


def _named(many: list[dict[str, Any]], word: str, what: str) -> tuple[str, dict[str, Any]]:
    """Return one of many, by name or else by number, and how a URL says it: Pound takes a number for an index."""
    for number, one in enumerate(many):
        if one["name"] == word:
            return (word if re.fullmatch(r"[A-Za-z_][\w.-]*", word, re.ASCII) else str(number)), one
    if re.fullmatch(r"\d{1,4}", word, re.ASCII) and int(word) < len(many):
        return str(int(word)), many[int(word)]
    raise Missing(f"Pound has no {what}")


def _service(place: str, found: dict[str, Any], now: datetime) -> Service:
    kind, rows = str(found["session_type"]), found["sessions"]
    if kind == "NONE" or rows is None:  # a PUT would end Pound with a segmentation fault
        raise TableError("the service keeps no sessions")
    if not isinstance(rows, list):
        raise TypeError("sessions")
    backends = found["backends"] or []
    names, shown = _names(backends), _shown([one.get("weight", 0) for one in backends])
    sessions: dict[str, Session] = {}
    for row in rows:
        key, said, expire = row["key"], row["backend"], row["expire"]
        if not (isinstance(key, str) and key and type(said) is int and isinstance(expire, str)):
            raise TypeError("session")
        may = [name for name, number in zip(names, shown, strict=True) if number == said]
        sessions[key] = Session(may[0] if len(may) == 1 and may[0] else None, expire, remaining(expire, now))
    return Service(place, kind, names, sessions)


def _names(backends: list[dict[str, Any]]) -> tuple[str, ...]:
    """Return what each backend is known by: its address, and #2 for the second of that address."""
    names: list[str] = []
    for one in backends:
        address = one.get("address")
        if not isinstance(address, str) or one.get("type", "backend") != "backend":
            names.append("")
            continue
        before = sum(name.partition("#")[0] == address for name in names)
        names.append(f"{address}#{before + 1}" if before else address)
    return tuple(names)


def _shown(weights: list[Any]) -> list[int]:
    """Return the number with which a session shows each backend.

    Not its index where weights differ, as that of an Emergency backend does: Pound (session_backend_index in svc.c,
    seen in 4.16 and 4.23) goes on counting in the groups of other weights after it has found the backend.
    """
    if any(type(weight) is not int for weight in weights):
        raise TypeError("weight")
    numbers, seen = [], dict.fromkeys(weights, 0)
    for weight in weights:
        numbers.append(len(weights) - weights.count(weight) + seen[weight])
        seen[weight] += 1
    return numbers


def remaining(expire: str, now: datetime) -> float:
    """Return the milliseconds between two local times of this machine's zone; 0 when it is over.

    An hour that comes twice is taken for its first time, unless that is over: what is over is not listed.
    """
    end = datetime.fromisoformat(expire)
    left = end.timestamp() - now.timestamp()
    if left < 0:
        left = max(left, end.replace(fold=1).timestamp() - now.timestamp())
    return max(left, 0.0) * 1000


def unfit(key: str) -> str:
    """Return what keeps a key from being sent to Pound, or ""."""
    if len(key.encode(errors="surrogateescape")) > LONGEST_KEY:
        return f"longer than {LONGEST_KEY} bytes"
    return "" if KEY.fullmatch(key) else "empty, or has a character that Pound's control socket does not take"
