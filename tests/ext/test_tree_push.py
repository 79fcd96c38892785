"""A tree that goes one way: what anybody does to it on the other node is put back, kept and listed."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.ext.trees import Trees, fill, tree_of

SETS = "[tree data]\nroot = /srv/data\nmode = push alpha\n"


@pytest.fixture
def pair(tmp_path: Path) -> Trees:
    pair = Trees(tmp_path, SETS)
    fill(pair.alpha, "f", "d/g", "d/h", "stays")
    pair.sync()
    return pair


def kept(pair: Trees) -> set[str]:
    """Return the contents that are generations on beta."""
    below = pair.beta.root / "srv/data/.hotpair/data.kept"
    return {path.read_text() for path in below.rglob("*") if path.is_file()}


def _file_of_directory(top: Path) -> None:
    shutil.rmtree(top / "d")
    (top / "d").write_text("written")


def _directory_of_file(top: Path) -> None:
    (top / "f").unlink()
    (top / "f/e").mkdir(parents=True)
    (top / "f/e/new").write_text("written too")


def _new_directory(top: Path) -> None:
    (top / "new/er").mkdir(parents=True)
    (top / "new/er/file").write_text("written there")


MISDEEDS: dict[str, Callable[[Path], object]] = {  # each in a directory of its own, which holds f, d/g and d/h
    "edit": lambda top: (top / "f").write_text("edited"),
    "chmod": lambda top: (top / "f").chmod(0o600),
    "chmod of a directory": lambda top: (top / "d").chmod(0o700),
    "delete": lambda top: (top / "f").unlink(),
    "creation": lambda top: (top / "new").write_text("created"),
    "creation of directories": _new_directory,
    "move": lambda top: (top / "f").rename(top / "moved"),
    "move of a directory": lambda top: (top / "d").rename(top / "moved"),
    "file instead of a directory": _file_of_directory,
    "directory instead of a file": _directory_of_file,
}
WRITTEN = {"edited", "created", "written", "written too", "written there"}


@pytest.fixture
def misused(tmp_path: Path) -> Trees:
    """Return a pair on whose receiver somebody did all that can be done."""
    pair = Trees(tmp_path, SETS)
    fill(pair.alpha, *(f"{name}/{file}" for name in MISDEEDS for file in ("f", "d/g", "d/h")))
    pair.sync()
    for name, misdeed in MISDEEDS.items():
        misdeed(pair.beta.root / "srv/data" / name)
    return pair


@pytest.mark.parametrize("first", ["event on the receiver", "sweep of the source"])
def test_what_was_done_on_the_receiver_is_put_back_kept_and_listed(misused, first):
    before = tree_of(misused.alpha.root / "srv/data")
    if first.startswith("event"):
        assert misused.beta.run("syncr", "data", "0").code == 0
    else:
        misused.sync()
    assert tree_of(misused.alpha.root / "srv/data") == before
    assert tree_of(misused.beta.root / "srv/data") == before
    assert kept(misused) >= WRITTEN
    for node in misused.nodes:
        assert {one["path"].split("/")[3] for one in node.json("conflicts")} == MISDEEDS.keys()


@pytest.mark.parametrize("node", [0, 1])
def test_dry_run_says_that_it_will_be_put_back(misused, node):
    way = ("send", "receive")[node]
    step = {"edit": "put", "chmod": "meta", "delete": "put", "creation": "delete"}
    lines = misused.nodes[node].run("psync", "--dry-run").out.splitlines()
    for name, operation in step.items():
        found = [line for line in lines if f"/srv/data/{name}/" in line]
        assert len(found) == 1
        assert f"{way} {operation} /srv/data/{name}/" in found[0]
        assert "conflict: alpha's wins" in found[0]


def test_tree_that_was_removed_on_the_receiver_is_put_back_whatever_its_size(pair):
    for path in ("f", "d/g", "d/h", "stays"):
        pair.beta.live(f"/srv/data/{path}").unlink()
    pair.beta.live("/srv/data/d").rmdir()
    assert pair.beta.run("syncr", "data", "0").code == 0
    assert pair.beta.text("/srv/data/d/g") == "d/g"


def test_what_the_source_does_crosses_and_is_no_conflict(pair):
    pair.alpha.write("/srv/data/f", "edited")
    pair.alpha.live("/srv/data/stays").unlink()
    pair.alpha.live("/srv/data/d").rename(pair.alpha.live("/srv/data/e"))
    pair.sync()
    assert pair.alpha.json("conflicts") == pair.beta.json("conflicts") == []


def test_source_wins_over_a_newer_edit_and_over_an_edit_of_what_it_removed(pair):
    pair.alpha.write("/srv/data/f", "of the source")
    pair.alpha.live("/srv/data/stays").unlink()
    pair.beta.write("/srv/data/f", "newer")
    pair.beta.write("/srv/data/stays", "edited")
    pair.alpha.write("/srv/data/d/g", "below what is a file there")
    shutil.rmtree(pair.beta.live("/srv/data/d"))
    pair.beta.write("/srv/data/d", "file")
    pair.sync()
    assert pair.beta.text("/srv/data/f") == "of the source"
    assert not pair.beta.live("/srv/data/stays").exists()
    assert {"newer", "edited", "file"} <= kept(pair)


def test_many_creations_on_the_receiver_wait_for_a_word_on_the_source(pair):
    fill(pair.beta, *(f"new{n}" for n in range(20)))
    assert pair.alpha.run("psync").code == 75
    assert pair.beta.text("/srv/data/new1") == "new1"
    assert pair.alpha.hotpair("approve", "data").code == 0
    pair.sync()
    assert not pair.beta.live("/srv/data/new1").exists()
    assert "new1" in kept(pair)


def test_dry_run_counts_the_deletes_as_the_sweep_does(pair):
    fill(pair.alpha, *(f"old{n}" for n in range(9)))
    pair.sync()
    fill(pair.beta, *(f"new{n}" for n in range(12)))
    assert "hold:" not in pair.alpha.run("psync", "--dry-run").out
    pair.sync()


def test_directory_that_the_source_removed_and_that_holds_what_is_left_out_is_listed(tmp_path):
    pair = Trees(tmp_path, f"{SETS}filter =\n    - *.o\n")
    fill(pair.alpha, "d/f", "stays", "more")
    pair.sync()
    fill(pair.beta, "d/x.o")
    shutil.rmtree(pair.alpha.live("/srv/data/d"))
    assert pair.alpha.run("psync").code == 75
    assert pair.beta.text("/srv/data/d/x.o") == "d/x.o"
    assert not pair.alpha.live("/srv/data/d").exists()
    assert "not empty" in pair.alpha.hotpair("status").out


def test_what_lost_cannot_be_taken_back_on_the_receiver(pair):
    pair.beta.write("/srv/data/f", "edited")
    pair.sync()
    said = pair.beta.hotpair("resolve", "/srv/data/f", "--take", "here")
    assert said.code == 66, said
    assert "alpha" in said.err
    assert pair.beta.hotpair("resolve", "/srv/data/f", "--take", "peer").code == 0
    assert pair.beta.json("conflicts") == pair.alpha.json("conflicts") == []


def test_conflict_is_listed_with_the_source_s_as_live(pair):
    pair.beta.write("/srv/data/f", "edited")
    pair.sync()
    assert pair.alpha.json("conflicts")[0]["live"] == "what this node wrote"
    assert pair.beta.json("conflicts")[0]["live"] == "what the peer wrote"
    assert pair.beta.json("conflicts")[0]["kept_generation"] == 1


@pytest.mark.parametrize("alpha, beta", [("push alpha", "push beta"), ("push me", "push me")])
def test_nodes_that_do_not_agree_on_the_source_share_nothing(pair, alpha, beta):
    for node, mode in zip(pair.nodes, (alpha, beta), strict=True):
        node.configure(f"[tree data]\nroot = /srv/data\nmode = {mode}\n")
    pair.alpha.write("/srv/data/f", "edited")
    assert pair.alpha.run("psync").code == 75
    assert pair.beta.text("/srv/data/f") == "f"
