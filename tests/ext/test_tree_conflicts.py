"""A tree on which both nodes worked: who wins is the same on both, nothing is lost, and both come to rest."""

import shutil
from pathlib import Path

import pytest

from tests.ext.trees import Trees, fill


@pytest.fixture
def pair(tmp_path: Path) -> Trees:
    pair = Trees(tmp_path)
    pair.sync()
    return pair


def conflicts(pair: Trees) -> list[str]:
    """Return the paths that either node lists."""
    return [problem["path"] for node in pair.nodes for problem in node.json("conflicts")]


def test_new_directory_with_another_mode_than_usual_is_no_conflict(pair):
    fill(pair.alpha, "d/f")
    pair.alpha.live("/srv/data/d").chmod(0o700)
    pair.sync()
    assert conflicts(pair) == []


@pytest.mark.parametrize("prefer", ["newest", "alpha", "beta"])
@pytest.mark.parametrize("first", [0, 1])
def test_directory_that_is_not_empty_stands_where_the_peer_made_a_file(tmp_path, prefer, first):
    pair = Trees(tmp_path, f"[tree data]\nroot = /srv/data\nprefer = {prefer}\n")
    pair.sync()
    fill(pair.alpha, "p")
    fill(pair.beta, "p/q")
    pair.sync(pair.nodes[first])
    assert pair.alpha.text("/srv/data/p/q") == "p/q"
    assert (pair.alpha.root / "srv/data/.hotpair/data.kept/1/1/p").read_text() == "p"
    assert set(conflicts(pair)) == {"/srv/data/p"}


@pytest.mark.parametrize("first", [0, 1])
def test_directory_stands_that_the_peer_made_a_file_of_while_a_file_was_new_in_it(pair, first):
    fill(pair.alpha, "d/f")
    pair.sync()
    (pair.alpha.live("/srv/data/d/f")).unlink()
    pair.alpha.live("/srv/data/d").rmdir()
    fill(pair.alpha, "d")
    fill(pair.beta, "d/new")
    pair.sync(pair.nodes[first])
    assert pair.beta.text("/srv/data/d/new") == "d/new"
    assert not pair.beta.live("/srv/data/d/f").exists()
    assert (pair.alpha.root / "srv/data/.hotpair/data.kept/1/1/d").read_text() == "d"


@pytest.mark.parametrize("first", [0, 1])
def test_both_made_another_kind_of_thing_of_a_directory(pair, first):
    fill(pair.alpha, "d/f", "d/e/g")
    pair.sync()
    for node in pair.nodes:
        shutil.rmtree(node.live("/srv/data/d"))
    fill(pair.alpha, "d")
    pair.beta.live("/srv/data/d").symlink_to("nowhere")
    pair.sync(pair.nodes[first])


@pytest.mark.parametrize("first", [0, 1])
def test_edit_crosses_that_was_made_where_the_peer_put_a_link_to_the_moved_directory(pair, first):
    fill(pair.alpha, "d/f")
    pair.sync()
    pair.alpha.write("/srv/data/d/f", "edited")
    pair.beta.live("/srv/data/d").rename(pair.beta.live("/srv/data/e"))
    pair.beta.live("/srv/data/d").symlink_to("e")
    pair.sync(pair.nodes[first])
    assert "edited" in {pair.beta.live(f"/srv/data/{name}/f").read_text() for name in "de"}


@pytest.mark.parametrize("first", [0, 1])
def test_chmod_of_a_directory_crosses_from_where_the_peers_change_in_it_was_applied(pair, first):
    fill(pair.alpha, "d/f")
    pair.sync()
    pair.alpha.live("/srv/data/d/f").unlink()
    pair.beta.live("/srv/data/d").chmod(0o700)
    pair.sync(pair.nodes[first])
    assert pair.alpha.live("/srv/data/d").stat().st_mode & 0o777 == 0o700


def test_what_was_below_a_directory_is_not_waited_for_once_a_file_of_the_peer_stands_there(pair):
    fill(pair.alpha, "f")
    pair.sync()
    pair.beta.live("/srv/data/f").unlink()
    fill(pair.beta, "f/g")
    away = pair.alpha.root / "etc/hotpair/hotpair.ini"
    away.rename(f"{away}.away")
    assert pair.beta.run("syncr", "data", "0").code == 75
    Path(f"{away}.away").rename(away)
    pair.beta.live("/srv/data/f").rename(pair.beta.live("/srv/data/d"))
    pair.alpha.write("/srv/data/f", "edited")
    pair.sync()
    assert pair.beta.text("/srv/data/f") == "edited"
    assert pair.alpha.text("/srv/data/d/g") == "f/g"


def test_directory_that_the_peer_removed_takes_nothing_along_that_came_and_went_in_it(pair):
    fill(pair.alpha, "d/f", "stays")
    pair.sync()
    fill(pair.beta, "d/g")
    away = pair.alpha.root / "etc/hotpair/hotpair.ini"
    away.rename(f"{away}.away")
    assert pair.beta.run("syncr", "data", "0").code == 75
    Path(f"{away}.away").rename(away)
    pair.beta.live("/srv/data/d/g").unlink()
    shutil.rmtree(pair.alpha.live("/srv/data/d"))
    pair.sync()
    assert not pair.beta.live("/srv/data/d").exists()


@pytest.mark.parametrize("source, target", [("x", "a/x"), ("a/x", "x"), ("a/x", "b/x"), ("b/x", "a/x")])
def test_directory_that_was_moved_is_one_rename_wherever_it_went(pair, source, target):
    fill(pair.alpha, "a/f", "b/f", f"{source}/f")
    pair.sync()
    before = pair.beta.live(f"/srv/data/{source}").stat().st_ino
    pair.alpha.live(f"/srv/data/{source}").rename(pair.alpha.live(f"/srv/data/{target}"))
    pair.sync()
    assert pair.beta.live(f"/srv/data/{target}").stat().st_ino == before


def test_edit_below_a_directory_that_was_moved_while_the_peer_is_away_is_kept(pair):
    fill(pair.alpha, "d/s/f", "d/g", "stays")
    pair.sync()
    away = pair.beta.root / "etc/hotpair/hotpair.ini"
    away.rename(f"{away}.away")
    pair.alpha.live("/srv/data/d").rename(pair.alpha.live("/srv/data/e"))
    pair.alpha.write("/srv/data/e/s/f", "edited")
    assert pair.alpha.run("syncr", "data", "0").code == 75
    pair.alpha.write("/srv/data/e/s/f", "edited again")
    Path(f"{away}.away").rename(away)
    pair.sync()
    kept = pair.alpha.root / "srv/data/.hotpair/data.kept"
    assert [path.read_text() for path in kept.rglob("*") if path.is_file()] == ["edited"]
