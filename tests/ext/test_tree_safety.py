"""A tree and what might go wrong with it: brakes, lost roots, conflicts, filters, odd names, blindness."""

import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from hotpair import marks
from tests.ext.trees import SETS, Trees, fill, kept, tree_of
from tests.ext.twonodes import Pair


# An unmounted disk looks like a tree that somebody emptied.
@pytest.mark.parametrize("how", ["empty", "gone", "marker gone"])
@pytest.mark.parametrize("other", [False, True], ids=["seen here", "asked by the peer"])
def test_root_that_is_not_mounted_deletes_nothing_on_the_peer(filled, how, other):
    alpha, beta = filled.nodes
    root, away = alpha.live("/srv/data"), alpha.root / "away"
    before = tree_of(beta.live("/srv/data"))
    if how == "marker gone":
        root.joinpath(".hotpair").rename(away)
    else:
        root.rename(away)
        if how == "empty":
            root.mkdir()
    assert (beta if other else alpha).run("psync").code == 75
    assert alpha.run("syncr", "data", "0").code == 75
    assert tree_of(beta.live("/srv/data")) == before
    status = alpha.hotpair("status")
    assert status.code == 2
    assert "data: unmounted" in status.out
    if how == "marker gone":
        away.rename(root / ".hotpair")
    else:
        if how == "empty":
            root.rmdir()
        away.rename(root)
    filled.sync()
    assert "unmounted" not in alpha.hotpair("status").out


def test_too_many_deletes_wait_for_a_person(filled):
    alpha, beta = filled.nodes
    fill(alpha, "new")
    shutil.rmtree(alpha.live("/srv/data/many"))
    held = "data: hold: 21 of 29 paths are gone here: nothing is sent\n"
    assert alpha.run("psync", "--dry-run") == (0, held, "")
    assert alpha.run("psync").code == 75
    there = tree_of(beta.live("/srv/data"))
    assert "many/1" in there and "new" not in there, "held whole"
    assert beta.run("psync").code == 75
    assert "many/1" in tree_of(beta.live("/srv/data"))
    status = alpha.hotpair("status")
    assert status.code == 2
    assert "21 of 29 paths are gone here: nothing is sent: if that is right: hotpair approve data" in status.out
    assert alpha.hotpair("approve", "data") == (0, "data: 21 deletes approved\n", "")
    assert filled.equal()
    filled.sync()
    assert "brake" not in alpha.hotpair("status").out
    assert alpha.hotpair("approve", "data").code == 66


def test_what_a_change_replaces_is_a_generation_on_the_peer_and_can_be_restored(filled):
    alpha, beta = filled.nodes
    for number in range(8):
        alpha.write("/srv/data/d/f", f"version {number}")
        filled.sync()
    lines = beta.hotpair("history", "/srv/data/d/f").out.splitlines()
    assert len(lines) == 1 + 1 + 6  # a head, what is live, six kept
    said = beta.hotpair("restore", "/srv/data/d/f", "3")
    assert said.code == 0, said
    assert alpha.text("/srv/data/d/f") == beta.text("/srv/data/d/f") == "version 4"
    alpha.live("/srv/data/d/f").unlink()
    filled.sync()
    assert beta.hotpair("restore", "/srv/data/d/f").code == 0
    assert not beta.live("/srv/data/d/.hotpair").exists()
    filled.sync()
    assert alpha.text("/srv/data/d/f") == "version 4"


def test_history_of_what_was_below_a_directory_that_is_a_file_by_now(tmp_path):
    pair = Trees(tmp_path)
    fill(pair.alpha, "d/f")
    pair.sync()
    pair.alpha.write("/srv/data/d/f", "newer")
    pair.sync()
    directory = pair.beta.live("/srv/data/d")
    directory.rename(directory.with_name("e"))
    directory.write_text("a file now")
    found = pair.beta.json("history", "/srv/data/d/f")["contents"]
    assert [(one["number"], one["kind"]) for one in found] == [(0, "absent"), (1, "file")]
    said = pair.beta.hotpair("restore", "/srv/data/d/f", "1")
    assert (said.code, "Not a directory" in said.err) == (75, True), said


def test_peer_that_is_away_gets_each_path_once_and_no_content_is_lost_meanwhile(filled):
    alpha, beta = filled.nodes
    filled.cut()
    for number in range(5):
        alpha.write("/srv/data/d/f", f"version {number}")
        fill(alpha, f"new{number}")
        assert alpha.run("syncr", "data", "0").code == 75
    filled.mend()
    assert alpha.run("psync", "--dry-run").out.count("send put") == 6
    filled.sync()
    assert {f"version {number}" for number in range(4)} <= kept(alpha, "f")
    assert beta.text("/srv/data/d/f") == "version 4"


