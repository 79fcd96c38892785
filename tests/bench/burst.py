"""Write many files at once into a watched directory and count what that starts; list what runs when all is idle."""

import os
import time
from pathlib import Path

from tests.bench.figures import Report, Row
from tests.bench.pairs import Bench, put
from tests.lab.spaces import wait_until

OURS = 20  # so many of the files belong to the set
STARTS = "/run/bench-starts"
# Stands in for the trigger and counts: the system call for a process is the same, the shell adds a millisecond.
COUNTER = f'#!/bin/sh\necho >>{STARTS}\nexec /usr/local/lib/hotpair/bin/syncr "$@"\n'
TABLE = "/etc/incron.d/hotpair-etc"
DONE = 120.0  # seconds for everything to arrive
CALM = 7.0  # seconds without an event after which the next storm is met as if it were the first
IDLE = 3.0  # seconds after which nothing may run any more
PROGRAMS = ("syncr", "psync", "hotpair", "rsync")
DAEMONS = ("lsyncd", "tests.lab.pairboot")


def measure(bench: Bench, report: Report) -> None:
    """Add the rows of two bursts. Changes alpha's trigger: nothing is timed afterwards."""
    alpha = bench.roots["alpha"]
    os.unlink(f"{alpha}/usr/local/sbin/syncr")
    put(alpha, "/usr/local/sbin/syncr", COUNTER, 0o755)
    for number in (1000, 10000):
        one(bench, report, number)


def one(bench: Bench, report: Report, number: int) -> None:
    """Write so many files, wait until the set's have arrived and incrond watches again, and count."""
    alpha, beta = bench.roots["alpha"], bench.roots["beta"]
    if not wait_until(lambda: os.path.exists(f"{alpha}{TABLE}"), DONE):
        raise RuntimeError("incrond does not watch: the table is away")
    put(alpha, STARTS, "")
    shells, cpu = commands(alpha), bench.group.cpu() if bench.group else 0.0
    began = time.monotonic()
    names = [f"b{number}-{n}.{'dat' if n % (number // OURS) else 'conf'}" for n in range(number)]
    for name in names:
        Path(f"{alpha}/etc/pair/{name}").write_text(name)
    written = time.monotonic() - began
    wanted = [name for name in names if name.endswith(".conf")]

    def quiet() -> bool:
        return os.path.exists(f"{alpha}{TABLE}") and all(equal(f"{beta}/etc/pair/{name}", name) for name in wanted)

    whole = wait_until(quiet, DONE, 0.05)
    seconds = time.monotonic() - began
    time.sleep(IDLE)
    if not whole:
        report.note(f"burst of {number}: not all of the set had arrived after {DONE:g} s")
    starts = os.stat(f"{alpha}{STARTS}").st_size
    what = f"burst of {number:,} files"
    report.rows.append(Row(f"{what}: triggers started", "", (float(starts),), "plan", 99.0))
    report.rows.append(Row(f"{what}: shells incrond started for them", "", (float(commands(alpha) - shells),)))
    lost = sum(not equal(f"{beta}/etc/pair/{name}", name) for name in wanted)
    report.rows.append(Row(f"{what}: not arrived of the set's {OURS}", "", (float(lost),), "plan", 0.0))
    report.times.append(Row(f"{what}: writing them", "", (1000 * written,)))
    report.times.append(Row(f"{what}: until all had arrived", "", (1000 * seconds,)))
    if bench.group:
        report.times.append(Row(f"{what}: CPU of both nodes", "", (1000 * (bench.group.cpu() - cpu),)))
    bench.run("alpha", "find", "/etc/pair", "-name", f"b{number}-*.dat", "-delete")  # a storm too
    time.sleep(1)
    wait_until(lambda: os.path.exists(f"{alpha}{TABLE}"), DONE)
    time.sleep(CALM)


def equal(path: str, content: str) -> bool:
    try:
        return Path(path).read_text() == content
    except OSError:
        return False


def commands(root: Path) -> int:
    """Return how many commands incrond has logged for the set."""
    with open(f"{root}/var/log/lab/syslog", "rb") as file:
        return sum(b"(system::hotpair-etc) CMD" in line for line in file)


def idle(bench: Bench, report: Report) -> None:
    """Say what runs on either node when nothing has changed for a while."""
    time.sleep(IDLE)
    ours = 0
    for node in ("alpha", "beta"):
        lines = bench.run(node, "ps", "-eo", "args=").splitlines()
        left = [line.strip() for line in lines if not any(name in line for name in ("ps -eo", *DAEMONS))]
        programs = [line for line in left if any(name in line for name in PROGRAMS) and not line.startswith("ssh: ")]
        ours += len(programs)
        others = [line for line in left if not line.startswith(("/usr/sbin/incrond", "sshd: /usr/sbin/sshd"))]
        report.note(f"idle, {node}: {'; '.join(others) or 'nothing but the daemons'}")
    report.rows.append(Row("idle: processes of hotpair, kept ssh connections aside", "", (float(ours),), "S10", 0.0))
