"""How the session tables stand: what `hotpair status` says of them, and what root is mailed."""

import os
import time
from collections.abc import Iterator

from hotpair import alerts
from hotpair.failover import notes
from hotpair.failover.role import MASTER, STANDBY, Role
from hotpair.sessions import store, switches
from hotpair.sessions.settings import Sessions
from hotpair.status import WARNING, Remark

NOTE = "ssync.json"  # of a master: its last mirror
LATE = 200.0  # seconds: three mirrors of cron's


def record(begun: float, problems: list[str]) -> None:
    """Note how a mirror of cron's ended, and mail root when that is another end than the last one's."""
    notes.write(NOTE, {"begun": begun, "ended": time.time(), "problems": problems})
    alerts.report("ssync", "\n".join(problems))


def remarks(configured: Sessions, mine: Role) -> Iterator[Remark]:
    """Yield what is to be said of the session tables. Writes nothing, and asks nobody."""
    if not switches.switched_on(configured):
        return
    if mine.role == MASTER:
        yield from _sent(mine)
    elif mine.role == STANDBY:
        yield from _received(mine)


def _sent(mine: Role) -> Iterator[Remark]:
    note = notes.read(NOTE)
    ended = note.get("ended", 0.0)
    for line in note.get("problems", ()):
        yield _remark(note["begun"], line, "mend that; ssync mirror tries again each minute")
    if time.time() - max(ended, mine.since) > LATE:
        yield _remark(ended, "no mirror of the session tables has ended since then", "see that cron runs ssync")


def _received(mine: Role) -> Iterator[Remark]:
    last = max((os.stat(path).st_mtime for path in store.places()), default=0.0)
    if time.time() - max(last, mine.since) > LATE:
        yield _remark(last, "no session table has come in since then", "see to ssync on the master")


def _remark(since: float, what: str, remedy: str) -> Remark:
    return Remark(WARNING, "", "", "sessions", since, what, remedy)
