"""A tree of two nodes on which the same person has other numbers: anna is 1000 on alpha, and 1005 on beta."""

import os
import sqlite3
import subprocess
from pathlib import Path

import pytest

from hotpair import acl
from tests.ext.trees import SETS, Trees, fill
from tests.ext.twonodes import Node

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
MAP = "owner-map =\n    user 1000 = 1005\n    group 100 = 200\n"


def owner(node: Node, name: str) -> tuple[int, int]:
    seen = node.live(f"/srv/data/{name}").lstat()
    return seen.st_uid, seen.st_gid


def give(node: Node, name: str, uid: int, gid: int) -> None:
    os.chown(node.live(f"/srv/data/{name}"), uid, gid, follow_symlinks=False)


def acl_of(node: Node, name: str) -> list[str]:
    command = ["getfacl", "-cpn", str(node.live(f"/srv/data/{name}"))]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [line for line in said.splitlines() if line.count("::") == 0 and line]


def synced(node: Node) -> None:
    said = node.run("psync")
    assert said.code == 0, said
    assert said.out.startswith("data: in sync"), said


@pytest.fixture
def pair(tmp_path: Path) -> Trees:
    """Two nodes that agree on a file, a directory, a link and a FIFO of anna's; beta has the map."""
    pair = Trees(tmp_path, SETS + "specials = yes\n")
    pair.beta.configure(SETS + "specials = yes\n" + MAP)
    fill(pair.alpha, "f", "d/g", "stays")
    pair.alpha.live("/srv/data/l").symlink_to("f")
    os.mkfifo(pair.alpha.live("/srv/data/p"))
    for name in ("f", "d", "d/g", "l", "p"):
        give(pair.alpha, name, 1000, 100)
    synced(pair.alpha)
    return pair


def test_each_kind_of_path_has_on_each_node_the_numbers_of_that_node(pair):
    for name in ("f", "d", "d/g", "l", "p"):
        assert owner(pair.alpha, name) == (1000, 100), name
        assert owner(pair.beta, name) == (1005, 200), name
    assert owner(pair.beta, "stays") == (0, 0)


def test_what_the_other_numbers_are_is_no_difference(pair):
    for node in pair.nodes:
        assert node.run("psync", "--check", "--checksum").code == 0
        assert node.run("psync", "--dry-run").out == "data: nothing to do\n"
    indexes = list(pair.beta.live("/var/lib/hotpair/sets/data/folders").iterdir())
    assert len(indexes) == 2  # so that an event in either folder ends at the quiet look


def test_change_of_an_owner_crosses_from_either_node(pair):
    give(pair.beta, "stays", 1005, 0)
    give(pair.beta, "d", 0, 200)
    synced(pair.beta)
    assert (owner(pair.alpha, "stays"), owner(pair.alpha, "d")) == ((1000, 0), (0, 100))
    for name in ("f", "d", "l", "p"):
        give(pair.alpha, name, 1000, 4321)
    synced(pair.alpha)
    assert [owner(pair.beta, name) for name in ("f", "d", "l", "p")] == [(1005, 4321)] * 4


def test_numbers_that_the_map_takes_change_places(pair):
    fill(pair.beta, "of another")
    give(pair.beta, "of another", 1000, 100)
    synced(pair.beta)
    assert owner(pair.alpha, "of another") == (1005, 200)
    assert owner(pair.beta, "of another") == (1000, 100)


def test_edit_and_move_keep_the_owner_of_each_node(pair):
    pair.alpha.write("/srv/data/f", "edited")
    pair.alpha.live("/srv/data/d").rename(pair.alpha.live("/srv/data/e"))
    synced(pair.alpha)
    assert pair.beta.text("/srv/data/f") == "edited"
    assert owner(pair.beta, "f") == owner(pair.beta, "e") == owner(pair.beta, "e/g") == (1005, 200)


def test_kept_contents_have_the_owner_of_the_node_that_keeps_them(pair):
    pair.alpha.write("/srv/data/f", "second")
    synced(pair.alpha)
    said = pair.beta.hotpair("restore", "/srv/data/f", "1")
    assert said.code == 0, said
    assert pair.alpha.text("/srv/data/f") == pair.beta.text("/srv/data/f")
    assert (owner(pair.alpha, "f"), owner(pair.beta, "f")) == ((1000, 100), (1005, 200))


def test_copy_of_what_could_not_be_sent_has_the_owner_of_its_node(pair):
    away = pair.alpha.root / "etc/hotpair/hotpair.ini"
    away.rename(away.with_name("away"))
    pair.beta.write("/srv/data/f", "unsent")
    assert pair.beta.run("psync").code == 75
    kept = pair.beta.live("/srv/data/.hotpair/data.kept/1/1/f").stat()
    assert (kept.st_uid, kept.st_gid) == (1005, 200)


def test_acl_names_on_each_node_the_numbers_of_that_node(pair):
    words = ["setfacl", "-m", "u:7:rwx,u:1000:r--,g:100:r--", str(pair.alpha.live("/srv/data/f"))]
    subprocess.run(words, check=True)
    subprocess.run(["setfacl", "-m", "d:u:1000:rwx", str(pair.alpha.live("/srv/data/d"))], check=True)
    synced(pair.alpha)
    assert acl_of(pair.beta, "f") == ["user:7:rwx", "user:1005:r--", "group:200:r--"]
    assert acl_of(pair.beta, "d") == ["default:user:1005:rwx"]
    assert pair.beta.run("psync", "--dry-run").out == "data: nothing to do\n"


def test_all_is_looked_at_again_when_the_map_changes(pair):
    pair.beta.configure(SETS + "specials = yes\nowner-map = user 1000 = 1005\n")
    synced(pair.beta)
    assert owner(pair.beta, "f") == owner(pair.beta, "d") == (1005, 200)
    assert owner(pair.alpha, "f") == owner(pair.alpha, "d") == (1000, 200)


def test_folders_are_looked_at_again_when_a_name_of_the_map_has_another_number(pair):
    folders = pair.beta.live("/var/lib/hotpair/sets/data/folders")
    before = {index.name: index.stat().st_mtime_ns for index in folders.iterdir()}
    db = sqlite3.connect(pair.beta.live("/var/lib/hotpair/archive.db"))
    with db:  # as the last run left it that had other numbers
        assert db.execute("UPDATE fact SET value = 12345 WHERE key = 'other states'").rowcount == 1
    db.close()
    synced(pair.beta)
    assert all(index.stat().st_mtime_ns != before[index.name] for index in folders.iterdir())


def test_maps_on_both_nodes_are_refused(pair):
    pair.alpha.configure(SETS + "specials = yes\n" + MAP)
    said = pair.alpha.run("psync")
    assert said.code != 0
    assert "owner-map on both nodes" in said.out + said.err + pair.alpha.hotpair("status").out


def test_what_is_no_acl_stays_what_it_is():
    assert acl.with_numbers(b"\2\0\0\0\1", {1: 2}, {}) == b"\2\0\0\0\1"


def test_acl_by_other_numbers_is_the_one_that_setfacl_makes_of_them(tmp_path):
    made = []
    for first, second in ((1000, 1003), (1005, 1003)):
        file = tmp_path / str(first)
        file.touch(0o640)
        subprocess.run(["setfacl", "-m", f"u:{first}:rwx,u:{second}:r--,g:7:r--", str(file)], check=True)
        made.append(os.getxattr(file, acl.ACCESS))
    assert acl.with_numbers(made[0], {1000: 1005}, {}) == made[1]
