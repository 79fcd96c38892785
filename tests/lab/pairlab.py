"""Build, enter and remove a pair of nodes; pairboot.py is what runs as pid 1 of each.

A node is a set of namespaces and nothing else: no named netns, no mount and no interface of this machine. So when its
pid 1 dies, for whatever reason, the kernel removes all of it; what can be left is the lab's directory, and `down`
removes that. No pid files either: a node is found by what its processes carry in their environment.
"""

import contextlib
import functools
import hashlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import BinaryIO

from tests.lab.spaces import (
    BASE_ENVIRONMENT,
    LabError,
    all_gone,
    apart,
    environment_of,
    field_of,
    may_build,
    run,
    wait_until,
)

NODES = {"alpha": "10.99.0.1", "beta": "10.99.0.2"}
LINK = "pair0"  # the interface, alike on both nodes
ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
MARKER = "this-is-a-hotpair-lab"  # `down` deletes no directory that lacks it
READY_WITHIN = 30.0  # seconds; a pair takes two, a loaded machine more


def peer_of(name: str) -> str:
    return "beta" if name == "alpha" else "alpha"


class Lab:
    """A pair that lives in `directory`; nothing about it is kept in memory."""

    def __init__(self, directory: str) -> None:
        self.directory = os.path.abspath(directory)

    def path(self, name: str) -> str:
        return os.path.join(self.directory, name)

    # -- finding --

    def processes(self) -> Iterator[tuple[str, list[bytes]]]:
        """Yield pid and environment of everything this lab started here, a crashed run's children included."""
        mark = os.fsencode(f"HOTPAIR_LAB_OWNED={self.directory}")
        for pid in filter(str.isdigit, os.listdir("/proc")):
            environment = environment_of(pid)
            if mark in environment:
                yield pid, environment

    def pid(self, name: str) -> str:
        """Return the pid, as this machine sees it, of a node's pid 1; "" when the node does not run."""
        mark = f"HOTPAIR_LAB_NODE={name}".encode()
        for pid, environment in self.processes():
            numbers = field_of(pid, "NSpid")
            if mark in environment and len(numbers) > 1 and numbers[-1] == "1":
                return pid
        return ""

    def running(self, name: str) -> str:
        pid = self.pid(name)
        if not pid:
            raise LabError(f"{name} does not run: lab up")
        return pid

    def link(self, name: str) -> str:
        """Return "up", "down" or "silent"."""
        inside = ["nsenter", "-t", self.running(name), "-n"]
        if "limit 0p" in run(*inside, "tc", "qdisc", "show", "dev", LINK):
            return "silent"
        return "up" if ",UP" in run(*inside, "ip", "link", "show", "dev", LINK) else "down"

    # -- using --

    def entry(self, name: str, command: list[str]) -> tuple[list[str], dict[str, str]]:
        """Return argv and environment that run a command inside a node, as root logged in there."""
        environment = dict(BASE_ENVIRONMENT)
        if "TERM" in os.environ:
            environment["TERM"] = os.environ["TERM"]
        spaces = ["-m", "-n", "-p", "-u", "-i", "-r", "-w"]
        return ["nsenter", "-t", self.running(name), *spaces, "--", *command], environment

    def cut(self, silent: bool = False) -> None:
        """Take the link down, or (silent) let it drop everything while it looks up, as a dead switch does."""
        for pid in [self.running(name) for name in NODES]:
            inside = ["nsenter", "-t", pid, "-n"]
            if silent:
                run(*inside, "tc", "qdisc", "replace", "dev", LINK, "root", "pfifo", "limit", "0")
            else:
                run(*inside, "ip", "link", "set", LINK, "down")

    def heal(self) -> None:
        for name in NODES:
            inside = ["nsenter", "-t", self.running(name), "-n"]
            if self.link(name) == "silent":
                run(*inside, "tc", "qdisc", "del", "dev", LINK, "root")
            run(*inside, "ip", "link", "set", LINK, "up")

    # -- building and removing --

    def up(self, cron: bool = False) -> None:
        """Build the pair and leave it running."""
        if reason := may_build(os.path.dirname(self.directory)):
            raise LabError(reason, os.EX_NOPERM)
        with self.alone():
            if os.path.exists(self.path("ready")) and all(self.pid(name) for name in NODES):
                raise LabError(f"a pair runs already in {self.directory}: lab down, or HOTPAIR_LAB=ANOTHER-DIRECTORY")
            self.remove()
            try:
                self.prepare()
                self.start(cron)
                with open(self.path("ready"), "x", encoding="utf-8"):  # without it this is the rest of a crashed build
                    pass
            except BaseException:
                self.remove()
                raise
        self.write_tables()

    def down(self) -> None:
        with self.alone():
            self.remove()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the lab against another `lab up` or `lab down`. The kernel keeps this name, and drops it if we die."""
        name = hashlib.sha256(os.fsencode(self.directory)).hexdigest()

        def taken() -> bool:
            with contextlib.suppress(OSError):
                lock.bind(b"\0hotpair-lab-" + name.encode())
                return True
            return False

        with socket.socket(socket.AF_UNIX) as lock:
            if not wait_until(taken, READY_WITHIN):
                raise LabError(f"another lab command is at work in {self.directory}: wait for it", os.EX_TEMPFAIL)
            yield

    def remove(self) -> None:
        """Kill what the lab started, and delete its directory."""
        while pids := [pid for pid, _ in self.processes()]:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            if not wait_until(functools.partial(all_gone, pids), READY_WITHIN):
                raise LabError(f"processes {' '.join(pids)} do not die: look at them with ps")
        if not os.path.lexists(self.directory):
            return
        ours = os.path.exists(self.path(MARKER)) and os.lstat(self.directory).st_uid == os.geteuid()
        if not ours and (os.path.islink(self.directory) or os.listdir(self.directory)):
            raise LabError(f"{self.directory} is not a lab: choose another HOTPAIR_LAB", os.EX_USAGE)
        shutil.rmtree(self.directory)

    def prepare(self) -> None:
        """Make the directory, the keys, and one installed tree that both nodes will see."""
        os.makedirs(self.directory, mode=0o700)
        with open(self.path(MARKER), "x", encoding="utf-8"):
            pass
        kinds = [f"{name}-{kind}" for name in NODES for kind in ("host", "user")]
        for kind in kinds:
            key = self.path(kind)
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", kind, "-f", key, environment=self.environment())
        stage = self.path("stage")
        words = [f"DESTDIR={stage}", f"VENV={ROOT}/.venv", "PREFIX=/usr/local", "SYSCONFDIR=/etc"]
        run("make", "-s", "-C", ROOT, "install", *words, environment=self.environment())
        venv = os.path.join(stage, "usr/local/lib/hotpair/.venv")
        os.unlink(venv)  # a link that would lead nowhere inside a node: the node mounts the real one here
        os.mkdir(venv)

    def environment(self, node: str = "") -> dict[str, str]:
        marks = {"HOTPAIR_LAB_OWNED": self.directory, "HOTPAIR_LAB_NODE": node}
        return {**BASE_ENVIRONMENT, **marks}

    def start(self, cron: bool) -> None:
        """Start both nodes, connect them, and return when each says that its daemons are ready."""
        reports = {name: self.boot(name, cron) for name in NODES}
        pids = [wait_until(functools.partial(self.pid, name), READY_WITHIN) for name in NODES]
        if all(pids):
            names = ["name", LINK, "netns"]
            run("ip", "link", "add", *names, pids[0], "type", "veth", "peer", *names, pids[1])
        for name, report in reports.items():
            with report:  # its other end is also held by unshare: the end of file comes only if the node died
                said = os.read(report.fileno(), 16) if select.select([report], [], [], READY_WITHIN)[0] else b""
            if said != b"ready":
                with open(self.path(f"{name}.log"), encoding="utf-8", errors="replace") as file:
                    last = file.read().strip().splitlines()[-1:] or ["no message"]
                raise LabError(f"{name} did not start: {last[0]}")

    def boot(self, name: str, cron: bool) -> BinaryIO:
        """Start one node in the background; return the end of a pipe from which its report can be read."""
        reading, writing = os.pipe()
        words = [name, self.directory, f"{ROOT}/.venv", str(writing), *(["--cron"] if cron else [])]
        command = ["/usr/bin/python3", "-Es", "-m", "tests.lab.pairboot", *words]
        with open(self.path(f"{name}.log"), "wb") as log:
            subprocess.Popen(
                apart(self.directory, *command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=self.environment(name),
                pass_fds=[writing],
                start_new_session=True,
            )
        os.close(writing)
        return os.fdopen(reading, "rb")

    def write_tables(self) -> None:
        """Let hotpair write its incron tables and cron file on both nodes."""
        for name in NODES:
            argv, environment = self.entry(name, ["hotpair", "tables"])
            try:
                run(*argv, environment=environment)
            except LabError as error:
                print(f"lab: note: {name} is up without hotpair's tables: {error}", file=sys.stderr)
