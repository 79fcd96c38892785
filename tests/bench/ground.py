"""The two nodes as a ground for others: start programs there, count their CPU and bytes, and leave none behind."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence

from tests.bench.pairs import Bench, inside
from tests.lab.pairlab import LINK, NODES
from tests.lab.spaces import all_gone, wait_until

# Join the group behind descriptor 0 last of all, so that the way into the node is not counted.
JOIN = 'echo 0 >&0; exec "$@" </dev/null'
LOG = "/tmp/bench.log"
WINDOW = 1.2  # seconds: a tool that looks once more does so within one
STILL = 0.01  # seconds of CPU in a window that count as none
CALM_WITHIN = 15.0  # seconds
KILLED_WITHIN = 10.0  # seconds


class Ground:
    """A running pair, its ssh connection kept open for everybody alike."""

    def __init__(self, bench: Bench) -> None:
        if not bench.group:
            raise RuntimeError("no control group: CPU cannot be counted")
        self.bench, self.group = bench, bench.group
        self.rsh = bench.rsh(kept=True)
        self.started: list[subprocess.Popen[bytes]] = []
        self.standing: set[str] = set()

    def place(self, node: str, path: str) -> str:
        """Return where a path of a node is on this machine."""
        return f"{self.bench.roots[node]}{path}"

    def places(self, path: str) -> tuple[str, str]:
        return self.place("alpha", path), self.place("beta", path)

    # -- programs --

    def start(self, node: str, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start a program in a node. From its first instruction on it is counted, and nothing before that is."""
        argv, environment = self.bench.lab.entry(node, ["/bin/sh", "-c", JOIN, "sh", *command])
        with open(f"{self.group.place}/cgroup.procs", "wb") as door, open(self.place(node, LOG), "wb") as log:
            process = subprocess.Popen(argv, env=environment, stdin=door, stdout=log, stderr=log)
        self.started.append(process)
        return process

    def run(self, node: str, command: Sequence[str], seconds: float = 60.0) -> None:
        """Run a program to its end. Raises RuntimeError when it fails or takes longer than that."""
        self.finish(node, self.start(node, command), command, seconds)

    def finish(self, node: str, process: subprocess.Popen[bytes], command: Sequence[str], seconds: float) -> None:
        """Wait for a program that was started. Raises RuntimeError when it fails or takes longer than that."""
        try:
            code: object = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = f"none within {seconds:g} s"
        if code != 0:
            raise RuntimeError(f"{node}: {command[0]}: exit {code}: {self.said(node)}")

    def said(self, node: str) -> str:
        """Return the last line that the program started last has said, warnings aside."""
        with open(self.place(node, LOG), encoding="utf-8", errors="replace") as log:
            lines = log.read()[-4000:].strip().splitlines()
        return ([line for line in lines if not line.startswith("warning:")] or ["nothing said"])[-1][:200]

    def mark(self) -> None:
        """Remember what runs now, the kept ssh connection included: clear() leaves that alone."""
        self.run("alpha", [*self.rsh.split(), "-l", "root", "beta", "true"])
        self.standing = self.running()

    def running(self) -> set[str]:
        return {pid for node in NODES for pid in inside(self.bench.lab.running(node))}

    def clear(self) -> None:
        """Kill everything in the nodes that came since mark()."""
        pids = sorted(self.running() - self.standing)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        if not wait_until(lambda: all_gone(pids), KILLED_WITHIN):
            raise RuntimeError(f"processes {' '.join(pids)} do not die")
        for process in self.started:
            process.wait(KILLED_WITHIN)
        self.started.clear()

    # -- counting --

    def cpu(self) -> float:
        """Return the CPU seconds of both nodes so far, ended processes included."""
        return self.group.cpu()

    def crossed(self) -> int:
        """Return the bytes that went over the link so far, both ways, by the kernel's count."""
        with open(f"/proc/{self.bench.lab.running('alpha')}/net/dev", encoding="ascii") as file:
            words = next(line for line in file if line.strip().startswith(f"{LINK}:")).partition(":")[2].split()
        return int(words[0]) + int(words[8])

    def calm(self) -> float:
        """Wait until nothing computes any more; return the CPU seconds so far."""
        deadline = time.monotonic() + CALM_WITHIN
        while True:
            before = self.cpu()
            time.sleep(WINDOW)
            if self.cpu() - before < STILL or time.monotonic() > deadline:
                return self.cpu()
