"""Which session tables follow: those of [sessions] tables, and what `ssync start` and `ssync stop` said since."""

import json

from hotpair import paths, watch
from hotpair.exits import UsageFail
from hotpair.sessions import settings
from hotpair.sessions.settings import Sessions


def switched(configured: Sessions) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return the labels of the tables that follow, as they are written (`recent` alone is all of that kind), and those
    that `ssync stop` named: that holds for a table that another label would take in, too.
    """
    said = _said()
    wanted = [label for label in configured.tables if said.get(label) is not False]
    on = (*wanted, *(label for label, on in said.items() if on and label not in wanted))
    return on, frozenset(label for label, on in said.items() if not on)


def switched_on(configured: Sessions) -> tuple[str, ...]:
    """Return the labels of the tables that follow."""
    return switched(configured)[0]


def switch(label: str, on: bool) -> None:
    """Have a table follow from now on, or no longer. Raises UsageFail for what names no table."""
    if why := settings.unfit(label):
        raise UsageFail(f"{label!r}: {why}", f"write {settings.SHAPES}")
    paths.make_private(paths.state("sessions"))
    watch.replace(_file(), json.dumps({**_said(), label: on}, indent=1) + "\n", 0o600)


def _said() -> dict[str, bool]:
    """Return what was said, {} when the file is not there or cannot be read as one."""
    try:
        found = json.loads(watch.read(_file()) or "{}")
    except ValueError:
        return {}
    return {str(label): on is True for label, on in found.items()} if isinstance(found, dict) else {}


def _file() -> str:
    return paths.state("sessions", "switches.json")
