"""Standby: a tree is not sent while a file says so, or while a program runs that must not be disturbed."""

import os

from hotpair import paths
from hotpair.config import AnySet
from hotpair.exits import Later
from hotpair.treeset import TreeSet

COMM = 15  # bytes of a program's name that the kernel keeps (proc(5), /proc/PID/comm)


class Standby(Later):
    """A person asked for this: nothing is wrong, and nothing is sent."""

    kind = "standby"


def check(files: AnySet) -> None:
    """Raise Standby when the set is not to be sent now."""
    if not isinstance(files, TreeSet):
        return
    if files.standby_file and os.path.lexists(paths.under(files.standby_file)):
        raise Standby(f"{files.standby_file} is there", "remove it, and what waits is sent")
    if files.banned and running(files.banned):
        raise Standby(f"{files.banned} runs", "when it has ended, what waits is sent")


def running(program: str) -> bool:
    """Say whether a program of that name runs, as the kernel calls it or as the file that it is."""
    wanted = os.fsencode(program)
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/comm", "rb") as file:
                if file.read().rstrip(b"\n") == wanted[:COMM]:
                    return True
            if os.path.basename(os.readlink(f"/proc/{pid}/exe")) == program:
                return True
        except OSError:  # ended meanwhile, or a thread of the kernel
            continue
    return False
