"""Two nodes on this machine: two prefixes, the real programs, `peer = local:PREFIX`."""

import json
import os
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

BIN = Path(__file__).parents[2] / "bin"


class Said(NamedTuple):
    """What a program said and how it ended."""

    code: int
    out: str
    err: str


class Node:
    """One prefix."""

    def __init__(self, root: Path, peer: Path) -> None:
        self.root, self.peer = root, peer
        for directory in (root, root / "etc", root / "etc/hotpair", root / "srv"):
            directory.mkdir(mode=0o755)
            directory.chmod(0o755)

    def configure(self, sets: str, node: str = "") -> None:
        self.write_ini("hotpair.ini", f"[node]\nname = {self.root.name}\npeer = local:{self.peer}\n{node}{sets}")

    def write_ini(self, name: str, text: str) -> None:
        file = self.root / "etc/hotpair" / name
        file.write_text(text)
        file.chmod(0o644)

    def run(self, program: str, *words: str, env: dict[str, str] | None = None) -> Said:
        """Run one of our programs as a person would; its output is not a terminal."""
        done = subprocess.run(
            [sys.executable, "-IS", str(BIN / program), *words],
            env={"PATH": os.environ["PATH"], "HOTPAIR_ROOT": str(self.root), **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=60,
        )
        return Said(done.returncode, *(os.fsdecode(text) for text in (done.stdout, done.stderr)))

    def python(self, code: str) -> str:
        """Run some lines against our modules as root of this node's prefix, and return what they print."""
        begin = f"import sys; sys.path.insert(0, {str(BIN.parent / 'lib')!r}); import hotpair.packages as p; p.add()\n"
        done = subprocess.run(
            [sys.executable, "-IS", "-c", begin + code],
            env={"PATH": os.environ["PATH"], "HOTPAIR_ROOT": str(self.root)},
            capture_output=True,
            check=True,
            text=True,
            timeout=60,
        )
        return done.stdout

    def hotpair(self, *words: str, env: dict[str, str] | None = None) -> Said:
        return self.run("hotpair", *words, env=env)

    def json(self, *words: str) -> Any:
        return json.loads(self.hotpair(*words, "--json").out)

    def live(self, path: str) -> Path:
        return Path(f"{self.root}{path}")

    def write(self, path: str, text: str) -> None:
        """Write a file whose mtime no earlier one has, so that the newest is the one written last."""
        time.sleep(0.03)
        self.live(path).write_text(text)

    def text(self, path: str) -> str:
        return self.live(path).read_text()

    def sweep(self) -> Said:
        return self.run("psync")

    def snapshot(self) -> dict[str, object]:
        """Return every file of a prefix with its content and stat, and every row of its archive."""
        found: dict[str, object] = {}
        for path in sorted(self.root.rglob("*")):
            if path.name.startswith("archive.db") or path.suffix == ".lock":
                continue
            seen = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(seen.st_mode) else b""
            found[str(path)] = (seen.st_ino, seen.st_mode, content) + ((seen.st_mtime_ns,) if content else ())
        with sqlite3.connect(self.root / "var/lib/hotpair/archive.db") as db:
            for table in ("path", "fact", "problem", "content", "owed"):
                found[table] = db.execute(f"SELECT * FROM {table}").fetchall()
        return found


class Pair:
    """alpha and beta."""

    def __init__(self, directory: Path, sets: str = "[files demo]\npaths =\n    /srv/a.conf\n    /srv/*.txt\n") -> None:
        directory.chmod(0o755)
        self.alpha = Node(directory / "alpha", directory / "beta")
        self.beta = Node(directory / "beta", directory / "alpha")
        for node in self.nodes:
            node.configure(sets)

    @property
    def nodes(self) -> tuple[Node, Node]:
        return self.alpha, self.beta

    def agree(self, path: str, text: str) -> None:
        """Have both nodes agree on a content."""
        self.alpha.write(path, text)
        said = self.alpha.sweep()
        assert said.code == 0, said
        assert self.beta.text(path) == text

    def clash(self, mine: str = "alpha wrote", theirs: str = "beta wrote it") -> None:
        """Have both nodes change one file, beta last, and compare."""
        self.agree("/srv/a.conf", "base")
        self.alpha.write("/srv/a.conf", mine)
        self.beta.write("/srv/a.conf", theirs)
        self.alpha.sweep()

    def cut(self) -> None:
        """Make beta unreachable for alpha: its end refuses for want of a configuration."""
        (self.beta.root / "etc/hotpair/hotpair.ini").rename(self.beta.root / "etc/hotpair/away")

    def mend(self) -> None:
        (self.beta.root / "etc/hotpair/away").rename(self.beta.root / "etc/hotpair/hotpair.ini")
