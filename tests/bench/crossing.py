"""Measure how long one change takes from alpha to beta over ssh, against others in turns; and what each tool misses."""

import contextlib
import functools
import time
from collections.abc import Sequence

from tests.bench.figures import Report, Row
from tests.bench.pairs import POLL, Bench, Tool
from tests.lab.spaces import wait_until

REST = 0.45  # seconds after a change until the next: every process of it has ended
WARM = 2  # changes that are not counted: connections, file caches
REWRITES = 10
MISSED = 2.0  # seconds after which a rewrite that is not there counts as missed


def measure(bench: Bench, report: Report, pairs: int) -> None:
    """Add the rows of one change, and of rewrites of equal size within one second."""
    ours, kept = bench.hotpair(), bench.lsyncd(kept=True)
    tools = [ours, kept, bench.lsyncd(kept=False), bench.syncr_like()]
    times: dict[str, list[float]] = {tool.name: [] for tool in tools}
    costs: dict[str, list[float]] = {tool.name: [] for tool in tools}
    for number in range(WARM + pairs):
        turn = number % len(tools)
        for tool in tools[turn:] + tools[:turn]:  # nobody is always the first
            cost, seconds = one(bench, tool, b"x" * (100 + number))
            if number >= WARM:
                times[tool.name].append(seconds)
                costs[tool.name].append(cost)
    for other in tools[1:]:
        goal, limit = ("S3", 1.0) if other is kept else ("", None)
        ratios = divided(times[ours.name], times[other.name])
        report.rows.append(Row("one change until the peer has it: wall", other.name, ratios, goal, limit))
        if bench.group:
            ratios = divided(costs[ours.name], costs[other.name])
            report.rows.append(Row("one change, all processes of both nodes: CPU", other.name, ratios))
    for name, found in times.items():
        report.times.append(Row(f"{name}: one change", "", tuple(1000 * seconds for seconds in found)))
    for name, found in costs.items() if bench.group else ():
        report.times.append(Row(f"{name}: one change, CPU", "", tuple(1000 * seconds for seconds in found)))
    for tool in tools:
        goal, limit = ("G12", 0.0) if tool is ours else ("", None)
        what = f"rewrites of equal size in one second, missed of {REWRITES}"
        report.rows.append(Row(what, tool.name, (float(missed(tool)),), goal, limit))


def divided(a: Sequence[float], b: Sequence[float]) -> tuple[float, ...]:
    return tuple(x / y for x, y in zip(a, b, strict=True))


def one(bench: Bench, tool: Tool, content: bytes) -> tuple[float, float]:
    """Carry one change; return the CPU seconds of both nodes until all is quiet again, and the time it took."""
    before = bench.group.cpu() if bench.group else 0.0
    seconds = tool.carry(content)
    time.sleep(REST)
    return (bench.group.cpu() if bench.group else 0.0) - before, seconds


def missed(tool: Tool) -> int:
    """Count the rewrites, made as soon as the content before has arrived, that never arrive."""
    lost = 0
    for number in range(REWRITES):
        first, second = (f"{number:03}{letter}".encode() * 50 for letter in "ab")
        while True:  # until both fell into one second of the clock
            wait_until(lambda: time.time() % 1 < 0.3, 2.0)
            second_of = int(time.time())
            with contextlib.suppress(TimeoutError):
                tool.carry(first, MISSED)
            tool.write(second)
            if int(time.time()) == second_of:
                break
            time.sleep(REST)
        lost += not wait_until(functools.partial(tool.arrived, second), MISSED, POLL)
        time.sleep(REST)
    return lost
