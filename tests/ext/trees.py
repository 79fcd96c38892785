"""Two nodes that share a tree, and an outsider's look at it."""

import os
import stat
import time
from pathlib import Path

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
