"""Network namespaces for tests of kernel tables: each ends with the process that has it, and leaves nothing behind."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from hotpair import child

CLONE_NEWNET = 0x40000000  # sched.h
LIBC = ctypes.CDLL(None, use_errno=True)


def missing(*programs: str) -> str:
    """Return why there can be no such namespace with these programs, or ""."""
    if os.geteuid():
        return "needs root"
    if lacking := [one for one in ("unshare", "ip", *programs) if not shutil.which(one, path=child.PATH)]:
        return f"no {', '.join(lacking)} here"
    return "no namespaces here" if subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode else ""


def enter(path: str) -> None:
    with open(path, "rb") as file:
        if LIBC.setns(file.fileno(), CLONE_NEWNET):  # os.setns is of Python 3.12
            raise OSError(ctypes.get_errno(), "setns")


class Space:
    """A network namespace."""

    def __init__(self) -> None:
        argv = ["unshare", "-n", "sh", "-c", "ip link set lo up && echo up; exec cat"]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout and self.process.stdout.readline() == b"up\n"

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Have this thread, and what it starts, in the namespace."""
        with open("/proc/thread-self/ns/net", "rb") as before:
            enter(f"/proc/{self.process.pid}/ns/net")
            try:
                yield
            finally:
                enter(f"/proc/thread-self/fd/{before.fileno()}")

    def run(self, *argv: str, stdin: str = "") -> str:
        """Run what must succeed there, and return what it prints."""
        with self.inside():
            done = subprocess.run(argv, input=stdin, capture_output=True, text=True, env=child.environment())
        assert done.returncode == 0, (argv, done.stderr)
        return done.stdout

    def end(self) -> None:
        self.process.communicate()
