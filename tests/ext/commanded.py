"""A prefix whose paths have commands that belong to them."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

from hotpair import archive, sections, tasks
from hotpair.archive import Archive

LIB = str(Path(__file__).parents[2] / "lib")
RUN_DUE = """
import signal, sys
from hotpair import archive, tasks
signal.signal(signal.SIGINT, signal.default_int_handler)  # `make test &` ignores it
sys.exit(tasks.run_due(archive.connect()))
"""
HOSTILE = [
    "a;touch pwned;",
    "a\ntouch pwned\n",
    "$(touch pwned)",
    "`touch pwned`",
    "-rf",
    "a' 'b",
    'a" "b',
    "\udcff\udcfe",
    "%s",
    "é",
    "*",
    "x" * 255,
]


class Prefix:
    """A prefix with its configuration, and one archive in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for directory in (root / "etc", root / "etc/hotpair", root / "out"):
            directory.mkdir(mode=0o755)
        self._write("hotpair.ini", "[node]\nname = alpha\npeer = ssh:beta\n[files x]\npaths = /etc/*\n")
        self.db = archive.connect()
        self.archive = Archive(self.db, "beta", "x")

    def _write(self, name: str, text: str) -> None:
        file = self.root / "etc/hotpair" / name
        file.write_text(text)
        file.chmod(0o644)

    def syncr(self, text: str) -> tuple[sections.Section, ...]:
        """Make a text syncr.ini; OUT in it is the directory that the test looks into."""
        self._write("syncr.ini", text.replace("OUT", str(self.root / "out")))
        return sections.load()

    def owe(self, *lives: str) -> None:
        for live in lives:
            tasks.owe(self.archive, sections.for_path(sections.load(), live, True), live)

    def out(self, name: str) -> str:
        file = self.root / "out" / name
        return os.fsdecode(file.read_bytes()) if file.exists() else ""

    def rows(self) -> list[sqlite3.Row]:
        return self.db.execute("SELECT path, attempts, due, failure FROM owed ORDER BY id").fetchall()

    def log(self) -> list[str]:
        file = self.root / "var/log/hotpair.log"
        return file.read_text().splitlines() if file.exists() else []

    def later(self) -> None:
        """Let every pause be over, but leave what was given up."""
        self.db.execute("UPDATE owed SET due = 0 WHERE due < 9e99")

    def start(self) -> "subprocess.Popen[bytes]":
        """Start a process that runs what is due."""
        return subprocess.Popen([sys.executable, "-c", RUN_DUE], env={**os.environ, "PYTHONPATH": LIB})


def lives(pid: int) -> bool:
    """Say whether a process runs; a corpse that its parent has not fetched does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
