"""Sets and maps of nftables with timeouts, through nft(8): each load is one transaction.

The first load of a conversation empties the table and fills it; the ones after it write what has changed. Exact to half
a second. Not carried: how much a limit of an element still allows, and counters of a set that does not declare
`counter` (nft takes them for no other).
"""

import re
import time
from collections.abc import Iterable
from contextlib import suppress

from hotpair.sessions import nft_rows, tool
from hotpair.sessions.backend import Loaded, Missing, TableError
from hotpair.sessions.nft_rows import Batch, Head
from hotpair.sessions.nft_values import IDENTIFIER, Unsayable
from hotpair.sessions.record import Entry, Table, differs

FAMILIES = ("ip", "ip6", "inet", "arp", "bridge", "netdev")
COMPLAINT = re.compile(r"^\S*?:(\d+):\d+(?:-\d+)?: Error: (.*)$", re.MULTILINE)
KINDS = "set", "map"
ABSENT = "No such file or directory"
ATTEMPTS = 20  # times that nft may refuse some elements before the table is given up


class Nft:
    """The sets and maps of this network namespace, each called "FAMILY TABLE NAME"."""

    name = "nft"

    def __init__(self) -> None:
        self._kinds: dict[str, str] = {}  # set or map, by name
        self._heads: dict[str, Head] = {}  # of what this conversation loads
        self._refused: dict[str, dict[str, str]] = {}  # what of it could not be: why by key, by name

    def names(self) -> list[str]:
        """Return the sets and maps that are here. Raises TableError."""
        return sorted(_heads())

    def dump(self, name: str) -> Table:
        """Return a table as it is now. Raises TableError."""
        at, clock = time.time(), time.monotonic() * 1000  # nft reads the kernel first, and takes its time to print
        said = self._listed(name)
        try:
            head, elements = nft_rows.listed(said)
            entries = nft_rows.entries(head, elements)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TableError(f"nft {name} is listed as no table: {error}") from error
        return Table(self.name, name, at, clock, entries, head.facts())

    def load(self, wanted: Table, last: Table | None) -> Loaded:
        """Make the table here what `wanted` says. Raises TableError."""
        head = self._heads.pop(wanted.name, None) if last else None
        refused = self._refused.pop(wanted.name, {})
        if not (head and last and (writing := Writing(head, wanted)).change(last, refused)):
            head = _head(wanted)
            if head is None:
                raise Missing(f"there is no set or map {wanted.name} of nftables here")
            writing = Writing(head, wanted)
            writing.replace()
        self._heads[wanted.name], self._refused[wanted.name] = head, writing.refused
        return Loaded(len(wanted.entries) - len(writing.refused), tool.problems(writing.refused))

    def reap(self, name: str, due: dict[str, str]) -> None:
        """Do nothing: the elements here know when they expire."""

    def _listed(self, name: str) -> bytes:
        """Return what nft lists of a set or a map. Raises TableError."""
        words = name.split(" ")
        if len(words) != 3 or words[0] not in FAMILIES or not all(map(IDENTIFIER.fullmatch, words[1:])):
            raise Missing(f"no set or map of nftables is called {name!r}")
        likely = self._kinds.get(name, "set")
        for kind in (likely, "map" if likely == "set" else "set"):
            said = tool.run(["nft", "-j", "list", kind, *words])
            if not said.code:
                self._kinds[name] = kind
                return said.out
            if ABSENT not in said.err:
                raise TableError(f"nft: {said.why}")
        raise Missing(f"there is no set or map {name} of nftables here")


def _head(wanted: Table) -> Head | None:
    """Return what the set or map of that name here is, most likely what it is there. Raises TableError."""
    likely = [kind for kind in KINDS if kind == wanted.facts.get("kind")]
    return likely and _heads(likely).get(wanted.name) or _heads().get(wanted.name)


