"""Files of a tree that have several names, and files with holes: what of that reaches the peer."""

import os
import shutil
from pathlib import Path

import pytest

from hotpair import beneath, scan, stage
from hotpair.filesset import FilesSet
from hotpair.stage import Decided
from tests.ext.trees import SETS, fill
from tests.ext.twonodes import Node

HOLE = 1 << 20


def link(node: Node, name: str, *names: str) -> None:
    for other in names:
        node.live(f"/srv/data/{other}").parent.mkdir(parents=True, exist_ok=True)
        os.link(node.live(f"/srv/data/{name}"), node.live(f"/srv/data/{other}"))


def inodes(node: Node, *names: str) -> int:
    """Return how many files the names stand for."""
    return len({node.live(f"/srv/data/{name}").stat().st_ino for name in names})


@pytest.mark.parametrize("size", [5, 100_000, 2_000_000], ids=["small", "by rsync", "large"])
def test_names_of_one_new_file_are_one_file_on_the_peer(trees, size):
    for node in trees.nodes:
        node.configure(SETS, "large = 1M\n")
    trees.alpha.live("/srv/data/a").write_bytes(os.urandom(size))
    link(trees.alpha, "a", "b", "d/c")
    trees.sync()
    assert inodes(trees.beta, "a", "b", "d/c") == 1


def test_further_name_of_a_file_that_both_have_is_a_link_on_the_peer(trees):
    fill(trees.alpha, "a")
    trees.sync()
    trees.sync()
    link(trees.alpha, "a", "b")
    trees.sync()
    assert inodes(trees.beta, "a", "b") == 1


def test_name_of_a_file_that_the_peer_refuses_crosses_as_a_file_of_its_own(trees):
    """Where the other name is to go there is a directory, which stays for what was changed in it."""
    fill(trees.alpha, "d/f")
    trees.sync()
    shutil.rmtree(trees.beta.live("/srv/data/d"))
    fill(trees.beta, "d")
    link(trees.beta, "d", "z")
    trees.alpha.live("/srv/data/d/f").unlink()
    trees.alpha.live("/srv/data/d/f").symlink_to("x")
    trees.alpha.run("psync", "--once")
    assert trees.alpha.text("/srv/data/z") == "d"


def test_edit_in_place_of_a_linked_file_leaves_it_linked(trees):
    fill(trees.alpha, "a")
    link(trees.alpha, "a", "b")
    trees.sync()
    trees.alpha.write("/srv/data/a", "edited")
    trees.sync()
    assert trees.beta.text("/srv/data/b") == "edited"
    assert inodes(trees.beta, "a", "b") == 1


@pytest.mark.parametrize("side", ["alpha", "beta"])
def test_name_that_an_editor_replaced_comes_apart_on_both_nodes(trees, side):
    fill(trees.alpha, "a")
    link(trees.alpha, "a", "b")
    trees.sync()
    node = getattr(trees, side)
    node.write("/srv/data/new", "edited")
    node.live("/srv/data/new").rename(node.live("/srv/data/a"))
    trees.sync(node)
    assert [inodes(one, "a", "b") for one in trees.nodes] == [2, 2]
    assert [one.text("/srv/data/b") for one in trees.nodes] == ["a", "a"]


def test_generation_of_a_linked_file_does_not_change_with_its_other_name(trees):
    fill(trees.alpha, "a")
    link(trees.alpha, "a", "b")
    trees.sync()
    trees.alpha.write("/srv/data/new", "edited")
    trees.alpha.live("/srv/data/new").rename(trees.alpha.live("/srv/data/a"))
    trees.sync()
    with open(trees.beta.live("/srv/data/b"), "r+") as other:
        other.write("b")
    assert (trees.beta.root / "srv/data/.hotpair/data.kept/1/1/a").read_text() == "a"


def test_chmod_of_a_linked_file_crosses_to_both_names(trees):
    fill(trees.alpha, "a")
    link(trees.alpha, "a", "b")
    trees.sync()
    trees.alpha.live("/srv/data/a").chmod(0o600)
    trees.sync()
    assert inodes(trees.beta, "a", "b") == 1


def test_linked_name_that_has_a_check_is_checked_as_a_file_of_its_own(trees):
    trees.beta.write_ini("syncr.ini", "[/srv/data/*.conf]\ncheck = grep -q good %s\n")
    fill(trees.alpha, "a")
    link(trees.alpha, "a", "b.conf")
    assert trees.alpha.run("psync").code == 75
    assert trees.beta.text("/srv/data/a") == "a"
    assert not trees.beta.live("/srv/data/b.conf").exists()


def test_link_to_a_file_that_is_another_by_now_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOTPAIR_ROOT", str(tmp_path))
    (tmp_path / "f").write_text("proposed")
    proposed = scan.look("/f")[0]
    assert proposed
    (tmp_path / "f").write_text("replaced")
    decided = Decided("/live", None, proposed, "", twin="/f")
    with beneath.place("/swap") as at, pytest.raises(scan.Unsettled):
        stage.make(FilesSet("demo", ("/live",), 6, "store", 0.0, "newest"), decided, at, at)
    assert not (tmp_path / "swap").exists()


@pytest.mark.parametrize("node", ["", "rsync-above = 0\n"], ids=["inside the conversation", "by rsync"])
@pytest.mark.parametrize("end", [b"", b"end"], ids=["hole at the end", "content at the end"])
def test_holes_stay_holes_with_the_peer_and_in_what_is_kept(trees, node, end):
    for one in trees.nodes:
        one.configure(SETS, node or "rsync-above = 16M\n")
    file = trees.alpha.live("/srv/data/f")
    file.write_bytes(b"begin")
    os.truncate(file, HOLE)
    with open(file, "ab") as out:
        out.write(end)
    os.truncate(file, HOLE + len(end))
    trees.sync()
    received = trees.beta.live("/srv/data/f")
    assert received.stat().st_blocks * 512 < HOLE // 8
    assert received.read_bytes() == file.read_bytes()


def test_copy_of_a_file_with_holes_has_them(tmp_path: Path) -> None:
    content = b"begin" + bytes(HOLE) + b"middle" + bytes(HOLE)
    (tmp_path / "f").write_bytes(content)
    with open(tmp_path / "f", "rb") as source, open(tmp_path / "copy", "wb") as copy:
        scan.digest_of(source.fileno(), copy.fileno())
    assert (tmp_path / "copy").read_bytes() == content
    assert (tmp_path / "copy").stat().st_blocks * 512 < HOLE // 8
