"""A history of two nodes whatever they share: runs, sweeps, kills, cuts, and the end at which all must rest."""

from __future__ import annotations

import ctypes
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from tests.model.nodes import NEVER, Node, random_lines, remove

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
HANGS = 60.0  # seconds
Wrote = tuple[str, bytes]  # kind and content
seeds = st.integers(0, 2**32)
sides = st.booleans()
NAMES = [
    os.fsdecode(name)
    for name in (
        b"a.conf",
        b"b c.conf",
        b"x;id;y.conf",
        b"-rf $(id) 'q\" .conf",
        b"new\nline.conf",
        b"\xff\xfe.conf",
        b"n" * 250 + b".conf",
    )
]
BIG = 40_000  # bytes: above what travels inside the conversation, so that rsync carries it
LARGE = st.sampled_from([30_000, 30_000, 16 << 20])  # the option, below and above what users write


class History(RuleBasedStateMachine):
    """What machines do. A subclass has the users, and the promises as they are seen in what is shared."""

    set_name = ""
    home: Path
    nodes: tuple[Node, Node]

    def begin_history(self, home: Path, nodes: tuple[Node, Node]) -> None:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # the peer's end of a killed run becomes our child
        self.strangers = set(_children())
        self.home, self.nodes = home, nodes
        self.noticed: set[Wrote] = set()  # P1
        self.changes = self.faults = self.stamp = 0
        self.story: list[str] = []  # for whoever has to find out why a history failed
        self.away = False

    def teardown(self) -> None:
        if hasattr(self, "home"):
            try:
                if sys.exc_info()[0] is None:
                    self.away = False
                    self.come_to_rest()
            finally:
                if isinstance(sys.exc_info()[1], Exception):  # anything else is Hypothesis, which gives a history up
                    self._tell()
                self.quiet(end=True)
                self.clean_up()
                remove(self.home)

    def clean_up(self) -> None:
        """Undo what a subclass did outside of the home."""

    def _tell(self) -> None:
        """Print what was done and what the programs said."""
        print("\n".join(self.story))
        for log in sorted([*self.home.glob("*.said"), *self.home.glob("*/var/log/hotpair.log")]):
            print(f"--- {log}\n{log.read_text(errors='replace')[-3000:]}")

    def program(
        self,
        node: Node,
        program: str,
        arguments: list[str],
        lines: int = NEVER,
        peer_lines: int = NEVER,
        folder: str | None = None,
        meanwhile: Callable[[], None] | None = None,
    ) -> int:
        """Run a program, looking at everything all the while; return its exit code.

        folder: that whose event it is, None for a look at all. meanwhile: what is done while it runs.
        """
        orphans = bool(set(_children()) - self.strangers)  # one of these may have the run lock, and be about to die
        standing = self.standing(node, folder)
        pid = node.start(program, arguments, lines, peer_lines, self.away)
        if meanwhile:
            meanwhile()
        code = self._wait(pid)
        killed = lines < NEVER or peer_lines < NEVER
        how = " (peer away)" * self.away + f" (an end dies after {min(lines, peer_lines)} lines)" * killed
        self.story.append(f"{node.name}: {program} {' '.join(arguments)}{how} -> {code}, {self.payloads()} sent so far")
        self.faults += killed
        assert code in (0, 75, -9), f"{program} {arguments} ended with {code}"
        if not killed:
            self.quiet()
        if code in (0, 75) and not orphans:
            self.noticed |= standing  # what stood here before it is now its promise to keep
        return code

    def payloads(self) -> int:
        return sum(node.payloads() for node in self.nodes)

    def _wait(self, pid: int) -> int:
        """Return a program's exit code, looking at the trees all the while."""
        deadline = time.monotonic() + HANGS
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            assert time.monotonic() < deadline, f"run {pid} hangs"
            self.whole()
            time.sleep(0.002)

    def quiet(self, end: bool = False) -> None:
        """Wait until whatever a killed program left running has ended, and the commands as well."""
        deadline = time.monotonic() + HANGS
        while left := set(_children()) - self.strangers:
            assert time.monotonic() < deadline, f"{left} do not end"
            for pid in left:
                os.waitpid(pid, os.WNOHANG)
            if not end:
                self.whole()
            time.sleep(0.002)

    @rule(side=sides)
    def run(self, side: bool) -> None:
        self.ran(side, self.program(self.nodes[side], "syncr", [self.set_name, "0"]))
        self.kept()

    @rule(side=sides)
    def sweep(self, side: bool) -> None:
        if self.program(self.nodes[side], "psync", ["--force"]) == 0:
            self.equal()
        self.kept()

    @rule(side=sides, seed=seeds, peer_dies=st.booleans(), program=st.sampled_from(["syncr", "psync"]))
    def die(self, side: bool, seed: int, peer_dies: bool, program: str) -> None:
        lines = random_lines(random.Random(seed))
        arguments = [self.set_name, "0"] if program == "syncr" else ["--force"]
        self.program(self.nodes[side], program, arguments, *((NEVER, lines) if peer_dies else (lines, NEVER)))
        self.kept()

    @rule()
    def both_at_once(self) -> None:
        standing = [self.standing(node, None) for node in self.nodes]
        self.quiet()
        pids = [node.start("syncr", [self.set_name, "0"], NEVER, NEVER, self.away) for node in self.nodes]
        codes = [self._wait(pid) for pid in pids]
        self.story.append(f"both: syncr -> {codes}")
        assert set(codes) <= {0, 75}, codes
        self.quiet()
        self.noticed |= standing[0] | standing[1]
        self.faults += 1
        self.kept()

    @rule()
    def cut_or_heal(self) -> None:
        self.away = not self.away

    # What a subclass looks at

    def standing(self, node: Node, folder: str | None) -> set[Wrote]:
        """Return the contents that stand on a node, or in one folder there, and that a run has to take notice of."""
        raise NotImplementedError

    def ran(self, side: bool, code: int) -> None:
        """A run that looked at the whole set has ended."""

    def whole(self) -> None:
        """P2, at every instant."""
        raise NotImplementedError

    def kept(self) -> None:
        """P1, after every program."""
        raise NotImplementedError

    def equal(self) -> None:
        """P3 and P8, whenever a sweep says so."""
        raise NotImplementedError

    def come_to_rest(self) -> None:
        """P3 to P6, at the end."""
        raise NotImplementedError


def _children() -> list[int]:
    found = []
    for thread in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{thread}/children", encoding="ascii") as file:
            found += [int(pid) for pid in file.read().split()]
    return found
