"""What a user moved is one rename on the peer, by an event's run as by a sweep: its inode there stays."""

import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from hotpair import config, folder, marks, run, send, survey
from hotpair.cmd import syncr
from tests.ext.trees import SETS, Trees, fill, kept, tree_of
from tests.ext.twonodes import Node


def inode(node: Node, name: str) -> int:
    return node.live(f"/srv/data/{name}").stat().st_ino


def move(node: Node, source: str, target: str) -> None:
    node.live(f"/srv/data/{source}").rename(node.live(f"/srv/data/{target}"))


def event(trees: Trees, directory: str = "") -> int:
    """Run on alpha what incrond starts for a directory of the tree; return its exit code."""
    return trees.alpha.run("syncr", "data", folder.watch_id(f"/srv/data{directory}")).code


@pytest.mark.parametrize("target", ["moved", "d/moved", "d/deep/f"])
@pytest.mark.parametrize("told", ["old", "new"], ids="by the event of its {} directory".format)
def test_moved_file_is_a_rename(filled, target, told):
    fill(filled.alpha, "file")
    filled.sync()
    before = inode(filled.beta, "file")
    move(filled.alpha, "file", target)
    assert event(filled, "" if told == "old" else f"/{target}".rpartition("/")[0]) == 0
    event(filled)
    assert inode(filled.beta, target) == before
    assert filled.equal()


def test_file_that_was_moved_many_times_while_the_peer_was_away_is_one_rename(filled):
    before = inode(filled.beta, "d/f")
    filled.cut()
    for source, target in (("d/f", "1"), ("1", "d/2"), ("d/2", "d/deep/3"), ("d/deep/3", "4")):
        move(filled.alpha, source, target)
        assert event(filled) == 75
    filled.mend()
    assert filled.alpha.hotpair("retry", "data").code == 0
    assert event(filled) == 0
    assert inode(filled.beta, "4") == before
    assert filled.equal()


def test_many_files_that_are_moved_at_once_are_renames(filled):
    names = [f"old {number}" for number in range(200)]
    for name in names:
        filled.alpha.write(f"/srv/data/{name}", f"content of {name}")
    filled.sync()
    before = {name: inode(filled.beta, name) for name in names}
    for name in names:
        move(filled.alpha, name, f"d/{name}")
    assert event(filled) == 0
    assert {name: inode(filled.beta, f"d/{name}") for name in names} == before
    assert filled.equal()


@pytest.mark.parametrize("more", ["bigfile = 1K 300\n", "large = 1K\n"], ids=["rests first", "is left aside"])
def test_moved_file_is_a_rename_even_where_a_written_one(trees, more):
    trees.alpha.write("/srv/data/big", "x" * 5000)
    trees.sync()
    for node in trees.nodes:
        node.configure(SETS + more) if "bigfile" in more else node.configure(SETS, more)
    before = inode(trees.beta, "big")
    move(trees.alpha, "big", "bigger")
    assert event(trees) == 0
    assert inode(trees.beta, "bigger") == before
    assert trees.equal()


def test_new_file_on_the_inode_of_one_that_is_gone_is_new(filled):
    """File systems give the inode of a removed file to the next one."""
    filled.alpha.live("/srv/data/d/f").write_text("to be moved")
    filled.sync()
    move(filled.alpha, "d/f", "new")
    filled.alpha.live("/srv/data/new").write_text("rewritten")
    assert event(filled) == 0
    assert filled.beta.text("/srv/data/new") == "rewritten"
    assert filled.equal()


def test_backup_that_an_editor_makes_by_moving_never_takes_the_file_from_the_peer(filled):
    """Vim's backupcopy=no: the file is moved to its backup, and written anew."""
    before = inode(filled.beta, "d/f")
    os.link(filled.beta.live("/srv/data/d/f"), Path(filled.beta.root, "held"))  # or its inode might be used again
    move(filled.alpha, "d/f", "d/f~")
    filled.alpha.write("/srv/data/d/f", "edited")
    assert event(filled, "/d") == 0
    assert filled.beta.text("/srv/data/d/f") == "edited" and inode(filled.beta, "d/f~") != before
    assert filled.equal()


def test_what_was_written_and_moved_at_once_is_kept_while_it_waits_for_the_peer(filled):
    filled.cut()
    archive = filled.alpha.root / "var/lib/hotpair/archive.db"
    with sqlite3.connect(archive) as db:  # as after a look in the tick of the last change
        db.execute("UPDATE path SET signature = '' WHERE name = ?", (b"f",))
    filled.alpha.write("/srv/data/e/g", "so that the peer is asked at once")
    with filled.alpha.live("/srv/data/d/f").open("r+") as file:
        file.write("on alpha alone")
    move(filled.alpha, "d/f", "moved")
    assert event(filled) == 75
    filled.alpha.live("/srv/data/moved").unlink()
    assert "on alpha alone" in kept(filled.alpha)


