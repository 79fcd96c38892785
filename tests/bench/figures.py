"""Measure two things in turns and say how they compare: ratios of pairs hold on a loaded machine, times do not."""

import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple


class Cost(NamedTuple):
    """What one command took, its children included, in seconds."""

    cpu: float
    wall: float


class Row(NamedTuple):
    """One line of the table: samples of a ratio, or one count."""

    what: str
    against: str
    samples: tuple[float, ...]
    goal: str = ""  # which one: S3, plan
    limit: float | None = None  # the median may be that much

    @property
    def middle(self) -> float:
        return statistics.median(self.samples)

    @property
    def verdict(self) -> str:
        """Say whether the goal is reached, "" when there is none."""
        if self.limit is None:
            return ""
        if self.middle <= self.limit:
            return "reached"
        return f"missed, {self.middle / self.limit:.2f} times the goal" if self.limit else "missed"

    def cells(self) -> list[str]:
        """Return the columns as text, those of HEAD."""
        low, high = min(self.samples), max(self.samples)
        goal = "" if self.limit is None else f"{self.goal}: <= {self.limit:.2g}"
        return [self.what, self.against, *map(_short, (low, self.middle, high)), goal, self.verdict]


HEAD = ["what", "against", "min", "median", "max", "goal", "verdict"]


class Carried(NamedTuple):
    """One line of a work's table: how a program carried it, against another in the same rounds."""

    program: str
    against: str
    cpu: Row  # the ratio, and what it shall be; no samples when there was nothing to compare
    wall: tuple[float, ...]  # the ratio
    spent: tuple[float, ...]  # milliseconds of CPU
    took: tuple[float, ...]  # milliseconds until the peer had all
    alike: str  # whether both sides ended identical
    sent: tuple[float, ...]  # KiB over the link

    def cells(self) -> list[str]:
        """Return the columns as text, those of CARRIED."""
        ratio = " / ".join(map(_short, _spread(self.cpu.samples))) if self.cpu.samples else ""
        wall, spent, took, sent = map(_middle, (self.wall, self.spent, self.took, self.sent))
        goal = "" if self.cpu.limit is None else f"{self.cpu.goal}: <= {self.cpu.limit:.2g}"
        return [self.program, self.against, ratio, wall, spent, took, self.alike, sent, goal, self.verdict]

    @property
    def verdict(self) -> str:
        """Say whether the goal is reached: fast is nothing when the sides differ."""
        if self.cpu.limit is None:
            return ""
        if not self.alike.startswith("yes"):
            return "missed, not identical"
        return self.cpu.verdict if self.cpu.samples else "nothing to compare with"


CARRIED = ["program", "against", "CPU: min / median / max", "wall", "CPU, ms", "wall, ms"]
CARRIED += ["identical", "KiB on the link", "goal", "verdict"]


class Report:
    """Everything found: rows with verdicts, times for orientation, and remarks."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.times: list[Row] = []  # milliseconds: of this machine on this day, never judged
        self.steps: list[Row] = []  # milliseconds: the parts of one change
        self.trees: dict[str, list[Carried]] = {}  # by work
        self.notes: list[str] = []
        self.pairs = 0

    def note(self, text: str) -> None:
        self.notes.append(text)
        print(f"bench: {text}", flush=True)


def _short(value: float) -> str:
    return f"{value:.0f}" if value == int(value) and abs(value) < 1e6 else f"{value:.2f}"


def _spread(samples: Sequence[float]) -> tuple[float, float, float]:
    return min(samples), statistics.median(samples), max(samples)


def _middle(samples: Sequence[float]) -> str:
    return _short(statistics.median(samples)) if samples else ""


def times(rows: Sequence[Row]) -> list[list[str]]:
    """Return a table of milliseconds, which have neither goal nor verdict."""
    return [["ms", *HEAD[2:5]], *([row.what, *row.cells()[2:5]] for row in rows)]


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as aligned columns; the first row is the head."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def spend(argv: Sequence[str], environment: dict[str, str]) -> Cost:
    """Run a command to its end and return what it cost. Raises RuntimeError when it fails."""
    quiet = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1)]
    began = time.perf_counter()
    pid = os.posix_spawn(argv[0], list(argv), environment, file_actions=quiet)
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - began
    if status:
        raise RuntimeError(f"{' '.join(argv)} ended with {os.waitstatus_to_exitcode(status)}")
    return Cost(usage.ru_utime + usage.ru_stime, wall)


def paired(
    a: Callable[[], Cost], b: Callable[[], Cost], pairs: int, runs: int, pause: float = 0.0
) -> list[tuple[Cost, Cost]]:
    """Run a and b in turns, each `runs` times a turn, the order swapped from pair to pair; return the means."""

    def turn(one: Callable[[], Cost]) -> Cost:
        costs = []
        for _ in range(runs):
            time.sleep(pause)
            costs.append(one())
        return Cost(statistics.fmean(c.cpu for c in costs), statistics.fmean(c.wall for c in costs))

    found = []
    for number in range(pairs):
        if number % 2:
            second, first = turn(b), turn(a)
        else:
            first, second = turn(a), turn(b)
        found.append((first, second))
    return found


def load() -> str:
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


@contextlib.contextmanager
def counted() -> Iterator["Group | None"]:
    """Make a control group that counts the CPU of what is put into it; None where that cannot be done."""
    with open("/proc/mounts", encoding="utf-8") as file:
        places = [line.split()[1] for line in file if line.split()[2] == "cgroup2"]
    place = f"{places[0]}/hotpair-bench-{os.getpid()}" if places else ""
    try:
        os.mkdir(place)
    except OSError:
        yield None
        return
    try:
        yield Group(place)
    finally:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):  # busy until the last process in it is gone
                os.rmdir(place)
                break
            time.sleep(0.1)


class Group(NamedTuple):
    """A control group of version 2; it tells CPU times without any controller."""

    place: str

    def take(self, pid: int | str) -> None:
        """Move a process here; its children are born here."""
        with contextlib.suppress(OSError), open(self.place + "/cgroup.procs", "w", encoding="ascii") as file:
            file.write(str(pid))

    def cpu(self) -> float:
        """Return the seconds that its processes took so far, those that ended included."""
        with open(self.place + "/cpu.stat", encoding="ascii") as file:
            return int(file.readline().split()[1]) / 1e6
