"""Sets of ipset(8): whole ones filled beside the set and swapped with it, changes written in place.

Exact to a second, which is as fine as ipset says it. A set of sets (list:set) is not carried: its order is its meaning.
"""

import hashlib
import re
import time
from collections.abc import Iterator

from hotpair.sessions import ipset_rows, tool
from hotpair.sessions.backend import Loaded, Missing, TableError
from hotpair.sessions.ipset_rows import NAME, Head, Unsayable
from hotpair.sessions.record import Entry, Table, differs

COMPLAINT = re.compile(r"ipset v\S+: Error in line (\d+): (.*)")
ABSENT = "The set with the given name does not exist"
ATTEMPTS = 20  # entries that ipset may refuse, one at a time, before the table is given up
LIKE = ("family", "netmask", "bitmask", "markmask", "range")  # options that must be the same for a set to be the same


class Ipset:
    """The sets of this network namespace."""

    name = "ipset"

    def __init__(self) -> None:
        self._heads: dict[str, Head] = {}  # of what this conversation loads

    def names(self) -> list[str]:
        """Return the sets that are here. Raises TableError."""
        return sorted("".join(_ipset("list", "-name")).split())

    def dump(self, name: str) -> Table:
        """Return a table as it is now. Raises TableError."""
        at, clock = time.time(), time.monotonic() * 1000
        try:
            head, entries = ipset_rows.saved(_ipset("save", _checked(name)))
        except ValueError as error:
            raise TableError(f"ipset {name} is saved as no set: {error}") from error
        _carried(head)
        return Table(self.name, name, at, clock, entries, head.facts())

    def load(self, wanted: Table, last: Table | None) -> Loaded:
        """Make the set here what `wanted` says. Raises TableError."""
        head = self._heads.pop(wanted.name, None) if last else None
        if not (head and last and (writing := Writing(head, wanted)).change(last)):
            head = _head(wanted)
            writing = Writing(head, wanted)
            writing.replace()
        self._heads[wanted.name] = head
        return Loaded(len(wanted.entries) - len(writing.refused), tool.problems(writing.refused))

    def reap(self, name: str, due: dict[str, str]) -> None:
        """Do nothing: the entries here know when they expire."""


class Writing:
    """One load."""

    def __init__(self, head: Head, wanted: Table) -> None:
        self.head, self.wanted = head, wanted
        self.refused: dict[str, str] = {}  # why, by key

    def replace(self) -> None:
        """Fill a set of the same kind and swap it with the one here. Raises TableError."""
        name = self.wanted.name
        # a name of its own for each set, always the same: what a killed load left is found again
        beside = f"hotpair.{hashlib.blake2b(name.encode(), digest_size=8).hexdigest()}"
        entries = {key: entry for key, entry in self.wanted.entries.items() if ipset_rows.lasting(entry)}
        words = self._words(entries)
        before = [self.head.create(beside), f"flush {beside}"]
        after = [f"swap {beside} {name}", f"destroy {beside}"]
        why = self._restore(before, beside, words, after)
        if why and why[0] == 1:  # there is one already, perhaps of another kind
            tool.run(["ipset", "destroy", beside])
            why = self._restore(before, beside, words, after)
        if why:
            tool.run(["ipset", "destroy", beside])
            raise Missing(f"ipset {name}: {why[1]}") if ABSENT in why[1] else TableError(f"ipset {name}: {why[1]}")

    def change(self, last: Table) -> bool:
        """Write what is not as it was last into the set; return whether ipset took it."""
        wanted, before = self.wanted.entries, last.entries
        changed = {
            key: entry
            for key, entry in wanted.items()
            if key not in before or differs(last, before[key], self.wanted, entry)
        }
        words = self._words({key: entry for key, entry in changed.items() if ipset_rows.lasting(entry)})
        gone = [key for key in before if key not in wanted]
        gone += [key for key in changed if key not in words and key in before]
        lines = [f"del {self.wanted.name} {key}" for key in gone if self._sayable(before[key])]
        if not lines and not words:
            return True
        return self._restore(lines, self.wanted.name, words, []) is None

    def _sayable(self, entry: Entry) -> bool:
        try:
            return bool(ipset_rows.key_of(self.head, entry))
        except Unsayable:  # and so it was never written
            return False

    def _words(self, entries: dict[str, Entry]) -> dict[str, str]:
        """Return what makes each entry, and note which cannot be written."""
        words = {}
        for key, entry in entries.items():
            try:
                words[key] = ipset_rows.words(self.head, entry)
            except Unsayable as error:
                self.refused[key] = str(error)
        return words

    def _restore(self, before: list[str], name: str, words: dict[str, str], after: list[str]) -> tuple[int, str] | None:
        """Have ipset carry lines out, without the entries that it refuses; return the line and why when it will not."""
        why = ""
        for _ in range(ATTEMPTS):
            keys = [key for key in words if key not in self.refused]
            lines = [*before, *(f"add {name} {words[key]}" for key in keys), *after]
            said = tool.run(["ipset", "-exist", "restore"], "".join(f"{line}\n" for line in lines).encode())
            if not said.code:
                return None
            complaint = COMPLAINT.match(said.why)
            line, why = (int(complaint[1]), complaint[2]) if complaint else (0, said.why)
            at = line - 1 - len(before)
            if not 0 <= at < len(keys) or ABSENT in why:
                return line, why
            self.refused[keys[at]] = why
        return 0, f"more than {ATTEMPTS} entries are refused: {why}"


def _head(wanted: Table) -> Head:
    """Return what the set here is. Raises TableError when it is not of the kind that the master's is."""
    text = _ipset("list", "-terse", _checked(wanted.name))
    try:
        head = ipset_rows.listed("".join(text))
    except ValueError as error:
        raise TableError(f"ipset {wanted.name} is listed as no set: {error}") from error
    _carried(head)
    here = head.facts()
    for fact in ("type", *LIKE):
        if wanted.facts and here.get(fact) != wanted.facts.get(fact):
            raise TableError(f"its {fact} is {here.get(fact)} here and {wanted.facts.get(fact)} there")
    return head


def _carried(head: Head) -> None:
    if head.type == "list:set":
        raise TableError("a set of sets is not carried")


def _checked(name: str) -> str:
    """Return a name that a line can hold. Raises Missing."""
    if not NAME.fullmatch(name):
        raise Missing(f"no set is called {name!r}")
    return name


def _ipset(*words: str) -> Iterator[str]:
    """Yield what ipset prints. Raises TableError."""
    try:
        yield from tool.printed(["ipset", *words])
    except tool.Failed as failed:
        raise Missing(f"there is no set {words[-1]} here") if ABSENT in failed.said.err else failed from None