def test_what_was_made_in_a_directory_that_was_moved_onto_a_former_file_is_kept(filled):
    filled.cut()
    filled.alpha.live("/srv/data/stays").unlink()
    move(filled.alpha, "d", "stays")
    filled.alpha.write("/srv/data/stays/new", "on alpha alone")
    assert filled.alpha.run("psync").code == 75
    shutil.rmtree(filled.alpha.live("/srv/data/stays"))
    assert "on alpha alone" in kept(filled.alpha)


def test_directory_is_moved_to_a_path_whose_delete_the_peer_has_still_to_hear_of(filled):
    """Both are changes of one path: the peer refuses whoever proposes it twice."""
    filled.cut()
    filled.alpha.live("/srv/data/stays").unlink()
    assert event(filled) == 75
    move(filled.alpha, "d", "stays")
    filled.mend()
    filled.sync()
    assert filled.beta.text("/srv/data/stays/f") == "d/f"


def test_edit_in_a_directory_that_moves_away_before_it_is_sent_is_found_and_sent_from_where_it_is(filled, monkeypatch):
    """Nobody tells of the move: its event may be lost, or come when the run is over."""
    monkeypatch.setenv("HOTPAIR_ROOT", str(filled.alpha.root))
    fill(filled.alpha, "x/y/z/f")
    filled.sync()
    filled.alpha.write("/srv/data/x/y/z/f", "edited")
    attempts, real = [], send.send

    def after_a_move(*words: object) -> send.Outcome:
        attempts.append(words)
        if len(attempts) == 1:
            move(filled.alpha, "x", "moved")
        return real(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(send, "send", after_a_move)
    assert syncr.main(["data", folder.watch_id("/srv/data/x/y/z")]) == 0
    assert filled.beta.text("/srv/data/moved/y/z/f") == "edited"
    assert filled.equal()
    assert len(attempts) < 10


class Died(BaseException):
    """Stands for a kill: nothing is recorded after it."""


def die(*_):
    raise Died


@pytest.mark.parametrize("how", ["psync", "event"])
def test_directory_that_the_peer_moves_back_before_we_know_that_our_move_arrived_keeps_all(filled, monkeypatch, how):
    """What is below was gone from there when the peer's move was judged, and is there again with the old indexes."""
    alpha, beta = filled.nodes
    move(beta, "d", "moved")
    with monkeypatch.context() as patch:
        patch.setenv("HOTPAIR_ROOT", str(beta.root))
        patch.setattr(send, "record", die)
        with pytest.raises(Died):
            run.sweep(run.scope(config.load(), "data"))
    before, file = tree_of(alpha.live("/srv/data")), inode(alpha, "moved/deep/er")
    move(alpha, "moved", "d")
    assert (event(filled) if how == "event" else alpha.run("psync").code) == 0
    fill(beta, "e/unrelated")
    assert beta.run("syncr", "data", folder.watch_id("/srv/data/e")).code == 0
    filled.sync()
    found = tree_of(alpha.live("/srv/data"))
    assert inode(alpha, "d/deep/er") == file, "removed, and sent again"
    assert {"d/f", "e/unrelated"} <= found.keys() and len(found) == len(before) + 1


def test_link_that_arrives_where_a_directory_was_while_its_move_is_on_its_way_stays(filled, monkeypatch):
    """Both archives have it moved along; where the directory was moved first, it stands at the old path."""
    alpha, beta = filled.nodes
    alpha.live("/srv/data/empty").mkdir()
    filled.sync()
    alpha.live("/srv/data/empty/new").symlink_to("value")
    move(beta, "empty", "moved")
    look = survey.survey
    with monkeypatch.context() as patch:

        def look_first(*words):
            patch.setattr(survey, "survey", look)
            found = look(*words)
            assert event(filled, "/empty") == 0
            return found

        patch.setenv("HOTPAIR_ROOT", str(beta.root))
        patch.setattr(survey, "survey", look_first)
        marks.add("data", "0")
        run.run(run.scope(config.load(), "data"))
    filled.sync()
    filled.sync(beta)
    assert [name for name in tree_of(beta.live("/srv/data")) if name.endswith("/new")] in (["empty/new"], ["moved/new"])
