"""What each kind of session table can do: say what there is, dump a table, load one, and end an entry in time."""

from typing import NamedTuple, Protocol

from hotpair.sessions.record import Table


class TableError(Exception):
    """A table cannot be read or written; the others can."""


class Missing(TableError):
    """There is no table of that name here."""


class Deadline(NamedTuple):
    """When an entry must go that its table would keep longer, for it cannot be told how old the entry is."""

    remaining_ms: float
    mark: str  # what the table said of the entry when it was written; something else means that it was seen since


class Loaded(NamedTuple):
    """What became of a load."""

    entries: int  # that are in the table now, because of this or an earlier load
    problems: tuple[str, ...] = ()  # one line each: what could not be loaded, and why
    deadlines: dict[str, Deadline] = {}  # by key; of what is written in this load


class Backend(Protocol):
    """One kind of table."""

    name: str

    def names(self) -> list[str]:
        """Return the tables of this kind that are here."""

    def dump(self, name: str) -> Table:
        """Return a table as it is now, without origin. Raises TableError."""

    def load(self, wanted: Table, last: Table | None) -> Loaded:
        """Make the table here what `wanted` says, which holds for this moment. Raises TableError.

        last: what the load before this one was given in the same conversation, None where there was none.
        """

    def reap(self, name: str, due: dict[str, str]) -> None:
        """Remove entries whose time is over, by key, unless their mark has changed. Raises TableError."""
