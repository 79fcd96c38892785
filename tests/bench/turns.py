"""Let every program carry the same works over the same link, in rounds, and say how they compare with a bare rsync.

A round has each program once, and the next round has them the other way round; ratios are taken within a round. Only
one of them runs at a time: it is started in a fresh tree before its turn, and killed after it.
"""

import shutil
import subprocess
import time
from collections.abc import Sequence
from typing import NamedTuple

from tests.bench import rivals, trees
from tests.bench.figures import Carried, Report, Row
from tests.bench.ground import Ground
from tests.bench.pairs import Bench
from tests.bench.rivals import Bare, Hotpair, LsyncdSsh, Rival
from tests.bench.trees import Work
from tests.lab.spaces import LabError, wait_until

READY_WITHIN = 20.0  # seconds for a program to carry its first file
ENDS_WITHIN = 30.0  # seconds for a program to end that has carried all
SWEEP_WITHIN = 300.0  # seconds
FEW = 3  # rounds of those that no goal is about
PATIENCE = 2  # failures after which a program does not try that work again
SWEPT = 100_000  # files
LIMIT = 1.5  # times the bare rsync's CPU, where a work has a goal
PAYLOAD = 0.25  # of the bytes in moved files may cross the link: names and digests do, contents do not
FAILURES = (RuntimeError, TimeoutError, LabError, OSError, subprocess.TimeoutExpired)


class Cell(NamedTuple):
    """How one program carried one work once."""

    cpu: float  # seconds
    wall: float  # seconds, from the first change of the work until the peer had all
    sent: int  # bytes over the link
    alike: bool
    drift: int  # nanoseconds
    first: str  # what differs


class Contest:
    """The rounds of one work."""

    def __init__(self, ground: Ground, report: Report, pairs: int) -> None:
        self.ground, self.report, self.pairs = ground, report, pairs
        self.turns = 0

    def rivals(self) -> list[Rival]:
        """Return who can take part."""
        found = []
        for rival in [kind(self.ground) for kind in rivals.ALL]:
            if reason := rival.why_not():
                self.report.note(f"trees: left out: {rival.name}: {reason}")
            else:
                found.append(rival)
        return found

    def rounds(self, work: Work, taking_part: Sequence[Rival]) -> None:
        """Let everybody carry the work in turns, and add its table."""
        cells: dict[str, list[Cell | None]] = {rival.name: [] for rival in taking_part}
        for number in range(self.pairs):
            for rival in taking_part[:: -1 if number % 2 else 1]:
                if rival.judged or number < FEW:
                    cells[rival.name].append(self._try(rival, work, cells[rival.name]))
                else:
                    cells[rival.name].append(None)
        add(self.report, work, cells)
        if "rename" in work.name:
            shares = tuple(cell.sent / work.payload for cell in cells.get(Hotpair.name, []) if cell and cell.alike)
            what = f"{work.name}: bytes on the link, of those in the files"
            self.report.rows += [Row(what, "", shares, "S4", PAYLOAD)] if shares else []

    def _try(self, rival: Rival, work: Work, so_far: Sequence[Cell | None]) -> Cell | None:
        """Return the cell, None when there is none: not ready, or not tried because it never worked."""
        if sum(not (cell and cell.alike) for cell in so_far) >= PATIENCE:
            return None
        try:
            cell = self.turn(rival, work)
        except FAILURES as failure:
            self.report.note(f"trees: {work.name}: {rival.name}: {failure}")
            return None
        if not cell.alike:
            self.report.note(f"trees: {work.name}: {rival.name}: both sides differ, for one in {cell.first}")
        return cell

    def turn(self, rival: Rival, work: Work) -> Cell:
        """Start a program in a fresh tree, let it carry a work, kill it."""
        self.turns += 1
        root = f"/srv/turn{self.turns}"
        roots = self.ground.places(root)
        trees.plant(roots, work.before)
        self.ground.mark()
        try:
            rival.prepare(root, work)
            if rival.resident:
                listening(rival, *roots)
            self.ground.calm()
            return self._carry(rival, work, root)
        finally:
            self._leave(rival, roots)

    def _carry(self, rival: Rival, work: Work, root: str) -> Cell:
        alpha, beta = self.ground.places(root)
        cpu, sent, began = self.ground.cpu(), self.ground.crossed(), time.perf_counter()
        work.do(alpha)
        command = () if rival.resident else rival.command(root, work)
        process = self.ground.start("alpha", command) if command else None
        arrived = arrival(alpha, beta, work.patience)
        if process:
            self.ground.finish("alpha", process, command, ENDS_WITHIN)
        used = self.ground.calm() - cpu
        found = trees.compare(alpha, beta)
        alike = found.alike and arrived > 0
        return Cell(used, arrived - began, self.ground.crossed() - sent, alike, found.drift, found.first or "time")

    def _leave(self, rival: Rival, roots: Sequence[str]) -> None:
        try:
            rival.stop()
        except FAILURES as failure:
            self.report.note(f"trees: {rival.name}: {failure}")
        self.ground.clear()
        for root in roots:
            shutil.rmtree(root, ignore_errors=True)

    # -- sweeps --

    def sweeps(self, number: int, taking_part: Sequence[Rival]) -> None:
        """Let everybody compare both sides of a large tree in which nothing has changed, and add the table."""
        what = f"no-op sweep of {number:,} files on both nodes"
        names = tuple(f"{n // 1000:03}/f{n:06}.dat" for n in range(number))
        work = Work(what, names, lambda root: None, (), 0, SWEEP_WITHIN, "S6")
        self.ground.mark()
        ready: dict[str, Rival] = {}
        try:
            for rival in [rival for rival in taking_part if rival.sweep("")]:
                self._grow(rival, work, ready)
            self._sweep(work, ready)
        finally:
            for root, rival in ready.items():
                self._leave(rival, self.ground.places(root))

    def _grow(self, rival: Rival, work: Work, ready: dict[str, Rival]) -> None:
        root = f"/srv/sweep{len(ready)}"
        ready[root] = rival
        trees.plant(self.ground.places(root), work.before)
        try:
            rival.prepare(root, work)
            self.ground.run("alpha", rival.sweep(root), SWEEP_WITHIN)  # not counted: file caches
        except FAILURES as failure:
            self.report.note(f"trees: {work.name}: {rival.name}: {failure}")
            self._leave(ready.pop(root), self.ground.places(root))

    def _sweep(self, work: Work, ready: dict[str, Rival]) -> None:
        cells: dict[str, list[Cell | None]] = {rival.name: [] for rival in ready.values()}
        for number in range(self.pairs):
            for root, rival in list(ready.items())[:: -1 if number % 2 else 1]:
                self.ground.mark()
                self.ground.calm()
                cells[rival.name].append(self._swept(rival, root, work))
        for root, rival in ready.items():
            found = trees.compare(*self.ground.places(root))
            cells[rival.name] = [c and c._replace(alike=found.alike, drift=found.drift) for c in cells[rival.name]]
        add(self.report, work, cells)

    def _swept(self, rival: Rival, root: str, work: Work) -> Cell | None:
        cpu, sent, began = self.ground.cpu(), self.ground.crossed(), time.perf_counter()
        try:
            self.ground.run("alpha", rival.sweep(root), SWEEP_WITHIN)
        except FAILURES as failure:
            self.report.note(f"trees: {work.name}: {rival.name}: {failure}")
            self.ground.clear()
            return None
        wall = time.perf_counter() - began
        return Cell(self.ground.calm() - cpu, wall, self.ground.crossed() - sent, True, 0, "")


