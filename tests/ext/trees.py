"""Two nodes that share a tree, and an outsider's look at it."""

import hashlib
import os
import sqlite3
import stat
import subprocess
import time
from pathlib import Path

import pytest

from tests.ext.twonodes import Node, Pair

SETS = "[tree data]\nroot = /srv/data\n"
SOURCE = ("d/f", "d/deep/er", "e/g", "stays", *(f"many/{n}" for n in range(20)))  # what fills a tree


def tree_of(root: Path) -> dict[str, tuple[object, ...]]:
    """Read a tree as an outsider does: kind, mode, owner, time, content or value, and attributes of each path."""
    found: dict[str, tuple[object, ...]] = {}
    folders = [root]
    while folders:  # os.walk calls itself, and there are deep trees
        folder = folders.pop()
        for path in map(folder.joinpath, os.listdir(folder)):
            if path == root / ".hotpair":
                continue
            seen = path.lstat()
            kind = stat.S_IFMT(seen.st_mode)
            content: object = ""
            if kind == stat.S_IFLNK:
                content = os.readlink(path)
            elif kind == stat.S_IFREG:
                content = path.read_bytes()
            elif kind == stat.S_IFDIR:
                folders.append(path)
            mtime = 0 if kind == stat.S_IFDIR else seen.st_mtime_ns
            names = sorted(os.listxattr(path, follow_symlinks=False))
            attributes = tuple((n, os.getxattr(path, n, follow_symlinks=False)) for n in names)
            mode = 0 if kind == stat.S_IFLNK else seen.st_mode
            found[str(path.relative_to(root))] = (kind, mode, seen.st_uid, seen.st_gid, mtime, content, attributes)
    return found


class Trees(Pair):
    """alpha and beta with one tree."""

    def __init__(self, directory: Path, sets: str = SETS) -> None:
        super().__init__(directory, sets)
        for node in self.nodes:
            (node.root / "srv/data").mkdir()

    def equal(self) -> bool:
        return tree_of(self.alpha.root / "srv/data") == tree_of(self.beta.root / "srv/data")

    def sync(self, node: Node | None = None) -> None:
        said = (node or self.alpha).run("psync")
        assert said.code == 0, said
        assert said.out.startswith("data: in sync"), said
        assert tree_of(self.alpha.root / "srv/data") == tree_of(self.beta.root / "srv/data")


def fill(node: Node, *names: str) -> None:
    """Make files whose content is their name, and equal times where they are made at once."""
    now = time.time_ns()
    for name in names:
        path = node.live("/srv/data/" + name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(name))
        os.utime(path, ns=(now, now))


def kept(node: Node, name: str = "*") -> set[str]:
    """Return the contents of the generations on a node, of files of some name."""
    return {path.read_text() for path in node.live("/srv/data/.hotpair/data.kept").rglob(name) if path.is_file()}


# One end alone, in a process that is told what happens to it

LIVE = "/srv/data/f"
GIVE = f"""
import os
import sqlite3
from hotpair import apply, config, run
from hotpair.stage import Decided
scope = run.scope(config.load(), "data")
row = scope.archive.row({LIVE!r})

def killed_after(real):
    return lambda *words, **named: (real(*words, **named), os.kill(os.getpid(), 9))

def give(**new):
    apply.apply(scope.files, Decided({LIVE!r}, row.seen, row.seen._replace(**new), "", row.signature))
"""


RECEIVE = (
    GIVE
    + """
import subprocess
from hotpair import archive, scan, settle

reads = []
real = scan.digest_of
scan.digest_of = lambda fd, *more: (reads.append(fd), real(fd, *more))[1]

def stage(name, content):
    place = apply.stage_directory(scope.files, name) + "/staged-" + name.rpartition("/")[2]
    os.close(apply.open_inbox(scope.files))
    with open(os.environ["HOTPAIR_ROOT"] + place, "wb") as out:
        out.write(content)
    return place

def receive(changes, between):
    with archive.transaction(scope.archive.db):
        settlement = settle.Settlement(scope, "alpha", False)
        for change in changes:
            verdict = settlement.settle(change, {"action": "take"})
            print(verdict["action"], verdict["why"])
        reads.clear()
        between()
        settlement.record()
        print(len(reads), "read")
"""
)


def killed(node: Node, code: str) -> None:
    """Have a node run some lines of GIVE that end in kill -9."""
    with pytest.raises(subprocess.CalledProcessError) as caught:
        node.python(GIVE + code)
    assert caught.value.returncode == -9


def received(node: Node, changes: str, between: str = "pass", first: str = "") -> str:
    """Have a node put what a peer sends, and something done before it is recorded; return what it prints.

    That is the verdicts, and how many files are read for the record.
    """
    return node.python(f"""{RECEIVE}
live = {str(node.live(LIVE))!r}
def between():
    {between}
state = scan.State("file", 1, 0o644, 0, 0, {10**18}, {hashlib.blake2b(b"f", digest_size=32).hexdigest()!r}, ())
{first}
receive([{changes}], between)
""")


def corrupt(node: Node, path: str) -> None:
    """Change a content, and have the archive take its new signature for the one it knows."""
    file = node.live(path)
    before = file.stat()
    file.write_bytes(file.read_bytes().upper())
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    old, new = (f"{s.st_dev} {s.st_ino} {s.st_size} {s.st_mtime_ns} {s.st_ctime_ns}" for s in (before, after))
    db = sqlite3.connect(node.root / "var/lib/hotpair/archive.db")
    assert db.execute("UPDATE path SET signature = ? WHERE signature = ?", (new, old)).rowcount == 1
    db.commit()
    db.close()
    for index in (node.root / "var/lib/hotpair/sets/data/folders").iterdir():
        index.write_bytes(index.read_bytes().replace(old.encode(), new.encode()))
