"""Namespaces, and the processes in them as this machine sees them: what the lab is built from."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

BASE_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "USER": "root",
    "LOGNAME": "root",
    "SHELL": "/bin/bash",
    "LANG": "C.UTF-8",
}
NAMESPACES = ["--net", "--mount", "--pid", "--uts", "--ipc", "--propagation", "unchanged"]
# See to it that no mount below $1 shows up outside. In a chroot / is no mount point and cannot be made private; then $1
# becomes one, which is enough unless what it lies on is shared.
PRIVATELY = """\
if ! mount --make-rprivate / 2>/dev/null; then
    mount --bind "$1" "$1" || exit
    case $(findmnt -no PROPAGATION --mountpoint "$1") in
    *shared*) umount "$1"; echo "this chroot shares its mounts: mount --make-private what it lies on" >&2; exit 1 ;;
    esac
fi
shift
exec "$@"
"""


class LabError(Exception):
    """The lab cannot do that; the message says what to do instead."""

    def __init__(self, message: str, code: int = os.EX_UNAVAILABLE) -> None:
        super().__init__(message)
        self.code = code


def run(*argv: str, environment: dict[str, str] | None = None) -> str:
    """Run a command and return its output. Raises LabError with the last thing it complained of."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment)
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line and not line.startswith("make")]
        raise LabError(f"{argv[0]}: {lines[-1] if lines else f'exit {done.returncode}'}")
    return done.stdout


def wait_until(predicate: Callable[[], T], seconds: float, pause: float = 0.005) -> T:
    """Return the first true value of `predicate()`, or its last one when the time is over; never sleep blindly."""
    deadline = time.monotonic() + seconds
    while not (value := predicate()) and time.monotonic() < deadline:
        time.sleep(pause)
    return value


def apart(folder: str, *command: str) -> list[str]:
    """Return argv that runs a command as pid 1 of new namespaces, where it may mount things below a folder."""
    # --kill-child: they die with unshare, however that ends
    return ["unshare", *NAMESPACES, "--fork", "--kill-child", "/bin/sh", "-c", PRIVATELY, "sh", folder, *command]


def may_build(folder: str = "/run") -> str:
    """Return why this process cannot build a pair in a folder, "" if it can."""
    if os.geteuid():
        return "the lab needs root: run it with sudo"
    for program in ("unshare", "nsenter", "ip", "tc", "ssh-keygen", "sshd", "incrond", "cron", "rsync", "make"):
        if not shutil.which(program, path=BASE_ENVIRONMENT["PATH"]):
            return f"no {program} here: `make lab` installs what is missing"
    try:
        run(*apart(folder, "true"))
    except LabError as error:
        return f"no new namespaces here (a container?): {error}"
    return ""


def environment_of(pid: str) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:  # gone, or dying
        return []


def field_of(pid: str, name: str) -> list[str]:
    """Return the words of one line of /proc/PID/status, none when the process is gone."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            return next((line.split()[1:] for line in file if line.startswith(name + ":")), [])
    except OSError:
        return []


def all_gone(pids: list[str]) -> bool:
    """Say whether no process holds anything. pid 1 of a node becomes a zombie only after all others there are gone."""
    return all(field_of(pid, "State")[:1] in ([], ["Z"], ["X"]) for pid in pids)
