"""A session table as JSON lines: one header, then one line for each entry. Pure.

Times are spans, never moments of a clock: how long ago an entry was seen, how long it has left. What they are counted
from is the header's `at`, by the dumping node's wall clock (seconds since 1970), and `clock_ms`, by a clock of its boot
that never jumps, which tells whether two dumps speak of the same moment.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

VERSION = 1
SAME_STAMP = 0.5  # milliseconds that rounding may put between one moment's two readings; a jiffy is 1 at least
SAME_DEADLINE = 1500.0  # milliseconds, for tables that tell their whole seconds only


class Unreadable(ValueError):
    """These lines are no table, or not all of one."""


class Entry(NamedTuple):
    """What a table has about one key."""

    key: str  # as its table writes it, addresses in their shortest form
    hits: int = 0
    ages_ms: tuple[float, ...] = ()  # since each hit that the table remembers, the oldest hit first
    remaining_ms: float | None = None  # until it expires; None: it does not, or the table does not say
    data: dict[str, Any] = {}  # what only the backend understands

    @property
    def age_ms(self) -> float | None:
        """Return how long ago the last hit was."""
        return self.ages_ms[-1] if self.ages_ms else None


class Origin(NamedTuple):
    """Whose word a dump is."""

    node: str
    boot: str  # role.boot_id()
    epoch: int


class Table(NamedTuple):
    """One table at one moment."""

    backend: str
    name: str  # within the backend, e.g. "inet filter seen" of nft
    at: float
    clock_ms: float
    entries: dict[str, Entry] = {}  # by key
    facts: dict[str, Any] = {}  # what both nodes must have alike: type, size, timeout
    complete: bool = True
    error: str = ""  # why it is not complete
    origin: Origin = Origin("", "", 0)
    since_ms: float | None = None  # of a delta: the clock_ms of the dump that it changes
    gone: tuple[str, ...] = ()  # of a delta: keys that are there no more

    @property
    def label(self) -> str:
        """Return how the table is named to people, and in [sessions] tables."""
        return f"{self.backend} {self.name}".rstrip()


def messages(table: Table) -> Iterator[dict[str, Any]]:
    """Yield what a table is written as: its header, then its entries."""
    header: dict[str, Any] = {"ssync": VERSION, **table.origin._asdict(), "backend": table.backend, "table": table.name}
    header |= {"at": round(table.at, 3), "clock_ms": table.clock_ms, "entries": len(table.entries)}
    header |= {"complete": table.complete, "error": table.error, "facts": table.facts}
    if table.since_ms is not None:
        header |= {"since_ms": table.since_ms, "gone": table.gone}
    yield header
    for entry in table.entries.values():
        yield _fields(entry)


def _fields(entry: Entry) -> dict[str, Any]:
    fields: dict[str, Any] = {"key": entry.key}
    if entry.hits:
        fields["hits"] = entry.hits
    if entry.ages_ms:
        fields["ages_ms"] = [round(age, 3) for age in entry.ages_ms]
    if entry.remaining_ms is not None:
        fields["remaining_ms"] = round(entry.remaining_ms, 3)
    if entry.data:
        fields["data"] = entry.data
    return fields


def read(found: Iterator[dict[str, Any]]) -> Iterator[Table]:
    """Yield the tables of some messages. Raises Unreadable for what is no table, or ends before it is whole."""
    for message in found:
        yield body(message, found)


def body(header: dict[str, Any], rest: Iterator[dict[str, Any]]) -> Table:
    """Return the table that begins with a header. Raises Unreadable."""
    table, count = _header(header)
    entries: dict[str, Entry] = {}
    for _ in range(count):
        message = next(rest, None)
        if message is None:
            raise Unreadable("it ends too early")
        entry = _entry(message)
        entries[entry.key] = entry
    return table._replace(entries=entries)


def lines(table: Table) -> Iterator[bytes]:
    """Yield a table as lines, each with its newline."""
    for message in messages(table):
        yield json.dumps(message, separators=(",", ":")).encode() + b"\n"


def tables(text: Iterable[bytes]) -> Iterator[Table]:
    """Yield the tables of some lines. Raises Unreadable, as `read` does."""
    return read(map(_object, text))


def _object(line: bytes) -> dict[str, Any]:
    if not line.endswith(b"\n"):
        raise Unreadable("it ends too early")
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Unreadable("a line is no JSON") from error
    if not isinstance(found, dict):
        raise Unreadable("a line is no object")
    return found


def _header(found: dict[str, Any]) -> tuple[Table, int]:
    if found.get("ssync") != VERSION:
        raise Unreadable("it is no dump of this version of ssync")
    try:
        origin = Origin(_text(found, "node"), _text(found, "boot"), _count(found, "epoch"))
        since = found.get("since_ms")
        table = Table(
            _text(found, "backend"),
            _text(found, "table"),
            _span(found["at"]),
            _span(found["clock_ms"]),
            {},
            dict(found.get("facts", {})),
            found["complete"] is True,
            _text(found, "error"),
            origin,
            None if since is None else _span(since),
            tuple(str(key) for key in found.get("gone", ())),
        )
        return table, _count(found, "entries")
    except (KeyError, TypeError, ValueError) as error:
        raise Unreadable(f"a header without a proper {error}") from error


def _text(found: dict[str, Any], key: str) -> str:
    if not isinstance(found[key], str):
        raise ValueError(key)
    return str(found[key])


def _count(found: dict[str, Any], key: str) -> int:
    if type(found[key]) is not int or not 0 <= found[key] < 1 << 53:
        raise ValueError(key)
    return int(found[key])


def _span(value: Any) -> float:
    number = float(value)
    if not 0 <= number < 1e15:  # neither infinite nor a NaN
        raise ValueError("number")
    return number


def _entry(found: dict[str, Any]) -> Entry:
    try:
        remaining = found.get("remaining_ms")
        return Entry(
            _text(found, "key"),
            _count({"hits": 0, **found}, "hits"),
            tuple(_span(age) for age in found.get("ages_ms", ())),
            None if remaining is None else _span(remaining),
            dict(found.get("data", {})),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Unreadable(f"an entry without a proper {error}") from error


def aged(table: Table, passed_ms: float) -> Table:
    """Return a table as it must be after some milliseconds: what has expired meanwhile is not in it."""
    if passed_ms <= 0:
        return table
    return table._replace(
        at=table.at + passed_ms / 1000,
        clock_ms=table.clock_ms + passed_ms,
        entries={key: one for key, entry in table.entries.items() if (one := _older(entry, passed_ms))},
    )


def _older(entry: Entry, passed_ms: float) -> Entry | None:
    ages = tuple(age + passed_ms for age in entry.ages_ms)
    if entry.remaining_ms is None:
        return entry._replace(ages_ms=ages)
    if entry.remaining_ms <= passed_ms:
        return None
    return entry._replace(ages_ms=ages, remaining_ms=entry.remaining_ms - passed_ms)


def stamps(table: Table, entry: Entry) -> tuple[float, ...]:
    """Return the hits of an entry as moments of the dumping node's clock (milliseconds)."""
    return tuple(table.clock_ms - age for age in entry.ages_ms)


