"""A mount namespace in which database servers run at their usual places, and nothing of this machine's is touched."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from tests.lab.spaces import PRIVATELY

TOP = Path(__file__).parents[2]
# not root's own home: his .my.cnf or .pgpass must play no part
CLEAN = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/nowhere"}
PLACES = {
    "/var/tmp": "root",
    "/var/lib/mysql": "mysql",
    "/run/mysqld": "mysql",
    "/var/lib/postgresql": "postgres",
    "/run/postgresql": "postgres",
    "/etc/ldap/slapd.d": "openldap",
    "/var/lib/ldap": "openldap",
    "/var/spool/cron": "root",
}
FURNISHED = """
while [ $# -gt 0 ]; do
    if [ -d "$1" ]; then mount -t tmpfs -o mode=755 tmpfs "$1"; chown "$2:" "$1"; fi
    shift 2
done
echo ready
exec sleep 600
"""


def missing(*programs: str) -> str:
    """Return why databases cannot run here, or ""."""
    if os.geteuid():
        return "needs root: servers run in a namespace of their own"
    lacking = [
        program for program in (*programs, "unshare", "nsenter") if not shutil.which(program, path=CLEAN["PATH"])
    ]
    return f"no {', '.join(lacking)} here" if lacking else ""


class Space:
    """One such namespace: a node with its servers."""

    def __init__(self) -> None:
        argv = ["unshare", "--mount", "--propagation", "unchanged", "--"]
        argv += ["/bin/sh", "-c", PRIVATELY, "sh", next(iter(PLACES)), "/bin/sh", "-ec", FURNISHED, "sh"]
        argv += [word for item in PLACES.items() for word in item]
        self.keeper = subprocess.Popen(argv, stdout=subprocess.PIPE, env=CLEAN, text=True, umask=0o022)
        assert self.keeper.stdout and self.keeper.stdout.readline() == "ready\n"
        self.servers: list[subprocess.Popen[bytes]] = []

    def inside(self, *words: str | Path) -> list[str]:
        place = f"/proc/{self.keeper.pid}"  # its root is another one than its mounts' in a chroot
        return ["nsenter", f"--mount={place}/ns/mnt", f"--root={place}/root", "--wd=/", "--", *map(str, words)]

    def run(self, *words: str | Path, stdin: str = "", **facts: str) -> "subprocess.CompletedProcess[str]":
        """Run a command in it, with a clean environment."""
        argv = self.inside(*words)
        return subprocess.run(
            argv, input=stdin, env={**CLEAN, **facts}, capture_output=True, text=True, timeout=120, umask=0o022
        )

    def done(self, *words: str | Path, stdin: str = "", **facts: str) -> str:
        """Run a command that must succeed, and return what it printed."""
        ran = self.run(*words, stdin=stdin, **facts)
        assert ran.returncode == 0, (words, ran.stdout, ran.stderr)
        return ran.stdout

    def serve(self, *words: str, answers: tuple[str, ...]) -> None:
        """Start a server, and wait until it answers."""
        self.servers.append(
            subprocess.Popen(
                self.inside(*words), env=CLEAN, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, umask=0o022
            )
        )
        until = time.monotonic() + 60
        while self.run(*answers).returncode:
            assert self.servers[-1].poll() is None and time.monotonic() < until, f"{words[0]} does not start"
            time.sleep(0.05)

    def end(self) -> None:
        for server in self.servers:
            server.send_signal(signal.SIGTERM)
        for server in self.servers:
            server.wait(30)
        self.keeper.terminate()
        self.keeper.wait(30)