@pytest.mark.parametrize("here", ["alpha", "beta"])
def test_delete_against_edit_keeps_the_edit_and_lists_it(filled, here):
    deleter, editor = filled.nodes if here == "alpha" else filled.nodes[::-1]
    shutil.rmtree(deleter.live("/srv/data/d"))
    editor.write("/srv/data/d/f", "edited")
    editor.write("/srv/data/d/deep/new", "new")
    for node in filled.nodes:
        node.run("psync", "--force")
    filled.sync()
    assert deleter.text("/srv/data/d/f") == "edited" and deleter.text("/srv/data/d/deep/new") == "new"
    assert not deleter.live("/srv/data/d/deep/er").exists(), "what nobody edited is gone"
    assert any("/srv/data/d/f" in node.hotpair("conflicts").out for node in filled.nodes)


def test_move_of_a_directory_carries_what_the_peer_edits_in_it(filled):
    alpha, beta = filled.nodes
    alpha.live("/srv/data/d").rename(alpha.live("/srv/data/moved"))
    beta.write("/srv/data/d/f", "edited")
    for node in filled.nodes:
        node.run("psync", "--force")
    filled.sync()
    assert alpha.text("/srv/data/moved/f") == "edited"
    assert not alpha.live("/srv/data/d").exists()


def test_both_create_one_name_and_nothing_is_lost(filled):
    alpha, beta = filled.nodes
    alpha.write("/srv/data/new", "alpha's")
    beta.write("/srv/data/new", "beta's")
    for node in filled.nodes:
        node.run("psync", "--force")
    filled.sync()
    assert alpha.text("/srv/data/new") == "beta's", "the newest is live"
    assert "alpha's" in kept(alpha, "new")
    assert "/srv/data/new" in alpha.hotpair("conflicts").out + beta.hotpair("conflicts").out


def test_root_may_be_elsewhere_on_the_peer(tmp_path: Path):
    pair = Pair(tmp_path, SETS)
    pair.beta.configure(SETS.replace("/srv/data", "/home/other"))
    top, other = pair.alpha.live("/srv/data"), pair.beta.live("/home/other")
    top.mkdir()
    other.mkdir(parents=True)
    fill(pair.alpha, "d/f", "e/big")
    (top / "e/big").write_bytes(os.urandom(100_000))
    assert pair.alpha.run("psync").code == 0
    (other / "d").rename(other / "moved")
    assert pair.beta.run("syncr", "data", "0").code == 0
    assert tree_of(top) == tree_of(other) and "moved/f" in tree_of(top)


def test_what_the_filter_leaves_out_is_never_touched(tmp_path: Path):
    pair = Trees(tmp_path, SETS + "filter =\n    - *.o\n    - cache/\ntempfiles = .*.swp\n")
    fill(pair.alpha, "a", "a.o", "cache/x", "d/cache/y", ".a.swp", "d/b.o")
    fill(pair.beta, "b.o", "cache/z")
    assert pair.alpha.run("psync").out.startswith("data: in sync")
    assert set(tree_of(pair.beta.live("/srv/data"))) == {"a", "d", "b.o", "cache", "cache/z"}
    assert "b.o" not in tree_of(pair.alpha.live("/srv/data"))
    shutil.rmtree(pair.alpha.live("/srv/data/cache"))
    assert pair.alpha.run("psync").out == "data: in sync, 0 repaired\n"
    assert pair.beta.live("/srv/data/cache/z").exists()


def test_exclude_that_is_added_later_deletes_nothing(filled):
    for node in filled.nodes:
        node.configure(SETS + "filter = - d/\n")
    assert filled.alpha.run("psync").code == 0
    assert all("d/f" in tree_of(node.live("/srv/data")) for node in filled.nodes)
    shutil.rmtree(filled.alpha.live("/srv/data/d"))
    assert filled.alpha.run("psync").code == 0
    assert "d/f" in tree_of(filled.beta.live("/srv/data"))


NAMES = [
    *("x;id;y", "q'uo\"te", "$(id)", "new\nline", "-rf", "n" * 255, "\udcff\udcfe", " ", "*", "a\tb", "\\", "..x"),
    *("=", "@", "é" * 127),
]


def test_any_name_crosses(trees):
    top = str(trees.alpha.live("/srv/data"))
    for name in NAMES:
        os.mkdir(f"{top}/{name}")
        for inner in NAMES:
            Path(f"{top}/{name}/{inner}").write_text(ascii(inner))
    trees.sync()
    for name in NAMES[::2]:
        os.rename(f"{top}/{name}", f"{top}/{name[:120]}.m")
    trees.sync(trees.beta)


def test_sparse_files_stay_sparse(trees):
    with open(trees.alpha.live("/srv/data/holes"), "wb") as file:
        file.seek(10_000_000)
        file.write(b"end")
    trees.sync()
    assert trees.beta.live("/srv/data/holes").stat().st_blocks * 512 < 1_000_000