def delta(last: Table, now: Table) -> Table:
    """Return what makes the later dump of the earlier one, both of one boot."""
    changed = {
        key: entry
        for key, entry in now.entries.items()
        if key not in last.entries or differs(last, last.entries[key], now, entry)
    }
    gone = tuple(key for key in last.entries if key not in now.entries)
    return now._replace(entries=changed, since_ms=last.clock_ms, gone=gone)


def differs(last: Table, before: Entry, now: Table, after: Entry) -> bool:
    """Say whether something has happened to an entry besides the passing of time."""
    if before.hits != after.hits or before.data != after.data or len(before.ages_ms) != len(after.ages_ms):
        return True
    pairs = zip(stamps(last, before), stamps(now, after), strict=True)
    if any(abs(one - other) > SAME_STAMP for one, other in pairs):
        return True
    if before.remaining_ms is None or after.remaining_ms is None:
        return before.remaining_ms != after.remaining_ms
    passed = now.clock_ms - last.clock_ms
    return abs(before.remaining_ms - passed - after.remaining_ms) > SAME_DEADLINE


def changed(last: Table | None, step: Table) -> Table:
    """Return the whole table that a dump or a delta leads to. Raises Unreadable when the delta is not of `last`."""
    if step.since_ms is None:
        return step
    if last is None or last.clock_ms != step.since_ms or last.origin != step.origin:
        raise Unreadable("it changes a dump that is not here")
    kept = aged(last, step.clock_ms - last.clock_ms).entries
    entries = {key: entry for key, entry in kept.items() if key not in step.gone} | step.entries
    return step._replace(entries=entries, since_ms=None, gone=())
