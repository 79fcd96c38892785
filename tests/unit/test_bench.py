"""What the benchmark calls identical: a judge that cannot say no is none."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bench import trees


def rewritten(tree: Path) -> None:
    found = (tree / "a/f").stat()
    (tree / "a/f").write_bytes(trees.content(7))
    os.utime(tree / "a/f", ns=(found.st_atime_ns, found.st_mtime_ns))


def later(nanoseconds: int) -> Callable[[Path], None]:
    def do(tree: Path) -> None:
        then = (tree / "a/f").stat().st_mtime_ns + nanoseconds
        os.utime(tree / "a/f", ns=(then, then))

    return do


CHANGES: dict[str, tuple[Callable[[Path], object], bool]] = {
    "nothing": (lambda tree: None, True),
    "hotpair's inbox, at the root": (lambda tree: (tree / ".hotpair").mkdir(), True),
    "the same name further down": (lambda tree: (tree / "a/.hotpair").mkdir(), False),
    "a content of equal size and time": (rewritten, False),
    "a mode": (lambda tree: (tree / "a/f").chmod(0o604), False),
    "a directory's mode": (lambda tree: (tree / "a").chmod(0o705), False),
    "an empty directory more": (lambda tree: (tree / "b").mkdir(), False),
    "a file less": (lambda tree: (tree / "a/g").unlink(), False),
    "a file's temporary name": (lambda tree: (tree / "a/f").rename(tree / "a/.f.XyZ123"), False),
    "a time rounded to a microsecond": (later(-999), True),
    "a time rounded to a millisecond": (later(-999_999), False),
}


@pytest.mark.parametrize("change, alike", CHANGES.values(), ids=CHANGES.keys())
def test_trees_are_identical_only_if_users_cannot_tell_them_apart(tmp_path: Path, change, alike: bool):
    roots = [tmp_path / "one", tmp_path / "other"]
    trees.plant(map(str, roots), ["a/f", "a/g"])
    change(roots[1])
    assert trees.compare(*map(str, roots)).alike == alike


@pytest.mark.parametrize("work", trees.works(10), ids=lambda work: work.name)
def test_a_work_does_what_its_list_says(tmp_path: Path, work: trees.Work):
    root = tmp_path / "tree"
    trees.plant([str(root)], work.before)
    before = trees.names(str(root))
    work.do(str(root))
    came = {name for name in trees.names(str(root)) - before if (root / name).is_file()}
    # a bare rsync is told this list: what is not on it would count as never carried
    assert came == set(work.new) or not work.new
    assert trees.names(str(root)) != before
    assert len({(root / name).read_bytes() for name in work.new}) == len(work.new)