def test_sockets_and_pipes_are_listed_and_left(trees):
    os.mkfifo(trees.alpha.live("/srv/data/pipe"))
    fill(trees.alpha, "a")
    assert trees.alpha.run("psync").code == 0
    assert set(tree_of(trees.beta.live("/srv/data"))) == {"a"}
    assert "unsupported" in trees.alpha.hotpair("status").out


def test_nothing_is_sent_while_the_standby_file_is_there(trees):
    trees.alpha.configure(SETS + "standby-file = /run/no-sync\n")
    trees.alpha.live("/run").mkdir(exist_ok=True)
    trees.alpha.live("/run/no-sync").touch()
    fill(trees.alpha, "a")
    for words in (("syncr", "data", "0"), ("psync",), ("psync", "--retry")):
        assert trees.alpha.run(*words).code == 75
    assert not trees.beta.live("/srv/data/a").exists()
    status = trees.alpha.hotpair("status")
    assert status.code == 1 and "/run/no-sync is there: remove it" in status.out
    trees.alpha.live("/run/no-sync").unlink()
    trees.sync()
    assert "no-sync" not in trees.alpha.hotpair("status").out


def test_nothing_is_sent_while_a_banned_program_runs(trees, tmp_path):
    program = tmp_path / "backup-of-all"
    shutil.copy("/bin/sleep", program)
    trees.alpha.configure(SETS + "banned = backup-of-all\n")
    fill(trees.alpha, "a")
    with subprocess.Popen([program, "60"]) as running:
        assert trees.alpha.run("psync").code == 75
        assert not trees.beta.live("/srv/data/a").exists()
        running.kill()
    trees.sync()


def test_large_files_rest_before_they_are_sent_and_hold_up_nobody(trees):
    trees.alpha.configure(SETS + "bigfile = 10K 3600\n")
    trees.alpha.live("/srv/data/big").write_bytes(b"x" * 20_000)
    fill(trees.alpha, "a")
    assert trees.alpha.run("syncr", "data", "0").code == 75
    assert set(tree_of(trees.beta.live("/srv/data"))) == {"a"}
    trees.alpha.configure(SETS + "bigfile = 10K 0\n")
    assert trees.alpha.run("psync", "--retry").code == 0
    assert trees.equal()


def test_run_that_has_to_look_once_more_ends_though_the_peer_writes_to_the_file_all_day(trees):
    """Nothing it can do now changes that, so the rest is left to the minute job."""
    fill(trees.alpha, "log")
    trees.sync()
    claimed = trees.alpha.root / "var/lib/hotpair/sets/data/marks/taken"
    (claimed / marks.MISSED).touch()  # incrond was blind
    trees.alpha.write("/srv/data/log", "edited")
    ended = threading.Event()

    def write() -> None:
        with trees.beta.live("/srv/data/log").open("a") as log:
            while not ended.wait(0.01):
                log.write(".")
                log.flush()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert trees.alpha.run("syncr", "data", "0").code == os.EX_TEMPFAIL
        assert (claimed / marks.MISSED).exists()
    finally:
        ended.set()
        writer.join()


def test_run_that_incrond_did_not_answer_in_time_has_the_minute_job_look_at_all_once_more(trees):
    assert trees.alpha.run("hotpair", "tables").code == 0
    fill(trees.alpha, "d/f")
    trees.sync()  # directories came, and no incrond reads the tables of this prefix
    fill(trees.alpha, "d/e/f")
    assert trees.alpha.run("syncr", "data", "0").code == os.EX_OK
    fill(trees.alpha, "d/e/unseen")  # while incrond is still reading its table
    for _ in range(2):
        assert trees.alpha.run("psync", "--retry").code == os.EX_OK
        assert trees.equal()
        assert not any((trees.alpha.root / "var/lib/hotpair/sets/data/marks/taken").iterdir())


@pytest.mark.parametrize("words", [("history", "f"), ("restore", "f"), ("restore", "-n", "f", "9"), ("resolve", "f")])
def test_a_person_who_asks_about_a_tree_that_is_not_mounted_is_told_so(filled, tmp_path, words):
    filled.alpha.live("/srv/data").rename(tmp_path / "unmounted")
    filled.alpha.live("/srv/data").mkdir()
    words = [word.replace("f", "/srv/data/f") if word == "f" else word for word in words]
    said = filled.alpha.hotpair(*words, *(("--take", "here") if words[0] == "resolve" else ()))
    assert said.code == os.EX_TEMPFAIL and "/srv/data/.hotpair: missing: not mounted?: mount it" in said.err
    assert filled.alpha.hotpair("conflicts").code == 0
