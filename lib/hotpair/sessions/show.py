"""Print session tables: to a person as tables (rich), to a machine as JSON."""

import json
from collections.abc import Iterable, Iterator, Sequence

from hotpair import log
from hotpair.sessions import record
from hotpair.sessions.record import Entry, Table

HEADS = ("key", "hits", "seen", "left", "data")


def show(tables: Sequence[Table], as_json: bool) -> None:
    """Print tables. Keys come from clients: nothing in them is markup, and nothing drives a terminal."""
    if as_json:
        for table in tables:
            print(json.dumps([*record.messages(table)]))
        return
    from rich import box, console, text
    from rich.table import Table as Drawn

    screen = console.Console()
    for table in tables:
        drawn = Drawn(*HEADS, box=box.SIMPLE, title=text.Text(log.escape(title(table))), title_justify="left")
        for row in rows(table.entries.values()):
            drawn.add_row(*(text.Text(log.escape(word)) for word in row))
        screen.print(drawn)


def title(table: Table) -> str:
    """Say whose table it is, and how much is in it."""
    if not table.complete:
        return f"{table.label}: {table.error}"
    return f"{table.label} of {table.origin.node}, epoch {table.origin.epoch}: {len(table.entries)} entries"


def rows(entries: Iterable[Entry]) -> Iterator[tuple[str, ...]]:
    """Yield what a person sees of each entry, in the order of HEADS."""
    for entry in entries:
        seen, left = _seconds(entry.age_ms), _seconds(entry.remaining_ms)
        data = " ".join(f"{key}={value}" for key, value in entry.data.items())
        yield entry.key, str(entry.hits or ""), seen and f"{seen} ago", left, data


def _seconds(milliseconds: float | None) -> str:
    return "" if milliseconds is None else f"{milliseconds / 1000:.1f} s"
