"""The kinds of session tables by their names, and dumps of many tables, of which one that fails spares the rest."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator

from hotpair import paths
from hotpair.sessions import switches
from hotpair.sessions.backend import Backend, Missing, TableError
from hotpair.sessions.record import Origin, Table
from hotpair.sessions.settings import Sessions

ALL = ("recent",)  # kinds whose label alone means every table of it


def _recent(_: Sessions) -> Backend:
    from hotpair.sessions.recent import Recent

    return Recent()


def _nft(_: Sessions) -> Backend:
    from hotpair.sessions.nft import Nft

    return Nft()


def _ipset(_: Sessions) -> Backend:
    from hotpair.sessions.ipset import Ipset

    return Ipset()


def _conntrack(_: Sessions) -> Backend:
    from hotpair.sessions.conntrack import Conntrack

    return Conntrack()


def _haproxy(settings: Sessions) -> Backend:
    from hotpair.sessions.haproxy import Haproxy

    return Haproxy(paths.under(settings.haproxy_socket))


def _pound(settings: Sessions) -> Backend:
    from hotpair.sessions.pound import Pound

    return Pound(paths.under(settings.pound_socket))


def _zevenet(settings: Sessions) -> Backend:
    from hotpair.sessions.zevenet import Zevenet

    sync, control = paths.under(settings.http_socket), paths.under(settings.http_control)
    return Zevenet(sync, control, settings.http_poundctl, settings.http_ttl or None)


MAKERS: dict[str, Callable[[Sessions], Backend]] = {
    "recent": _recent,
    "nft": _nft,
    "ipset": _ipset,
    "conntrack": _conntrack,
    "haproxy": _haproxy,
    "pound": _pound,
    "http": _zevenet,
}


class Backends:
    """The backends of one run, each made when it is first asked for: some keep in mind what they saw last."""

    def __init__(self, settings: Sessions) -> None:
        self.settings = settings
        self._made: dict[str, Backend] = {}

    def of(self, kind: str) -> Backend:
        """Return the backend of a kind of table. Raises Missing when this hotpair has none of that kind."""
        if kind not in self._made:
            self._made[kind] = self._make(kind)
        return self._made[kind]

    def _make(self, kind: str) -> Backend:
        if kind not in MAKERS:
            raise Missing(f"there is no kind of table {kind!r}")
        return MAKERS[kind](self.settings)

    def labels(self, wanted: Iterable[str], without: Collection[str] = ()) -> list[str]:
        """Return the label of every single table that is meant, each once."""
        found: dict[str, None] = {}
        for label in wanted:
            if label in ALL:
                found |= {f"{label} {name}": None for name in self.of(label).names()}
            else:
                found[label] = None
        return [label for label in found if label not in without]

    def followed(self) -> list[str]:
        """Return the label of every single table that is switched on."""
        on, off = switches.switched(self.settings)
        return self.labels(on, off)

    def dump(self, labels: Iterable[str], origin: Origin) -> Iterator[Table]:
        """Yield each table as it is now; where that cannot be had, an incomplete one with the reason."""
        for label in labels:
            kind, _, name = label.partition(" ")
            try:
                yield self.of(kind).dump(name)._replace(origin=origin)
            except TableError as error:
                clock = time.monotonic() * 1000
                yield Table(kind, name, time.time(), clock, complete=False, error=str(error), origin=origin)
