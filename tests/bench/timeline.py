"""Take one change apart: trace both nodes with strace and say how long each step between edit and arrival takes."""

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.bench.figures import Report, Row
from tests.bench.pairs import Bench, Tool
from tests.lab.spaces import wait_until

# Few calls, filtered by the kernel (--seccomp-bpf), so that tracing costs little.
CALLS = "trace=execve,write,fsync,fdatasync,renameat2,exit_group"
TRACE = ["strace", "-ff", "-q", "--seccomp-bpf", "-s", "48", "--absolute-timestamps=format:unix,precision:us", "-T"]
DAEMONS = {
    "alpha": ("incrond", ["/usr/sbin/incrond", "-n"]),
    "beta": ("sshd", ["/usr/sbin/sshd", "-D"]),
}
FILE = "/tmp/trace"  # and a dot and the pid
LINE = re.compile(r"(\d+\.\d+) (\w+)\((.*)")
TOOK = re.compile(r"<(\d+\.\d+)>$")


class Call(NamedTuple):
    """One system call of one process."""

    pid: str
    at: float
    name: str
    words: str

    @property
    def took(self) -> float:
        match = TOOK.search(self.words)
        return float(match[1]) if match else 0.0


def calls(bench: Bench, node: str, since: float) -> list[Call]:
    """Return what a node's processes called from a time on, in order."""
    found = []
    for file in Path(f"{bench.roots[node]}/tmp").glob("trace.*"):
        lines = map(LINE.match, file.read_text(encoding="utf-8", errors="replace").splitlines())
        found += [Call(file.suffix, float(m[1]), m[2], m[3]) for m in lines if m]
    return sorted((call for call in found if call.at >= since), key=lambda call: call.at)


def trace(bench: Bench) -> None:
    """Start both nodes' daemons anew under strace, and wait until they serve."""
    bench.run("alpha", "sh", "-c", "ssh -O exit -o ControlPath=/run/hotpair/ssh-%C -l root beta 2>/dev/null; true")
    for node, (name, command) in DAEMONS.items():
        bench.run(node, "pkill", "-x", name, "-o")
        time.sleep(0.3)
        bench.start(node, [*TRACE, "-e", CALLS, "-o", FILE, *command])
    time.sleep(1)
    bench.run("alpha", "psync")  # through ssh, and it leaves the connection open


def after(found: Sequence[Call], since: float, wanted: Callable[[Call], bool], what: str) -> Call:
    """Return the first call from a time on that is wanted. Raises LookupError."""
    for call in found:
        if call.at >= since and wanted(call):
            return call
    raise LookupError(what)


def starts(program: str) -> Callable[[Call], bool]:
    return lambda call: call.name == "execve" and call.words.startswith(f'"{program}') and " = 0" in call.words


def steps(alpha: Sequence[Call], beta: Sequence[Call], closed: float) -> dict[str, float]:
    """Return the milliseconds of each step of one change. Raises LookupError when the trace is not as expected."""
    shell = after(alpha, closed, starts("/bin/bash"), "incrond's shell")
    trigger = after(alpha, shell.at, starts("/usr/local/sbin/syncr"), "the trigger")
    ssh = after(alpha, trigger.at, starts("/usr/bin/ssh"), "ssh")
    remote = after(beta, ssh.at, starts("/usr/local/sbin/syncr-receive"), "the peer's end")

    def says(word: str) -> Callable[[Call], bool]:
        return lambda call: call.name == "write" and word in call.words

    hello = after(beta, remote.at, lambda c: c.pid == remote.pid and says("hotpair")(c), "the peer's hello")
    propose = after(alpha, hello.at, says("propose"), "the proposal")
    answer = after(beta, propose.at, lambda c: c.pid == remote.pid and says("answers")(c), "the answer")
    swap = after(beta, answer.at, lambda c: c.pid == remote.pid and c.name == "renameat2", "the exchange")
    marks = [closed, shell.at, trigger.at, ssh.at, remote.at, hello.at, propose.at, answer.at, swap.at]
    names = [
        "incrond: event to its shell",
        "shell and nice, to the trigger",
        "trigger: Python, marks, lock, configuration, to the start of ssh",
        "ssh over the kept connection, to the start of the peer's end",
        "the peer's end: Python and its imports, to its first word (alpha imports and looks meanwhile)",
        "alpha: from that word to the proposal",
        "beta: proposal to answer",
        "beta: answer to exchange (content, fsync, checks)",
    ]
    found = {name: 1000 * (b - a) for name, a, b in zip(names, marks, marks[1:], strict=False)}
    flushes = [c.took for c in beta if c.name in ("fsync", "fdatasync") and c.pid == remote.pid and c.at < swap.at]
    found["of all that: fsync on beta"] = 1000 * sum(flushes)
    found["sum"] = 1000 * (swap.at - closed)
    return found


def once(bench: Bench, ours: Tool, number: int) -> dict[str, float]:
    offset = time.time() - time.perf_counter()
    content = b"y" * (500 + number)
    closed = ours.write(content) + offset
    if not wait_until(lambda: ours.arrived(content), 10):
        raise LookupError("the change, on beta")
    time.sleep(0.7)
    return steps(calls(bench, "alpha", closed), calls(bench, "beta", closed), closed)


def measure(bench: Bench, report: Report, times: int) -> None:
    """Add the steps of a change. To be called last: the daemons are others afterwards."""
    trace(bench)
    found: list[dict[str, float]] = []
    for number in range(2 + times):
        try:
            found.append(once(bench, bench.hotpair(), number))
        except LookupError as missing:
            report.note(f"the steps of one change: not found in the trace: {missing}")
    for name in found[-1] if found else ():
        report.steps.append(Row(name, "", tuple(one[name] for one in found[2:] or found)))
