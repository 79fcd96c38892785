"""A node that lost its archive, or got back an older one, takes nothing from its peer: what the peer has is newer."""

import shutil
from pathlib import Path

from tests.ext.trees import SETS, Trees, fill, tree_of
from tests.ext.twonodes import Pair

MANY = [f"d/{n}" for n in range(30)]


def install_anew(trees):
    """Give alpha a new disk: neither its archive nor its files are there."""
    shutil.rmtree(trees.alpha.root / "var")
    shutil.rmtree(trees.alpha.live("/srv/data"))
    trees.alpha.live("/srv/data").mkdir()


def test_node_that_was_installed_anew_empties_no_tree_of_its_peer(tmp_path):
    trees = Trees(tmp_path)
    fill(trees.alpha, *MANY)
    trees.sync()
    install_anew(trees)
    trees.alpha.run("psync")
    assert len(tree_of(trees.beta.live("/srv/data"))) == 31
    trees.sync()


def test_source_that_was_installed_anew_is_held_by_the_brake(tmp_path):
    trees = Trees(tmp_path, SETS + "mode = push alpha\n")
    fill(trees.alpha, *MANY)
    trees.sync()
    install_anew(trees)
    trees.alpha.run("psync")
    assert len(tree_of(trees.beta.live("/srv/data"))) == 31


def test_files_set_of_a_node_that_was_installed_anew_comes_back(tmp_path):
    pair = Pair(tmp_path)
    pair.agree("/srv/a.conf", "one")
    shutil.rmtree(pair.alpha.root / "var")
    pair.alpha.live("/srv/a.conf").unlink()
    pair.alpha.run("psync")
    assert pair.beta.live("/srv/a.conf").exists()
    assert pair.alpha.text("/srv/a.conf") == "one"


def test_peer_that_is_called_otherwise_makes_no_unmounted_root_an_emptied_one(tmp_path):
    trees = Trees(tmp_path)
    fill(trees.alpha, *MANY)
    trees.sync()
    trees.alpha.live("/srv/data").rename(tmp_path / "unmounted")
    trees.alpha.live("/srv/data").mkdir()
    trees.alpha.write_ini("hotpair.ini", f"[node]\nname = alpha\npeer = local:{trees.beta.root}/\n{SETS}")
    trees.alpha.run("psync")
    assert len(tree_of(trees.beta.live("/srv/data"))) == 31


def test_dry_run_says_what_the_run_of_a_node_installed_anew_does(tmp_path):  # P9
    trees = Trees(tmp_path)
    fill(trees.alpha, *MANY)
    trees.sync()
    install_anew(trees)
    trees.alpha.run("psync", "--retry")
    said = trees.alpha.run("psync", "--dry-run").out
    trees.alpha.run("psync")
    print(said)
    assert ("hold" in said) <= (len(tree_of(trees.beta.live("/srv/data"))) == 31)


def test_older_snapshot_of_a_node_takes_back_nothing_on_its_peer(tmp_path):
    trees = Trees(tmp_path)
    fill(trees.alpha, "edited", *MANY)
    trees.sync()
    shutil.copytree(trees.alpha.root, tmp_path / "snapshot", symlinks=True)
    fill(trees.alpha, "new")
    trees.alpha.write("/srv/data/edited", "newer")
    trees.sync()
    shutil.rmtree(trees.alpha.root)
    (tmp_path / "snapshot").rename(trees.alpha.root)
    trees.alpha.run("psync")
    there = tree_of(trees.beta.live("/srv/data"))
    assert ("new" in there, there["edited"][5]) == (True, b"newer")


def test_data_that_a_node_got_back_from_a_backup_replaces_nothing_newer_on_its_peer(tmp_path: Path) -> None:
    """Its archive is lost, and what it has is a day old; beta has what alpha had sent since."""
    trees = Trees(tmp_path)
    trees.alpha.write("/srv/data/f", "of yesterday")
    trees.sync()
    shutil.copytree(trees.alpha.live("/srv/data"), tmp_path / "backup", symlinks=True)
    trees.alpha.write("/srv/data/f", "of today")
    trees.sync()
    install_anew(trees)
    shutil.copytree(tmp_path / "backup", trees.alpha.live("/srv/data"), symlinks=True, dirs_exist_ok=True)
    trees.sync()
    assert trees.beta.text("/srv/data/f") == "of today"
    log = trees.beta.root / "var/log/hotpair.log"
    assert "alpha has forgotten what it sent" in log.read_text()
