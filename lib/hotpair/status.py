"""Status: how the pair is, from what this node knows alone; the peer is not asked.

"In sync" is said only of trees that were compared and equal, with the time; each problem has one line and its remedy.
"""

import os
import shlex
import time
from contextlib import suppress
from typing import NamedTuple

from hotpair import paths, quiet, run, survey, tasks, watchdog, watched
from hotpair.archive import Problem, Row
from hotpair.config import Config
from hotpair.detect import LARGE, Scope
from hotpair.exits import ConfigFail
from hotpair.failover import role
from hotpair.treeset import TreeSet
from hotpair.watchdog import Canary

OK, WARNING, CRITICAL = 0, 1, 2  # exit codes, as monitoring programs read them
LEVELS = ("ok", "warning", "critical")
STALE = 20 * 60.0  # seconds: a sweep every 15 minutes, and time for it to end
LATE = 120.0  # seconds: cron's minute job should have sent it by now
AWAY = 300.0  # seconds a peer may be away before it is critical

# what a problem of the archive means: its level and the remedy; {path} and {set} are filled in
KINDS = {
    "held": (WARNING, "hotpair resolve {path} --take here|peer"),
    "conflict": (WARNING, "hotpair conflicts, then hotpair resolve {path} --take here|peer"),
    "failed": (CRITICAL, "mend that, then hotpair retry {set}"),
    "unreadable": (CRITICAL, "mend that, then psync {set}"),
    "unsupported": (WARNING, "remove it, or take it out of set {set}"),
}
# the same for what is not counted
RARE = {LARGE: (OK, "wait; what is smaller crosses meanwhile")}
# the same for problems of a whole set
OF_A_SET = {
    "brake": (CRITICAL, "if that is right: hotpair approve {set}"),
    "before": (CRITICAL, "mend that, then hotpair retry {set}"),
    "decayed": (CRITICAL, "psync --check --checksum {set} names them; copy the right one over the other"),
    "unmounted": (CRITICAL, "then psync {set}"),
    "standby": (WARNING, "then psync {set}"),
    "differ": (WARNING, "psync {set}"),
}


class Remark(NamedTuple):
    """One line for a person: what is wrong, since when (0: not known), and what to do."""

    level: int
    set_name: str
    path: str
    kind: str
    since: float
    what: str
    remedy: str


class SetStatus(NamedTuple):
    """What is known of one set."""

    name: str
    label: str  # of a tree, "" without
    in_sync: bool  # compared equal not long ago, and nothing moved since
    proved: float  # when both trees were last compared equal, 0 for never
    waiting: int  # changes here that the peer does not have
    counts: dict[str, int]  # of each kind of problem
    owed: int  # paths whose commands have not run
    failed_commands: int
    repaired: int
    swept_only: tuple[str, ...]  # directories that incrond cannot watch
    canary: Canary
    remarks: tuple[Remark, ...]

    @property
    def level(self) -> int:
        return max((remark.level for remark in self.remarks), default=OK)


class Status(NamedTuple):
    """What is known of the pair."""

    at: float
    node: str
    peer: str
    role: str
    epoch: int
    sets: tuple[SetStatus, ...]
    remarks: tuple[Remark, ...]  # of the node itself

    @property
    def level(self) -> int:
        return max([remark.level for remark in self.remarks] + [found.level for found in self.sets], default=OK)


def collect(configuration: Config) -> Status:
    """Return the status of this node and its sets. Writes nothing."""
    remarks = []
    try:
        me = role.current()
    except ConfigFail as fail:
        me = role.Role("unknown", 0)
        remarks.append(Remark(CRITICAL, "", "", "role", 0.0, fail.message, fail.remedy))
    sets = tuple(_set(configuration, name) for name in configuration.sets)
    if configuration.hotsync:
        from hotpair.failover import standing

        remarks += standing.remarks(configuration, me)
        if configuration.sessions:
            from hotpair.sessions import standing as sessions

            remarks += sessions.remarks(configuration.sessions, me)
    elif not sets:
        what, remedy = "no set is configured", "write [files NAME] in hotpair.ini"
        remarks.append(Remark(WARNING, "", "", "empty", 0.0, what, remedy))
    return Status(
        time.time(), configuration.node.name, configuration.node.peer, me.role, me.epoch, sets, tuple(remarks)
    )


def _set(configuration: Config, name: str) -> SetStatus:
    scope = run.scope(configuration, name)
    problems = scope.archive.problems()
    left = waiting(scope)
    owed = [w for w in tasks.waiting(scope.archive.db) if w.set_name == name]
    canary = watchdog.canaries(configuration._replace(sets={name: scope.files}))[0]
    blind = watched.left_out(scope.files)
    remarks = [_remark(name, problem) for problem in problems]
    aside = {problem.path for problem in problems if problem.kind == LARGE}
    late = {path: since for path, since in left.items() if path not in aside}
    remarks += _late(scope, late, any(p.kind == "peer" for p in problems))
    remarks += [remark for w in owed if (remark := _command(w))]
    remarks += _watching(name, canary, blind)
    proved = scope.archive.fact("proved")
    remarks += _proof(name, proved)
    counts = {kind: sum(p.kind == kind for p in problems) for kind in KINDS}
    open_ = left or any(p.kind not in ("conflict", "unsupported") for p in problems)
    return SetStatus(
        name,
        label=scope.files.label if isinstance(scope.files, TreeSet) else "",
        in_sync=bool(proved) and 0 <= time.time() - proved <= STALE and not open_,
        proved=proved,
        waiting=len(left),
        counts=counts,
        owed=sum(w.changed for w in owed),
        failed_commands=sum(bool(w.failure) for w in owed),
        repaired=int(scope.archive.fact("repaired")),
        swept_only=tuple(directory.live for directory in blind),
        canary=canary,
        remarks=tuple(sorted(remarks, key=lambda remark: -remark.level)),
    )