def listening(rival: Rival, alpha: str, beta: str) -> None:
    """Return when a program carries what changes. Raises TimeoutError."""
    for content in ("one", "twice"):  # the first may go with its first look, the second is an event
        with open(f"{alpha}/canary", "w", encoding="ascii") as file:
            file.write(content)
        if not wait_until(lambda: trees.compare(alpha, beta).alike, READY_WITHIN, 0.1):
            raise TimeoutError(f"{rival.name} does not carry a first file within {READY_WITHIN:g} s")


def arrival(alpha: str, beta: str, patience: float) -> float:
    """Return when both sides were seen alike, 0 when they were not in time. Looking takes a fifth of a core at most."""
    wanted, deadline = trees.names(alpha), time.monotonic() + patience
    while time.monotonic() < deadline:
        began = time.perf_counter()
        if trees.names(beta) == wanted and trees.compare(alpha, beta).alike:
            return began
        time.sleep(max(0.01, 4 * (time.perf_counter() - began)))
    return 0.0


# -- the table --


def add(report: Report, work: Work, cells: dict[str, list[Cell | None]]) -> None:
    """Add the table of a work: everybody against the bare rsync, and hotpair's rename against lsyncd's."""
    lines = []
    for name in cells:
        goal = (work.goal, LIMIT) if name == Hotpair.name and work.goal else ("", None)
        lines.append(line(name, Bare.name if name != Bare.name else "", cells, goal, work.patience))
    if "rename" in work.name and Hotpair.name in cells:
        lines.append(line(Hotpair.name, LsyncdSsh.name, cells, ("S4", 1.0), work.patience))
    report.trees[work.name] = lines


def line(
    name: str, against: str, cells: dict[str, list[Cell | None]], goal: tuple[str, float | None], patience: float
) -> Carried:
    """Compare one with another, round by round; what was not carried is compared with nothing."""
    mine = [cell for cell in cells[name] if cell and cell.alike]
    rounds = zip(cells[name], cells.get(against, []), strict=False)
    both = [(a, b) for a, b in rounds if a and b and a.alike and b.alike]
    return Carried(
        name,
        against,
        Row(name, against, tuple(a.cpu / b.cpu for a, b in both), *goal),
        tuple(a.wall / b.wall for a, b in both),
        tuple(1000 * cell.cpu for cell in mine),
        tuple(1000 * cell.wall for cell in mine),
        identical(cells[name], patience),
        tuple(cell.sent / 1024 for cell in cells[name] if cell),
    )


def identical(cells: Sequence[Cell | None], patience: float) -> str:
    """Say whether both sides ended identical, each time."""
    tried = [cell for cell in cells if cell]
    alike = [cell for cell in tried if cell.alike]
    if not tried:
        return "never tried, see the remarks"
    if len(alike) < len(tried):
        return f"no, {len(tried) - len(alike)} of {len(tried)} not within {patience:g} s"
    drift = max(cell.drift for cell in alike)
    return f"yes, times to {drift} ns" if drift else "yes"


def measure(bench: Bench, report: Report, pairs: int, scale: int) -> None:
    """Add the tables of all works, so many times smaller."""
    try:
        contest = Contest(Ground(bench), report, pairs)
    except RuntimeError as reason:
        report.note(f"skipped: trees: {reason}")
        return
    if scale > 1:
        report.note(f"trees: {scale} times smaller than the goals mean: what is started once weighs too much")
    taking_part = contest.rivals()
    for work in trees.works(scale):
        contest.rounds(work, taking_part)
    contest.sweeps(SWEPT // scale, taking_part)
