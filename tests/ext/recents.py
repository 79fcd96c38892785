"""A node whose tables of xt_recent are real: in a network namespace, with real rules."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from hotpair.sessions import recent_proc
from hotpair.sessions.backend import Loaded
from hotpair.sessions.recent import Recent
from hotpair.sessions.record import Entry, Table
from tests.ext.netspaces import Space

LONG = bool(os.environ.get("HOTPAIR_LONG"))
LATE = 250.0  # milliseconds beyond the interval that an entry may look too young on the standby
ONLY_PROC = ["-i", "nothing"]  # a rule that makes a table and meets no packet
MINE = [f"127.1.0.{host}" for host in range(1, 81)]
SIX = [f"2001:db8::{host:x}" for host in range(1, 21)]  # 100 in all, which is what a table has room for


def missing() -> str:
    if os.geteuid():
        return "needs root"
    if lacking := [
        name for name in ("unshare", "ip", "iptables", "ip6tables", "iptables-save") if not shutil.which(name)
    ]:
        return f"no {', '.join(lacking)} here (package iptables)"
    rule = "iptables -A INPUT -m recent --name T --set && test -e /proc/net/xt_recent/T"
    if subprocess.run(["unshare", "-n", "sh", "-c", rule], capture_output=True).returncode:
        return "no namespaces here, or no xt_recent in this kernel"
    return ""


WHY = missing()


class Node(Space):
    """A node whose tables are read and written there."""

    def __init__(self) -> None:
        super().__init__()
        self.recent = Recent()

    def rule(self, name: str, *words: str, family: str = "iptables") -> None:
        self.run(family, "-A", "INPUT", *(words or (*ONLY_PROC, "-m", "recent", "--name", name, "--set")))

    def write(self, name: str, *lines: str) -> None:
        with self.inside():
            for line in lines:
                Path(recent_proc.PLACE, name).write_text(line)

    def dump(self, name: str) -> Table:
        with self.inside():
            return self.recent.dump(name)

    def load(self, wanted: Table, last: Table | None = None) -> Loaded:
        with self.inside():
            return self.recent.load(wanted, last)

    def reap(self, name: str, due: dict[str, str]) -> None:
        with self.inside():
            self.recent.reap(name, due)

    def hits(self, name: str) -> dict[str, int]:
        return {key: entry.hits for key, entry in self.dump(name).entries.items()}


def table(rows: Mapping[str, tuple[float, ...]], clock: float = 1e9, **facts: int) -> Table:
    return Table("recent", "T", 0, clock, {key: Entry(key, len(ages), ages) for key, ages in rows.items()}, dict(facts))