def waiting(scope: Scope) -> dict[str, float]:
    """Return the paths whose live state the peer does not have, and since when; no content is read."""
    rows = scope.archive.rows()
    found = {}
    for path in survey.names(scope, rows):
        row = rows.get(path, Row(signature="-"))
        if any(state is not None and state.kind == "other" for state in (row.seen, row.agreed)):
            continue
        if row.seen != row.agreed or _moved(path, row):
            found[path] = _changed_at(path)
    return found


def _moved(path: str, row: Row) -> bool:
    """Say whether a path is no longer what was last looked at, as far as stat tells."""
    signature, known = quiet.signature(paths.under(path)), row.signature
    if row.seen is not None and row.seen.kind == "directory":  # whose times are its entries' business
        signature, known = (" ".join(text.split(" ")[:2]) for text in (signature, known))
    if known and signature != "-" != known:
        return signature != known
    return (signature == "-") != (row.seen is None)


def _changed_at(path: str) -> float:
    for step in (path, path.rsplit("/", 1)[0]):
        try:
            return os.lstat(paths.under(step)).st_ctime
        except OSError:
            continue
    return 0.0


def _remark(name: str, problem: Problem) -> Remark:
    if problem.kind == "peer":
        level = CRITICAL if time.time() - problem.since > AWAY else WARNING
        return Remark(level, name, "", "peer", problem.since, f"peer away: {problem.detail}", "hotpair retry " + name)
    level, remedy = (KINDS | RARE | OF_A_SET)[problem.kind]
    remedy = remedy.replace("{set}", name).replace("{path}", shlex.quote(problem.path))
    return Remark(level, name, problem.path, problem.kind, problem.since, problem.detail, remedy)


def _late(scope: Scope, left: dict[str, float], away: bool) -> list[Remark]:
    """Remark what should have been sent by now; while the peer is away, that is said already."""
    name, oldest = scope.files.name, min(left.values(), default=time.time())
    if away:
        return []
    if time.time() - oldest > LATE:
        path = min(left, key=lambda p: left[p])
        what = f"not sent: {path}" + (f" and {len(left) - 1} more" if len(left) > 1 else "")
        return [Remark(WARNING, name, path, "waiting", oldest, what, f"psync {name}, and see that cron runs")]
    event = _oldest_mark(name)
    if event and time.time() - event > LATE:
        what = "an event was not dealt with"
        return [Remark(WARNING, name, "", "event", event, what, f"psync {name}, and see that cron runs")]
    return []


def _oldest_mark(name: str) -> float:
    """Return when the oldest event came that no run has ended well with, 0 when there is none."""
    found = []
    for which in ("new", "taken"):
        with suppress(FileNotFoundError):  # no run yet, or one just ended
            found += [entry.stat().st_mtime for entry in os.scandir(paths.set_state(name, "marks", which))]
    return min(found, default=0.0)


def _command(w: tasks.Waiting) -> Remark | None:
    if w.final:
        what, remedy = f"commands given up after {w.attempts} attempts: {w.failure}", "mend that, then hotpair retry "
        return Remark(CRITICAL, w.set_name, w.section, "commands", w.since, what, remedy + w.set_name)
    if w.failure:
        what = f"commands failed {w.attempts} times: {w.failure}"
        return Remark(WARNING, w.set_name, w.section, "commands", w.since, what, "mend that; they are tried again")
    if time.time() - w.since > LATE:
        what = f"commands not run for {w.changed} changed paths"
        return Remark(WARNING, w.set_name, w.section, "commands", w.since, what, "see that cron runs")
    return None


def _watching(name: str, canary: Canary, blind: list[watched.LeftOut]) -> list[Remark]:
    remarks = []
    if not canary.installed:
        remarks.append(Remark(WARNING, name, "", "watch", 0.0, "no incron table: nothing is watched", "hotpair tables"))
    if canary.dead_since:
        what = "no event arrives: changes wait for cron"
        remarks.append(Remark(WARNING, name, "", "watch", canary.dead_since, what, "systemctl restart incron"))
    for directory in blind:
        what = f"swept only: {directory.why}"
        remarks.append(Remark(OK, name, directory.live, "swept", 0.0, what, "`hotpair tables` once that is mended"))
    return remarks


def _proof(name: str, proved: float) -> list[Remark]:
    if not proved:
        return [Remark(WARNING, name, "", "proof", 0.0, "not yet compared with the peer", f"psync {name}")]
    if not 0 <= time.time() - proved <= STALE:
        what = "the trees have not been compared equal since then"
        return [Remark(WARNING, name, "", "proof", proved, what, f"psync {name}, and see that cron runs")]
    return []
