"""Measure what one event costs that leads to nothing: a quiet one, and one whose set is being run already."""

import contextlib
import fcntl
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench.figures import Report, Row, paired, spend

ROOT = Path(__file__).resolve().parents[2]
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
FLOOR = "/usr/bin/python3 -I -S -c pass"
PACE = 0.1  # seconds between events, where closer ones would count as a storm
INI = """\
[node]
name = {name}
peer = local:{peer}

[files etc]
paths =
    /etc/pair/*.conf
    /etc/motd
"""


@contextlib.contextmanager
def prefixes() -> Iterator[Path]:
    """Make two nodes under two root prefixes, in sync; yield the first one's prefix."""
    with tempfile.TemporaryDirectory(prefix="hotpair-bench.") as folder:
        home = Path(folder)
        for name, peer in (("alpha", "beta"), ("beta", "alpha")):
            for directory in ("etc/hotpair", "etc/pair", "etc/incron.d", "etc/cron.d"):
                (home / name / directory).mkdir(parents=True)
            (home / name / "etc/hotpair/hotpair.ini").write_text(INI.format(name=name, peer=home / peer))
        alpha = home / "alpha"
        (alpha / "etc/motd").write_text("welcome\n")
        (alpha / "etc/pair/a.conf").write_text("x" * 4096)
        for program in ("hotpair tables", "psync etc"):
            subprocess.run([*f"{ROOT}/bin/{program}".split()], env=environment(alpha), check=True, capture_output=True)
        yield alpha


def environment(prefix: Path) -> dict[str, str]:
    return {"PATH": PATH, "LANG": "C.UTF-8", "HOTPAIR_ROOT": str(prefix)}


def by_table(prefix: Path) -> str:
    """Return the command that the set's incron table holds for its glob's directory."""
    lines = (prefix / "etc/incron.d/hotpair-etc").read_text().splitlines()
    return next(line.split(None, 2)[2] for line in lines if line.startswith(f"{prefix}/etc/pair "))


class Events:
    """Commands that are each started the way incrond does it, by bash."""

    def __init__(self, prefix: Path, report: Report) -> None:
        self.report = report
        self.environment = environment(prefix)

    def compare(self, a: str, b: str, runs: int, pause: float = 0.0) -> tuple[list[float], list[float]]:
        """Return the ratios of CPU and of wall time, pair by pair."""

        def starter(command: str):
            return lambda: spend(["/bin/bash", "-c", command], self.environment)

        one, other = starter(a), starter(b)
        paired(one, other, 1, 2, pause)  # warm
        found = paired(one, other, self.report.pairs, runs, pause)
        return [x.cpu / y.cpu for x, y in found], [x.wall / y.wall for x, y in found]

    def add(
        self, what: str, a: str, b: str, limit: float | None, goal: str = "plan", runs: int = 10, pause: float = 0.0
    ) -> None:
        against = "Syncr-like bash script" if b != FLOOR else 'bash -c "python3 -I -S -c pass"'
        cpu, wall = self.compare(a, b, runs, pause)
        self.report.rows.append(Row(f"{what}: CPU", against, tuple(cpu), goal, limit))
        self.report.rows.append(Row(f"{what}: wall", against, tuple(wall)))


def syncr_like(prefix: Path) -> str:
    """Return the command for an event of the Syncr-like script that finds nothing changed.

    Its nudge touches incron's own tables, which this machine shall not have happen: here it only starts incrontab.
    """
    file = prefix / "etc/pair/a.conf"
    (prefix / "etc/pair/a.conf.1").write_bytes(file.read_bytes())
    return f"SYNCR_NUDGE='incrontab --about' {ROOT}/tests/bench/syncr-like {file} IN_CLOSE_WRITE"


def measure(report: Report) -> None:
    """Add the rows of the events that find nothing to do."""
    with prefixes() as alpha:
        events, plain = Events(alpha, report), f"{ROOT}/bin/syncr etc 0"
        line, shelf = by_table(alpha), alpha / "var/lib/hotpair/sets/etc/marks/new"
        if os.geteuid():
            report.note("skipped: the quiet event by the line of the incron table: its nice needs root")
        else:
            events.add("quiet event, by the line of the incron table", line, FLOOR, None, runs=4, pause=PACE)
        (alpha / "etc/incron.d/hotpair-etc").unlink()  # no table, no storm: the rest need not be paced
        events.add("quiet event", plain, FLOOR, 1.5)
        events.add("quiet event", plain, syncr_like(alpha), 1 / 3, "S7")
        if list(shelf.iterdir()):
            raise RuntimeError("the quiet events were not quiet: marks are left")
        with open(alpha / "run/hotpair/etc.run.lock", "r+b") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            events.add("event that loses the lock", plain, FLOOR, 1.2)
            if not list(shelf.iterdir()):
                raise RuntimeError("the event that loses the lock left no mark: it did not lose")