def _heads(kinds: Iterable[str] = KINDS) -> dict[str, Head]:
    """Return what each set and map here is, by name. Raises TableError."""
    found: dict[str, Head] = {}
    for kind in kinds:  # `list set` would fetch the elements, terse or not
        said = tool.run(["nft", "-j", "-t", "list", f"{kind}s"])
        if said.code:
            raise TableError(f"nft: {said.why}")
        try:
            found |= nft_rows.heads(kind, said.out)
        except (ValueError, KeyError, TypeError) as error:
            raise TableError(f"nft lists what are no {kind}s: {error}") from error
    return found


class Writing:
    """One load."""

    def __init__(self, head: Head, wanted: Table) -> None:
        self.head, self.wanted = head, wanted
        default = wanted.facts.get("timeout", 0)
        self.default = default if isinstance(default, int) else 0
        self.refused: dict[str, str] = {}  # why, by key

    def replace(self) -> None:
        """Empty the table and fill it. Raises TableError."""
        words = self._words(self.wanted.entries.values())
        why = ""
        for attempt in range(ATTEMPTS):
            batch = Batch(self.wanted.name)
            batch.flush(self.head.kind)
            if attempt:
                batch.singly("add", words, self.refused)
            else:
                batch.elements("add", words)
            why, keys = _run(batch)
            if not why:
                return
            if not keys:
                raise Missing(f"{self.wanted.name}: {why}") if ABSENT in why else TableError(f"nft: {why}")
            self.refused |= keys
        raise TableError(f"nft refuses elements, and others each time: {why}")

    def change(self, last: Table, refused: dict[str, str]) -> bool:
        """Write what is not as it was last; return whether nft took it.

        An element is replaced by adding it as it may be there, deleting it, and adding it as it shall be: right whether
        it is there or not, and it sets counters too, which an `add` to what is there would not.

        refused: why, by key, what earlier loads could not write is not there: it is said as long as it is so.
        """
        wanted, before = self.wanted.entries, last.entries
        changed = [
            entry
            for key, entry in wanted.items()
            if key not in before or differs(last, before[key], self.wanted, entry)
        ]
        stale = [before[key] for key in before if key not in wanted]
        stale += [before[entry.key] for entry in changed if entry.key in before]
        if self.head.kind == "set":  # one that is here already makes no difference
            stale += [entry for entry in changed if entry.key not in before]
        again = {entry.key for entry in changed}
        self.refused = {key: why for key, why in refused.items() if key in wanted and key not in again}
        old, new = self._names(stale), self._words(changed)
        if not old and not new:
            return True
        batch = Batch(self.wanted.name)
        batch.elements("add", {key: words + value for key, (words, value) in old.items()})
        batch.elements("delete", {key: words for key, (words, _) in old.items()})
        batch.elements("add", new)
        return not _run(batch)[0]

    def _names(self, entries: Iterable[Entry]) -> dict[str, tuple[str, str]]:
        """Return the words for the key and the data of each entry; without those that were never written."""
        found = {}
        for entry in entries:
            with suppress(Unsayable):
                found[entry.key] = nft_rows.name_of(self.head, entry), nft_rows.value_of(self.head, entry)
        return found

    def _words(self, entries: Iterable[Entry]) -> dict[str, str]:
        """Return what makes each entry that is to be written, and note which cannot be."""
        words = {}
        for entry in entries:
            if nft_rows.lasting(entry):
                try:
                    words[entry.key] = nft_rows.element(self.head, entry, self.default)
                except Unsayable as error:
                    self.refused[entry.key] = str(error)
        return words


def _run(batch: Batch) -> tuple[str, dict[str, str]]:
    """Have nft carry a batch out; return what it complains of first, "" when it did, and why by the key of an element.

    nft itself ends at an element that it cannot read; what follows is then no complaint of its own.
    """
    said = tool.run(["nft", "-f", "-"], batch.text())
    if not said.code:
        return "", {}
    complaints = [(int(line), why) for line, why in COMPLAINT.findall(said.err)]
    if not complaints:
        return said.why, {}
    whole = any("syntax error" in why for _, why in complaints)
    keys = {batch.keys[line]: why for line, why in complaints[: 1 if whole else None] if line in batch.keys}
    return complaints[0][1], keys
