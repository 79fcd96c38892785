"""Show a status: to a person as a table (rich) or as plain lines, to a machine as JSON whose keys stay."""

import sys
import time
from collections import Counter
from typing import Any

from hotpair import log
from hotpair.exits import ConfigFail
from hotpair.restore import moment
from hotpair.status import CRITICAL, LEVELS, Remark, SetStatus, Status
from hotpair.watchdog import Canary

COLOURS = ("green", "yellow", "red")
TOLD = 10  # remarks of one kind in one set
Kind = tuple[int, str, str]  # level, set, kind
SHORT = ("held", "conflict", "failed", "unread.", "unsupp.")  # in the order of status.KINDS


def show(status: Status) -> None:
    """Print the status. Names are escaped, and nothing in them is markup."""
    if sys.stdout.isatty():
        _table(status)
    else:
        print(_head(status))
        for found in status.sets:
            print(log.escape(f"{_title(found)}: {LEVELS[found.level]}: {_sync(found)}; {'; '.join(_counts(found))}"))
        for remark in _remarks(status):
            print(log.escape(_line(remark)))


def _head(status: Status) -> str:
    return log.escape(f"{status.node} ({status.role}, epoch {status.epoch}) with {status.peer}: {LEVELS[status.level]}")


def _title(found: SetStatus) -> str:
    return f"{found.name} ({found.label})" if found.label else found.name


def _remarks(status: Status) -> list[Remark]:
    """Return what a person is told of: of one kind in one set not more than can be read."""
    told, seen = [], Counter[Kind]()
    for remark in _every(status):
        kind = remark.level, remark.set_name, remark.kind
        seen[kind] += 1
        if seen[kind] <= TOLD:
            told.append(remark)
    return told + [_more(kind, count - TOLD) for kind, count in seen.items() if count > TOLD]


def _every(status: Status) -> list[Remark]:
    return [*status.remarks, *(remark for found in status.sets for remark in found.remarks)]


def _more(kind: Kind, count: int) -> Remark:
    level, set_name, word = kind
    return Remark(level, set_name, "", word, 0.0, f"{count} more of these", "hotpair status --json lists them all")


def _line(remark: Remark) -> str:
    where = ": ".join(word for word in (LEVELS[remark.level], remark.set_name, remark.path) if word)
    since = f" since {moment(remark.since)}" if remark.since else ""
    return f"{where}: {remark.kind}{since}: {remark.what}: {remark.remedy}"


def _sync(found: SetStatus) -> str:
    """Say "in sync" only of what was compared, and when."""
    if not found.proved:
        return "not yet compared"
    when = f"compared equal at {moment(found.proved)} ({_ago(time.time() - found.proved)} ago)"
    return f"in sync, {when}" if found.in_sync else f"not in sync now, last {when}"


def _ago(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _counts(found: SetStatus) -> list[str]:
    parts = [f"{found.waiting} waiting", *(f"{n} {kind}" for kind, n in found.counts.items())]
    parts += [f"{found.owed} owed", f"{found.failed_commands} commands failed", f"{found.repaired} repaired by sweep"]
    return [*parts, f"events {_events(found.canary)}"]


def _events(canary: Canary) -> str:
    """Say whether incrond's events arrive, in a word or two."""
    if not canary.installed:
        return "off"
    if canary.dead_since:
        return "lost"
    return "not measured" if canary.delay is None else f"in {canary.delay * 1000:.0f} ms"


def _table(status: Status) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("set", "state", "in sync", "waiting", *SHORT, "owed", "repaired", "events")
    for found in status.sets:
        counts = [str(n) for n in (found.waiting, *found.counts.values(), found.owed, found.repaired)]
        words = [Text(log.escape(word)) for word in (_sync(found), *counts, _events(found.canary))]
        table.add_row(Text(log.escape(_title(found))), Text(LEVELS[found.level], COLOURS[found.level]), *words)
    console = Console(markup=False, highlight=False, emoji=False)
    console.print(Text(_head(status), COLOURS[status.level]))
    console.print(table)
    for remark in _remarks(status):
        console.print(Text(log.escape(_line(remark)), COLOURS[remark.level]), soft_wrap=True)


def as_json(status: Status) -> dict[str, Any]:
    """Return the status for machines: the keys stay."""
    return {
        "state": LEVELS[status.level],
        "code": status.level,
        "at": status.at,
        "node": status.node,
        "peer": status.peer,
        "role": status.role,
        "epoch": status.epoch,
        "sets": [_set_json(found, status.at) for found in status.sets],
        "problems": [_remark_json(remark) for remark in _every(status)],
    }


def unusable(fail: ConfigFail) -> dict[str, Any]:
    """Return what can be said without a configuration that can be used."""
    remark = Remark(CRITICAL, "", "", "configuration", 0.0, fail.message, fail.remedy or "hotpair check")
    problems = [_remark_json(remark)]
    return {"state": LEVELS[CRITICAL], "code": CRITICAL, "at": time.time(), "sets": [], "problems": problems}


def _set_json(found: SetStatus, at: float) -> dict[str, Any]:
    away = [remark.since for remark in found.remarks if remark.kind == "peer"]
    return {
        "name": found.name,
        "label": found.label,
        "state": LEVELS[found.level],
        "in_sync": found.in_sync,
        "proved": found.proved or None,
        "proof_age": at - found.proved if found.proved else None,
        "waiting": found.waiting,
        **found.counts,
        "owed": found.owed,
        "failed_commands": found.failed_commands,
        "repaired": found.repaired,
        "swept_only": list(found.swept_only),
        "canary": found.canary._asdict(),
        "peer_away_since": away[0] if away else None,
    }


def _remark_json(remark: Remark) -> dict[str, Any]:
    return {
        "state": LEVELS[remark.level],
        "set": remark.set_name,
        "path": remark.path,
        "kind": remark.kind,
        "since": remark.since or None,
        "what": remark.what,
        "remedy": remark.remedy,
    }
