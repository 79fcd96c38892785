"""How batches of a tree are sent: hooks, attempts, time, sizes, rsync's options, the brake on changes, full sweeps."""

import math
import os
import shutil
import sqlite3
import time
from pathlib import Path

import pytest

from tests.ext.trees import SETS, Trees, corrupt, fill, tree_of
from tests.ext.twonodes import Node

DEADLINE = 20.0  # seconds
BESIDE = "{0}/etc/hotpair/{1}"


def hook(node: Node, name: str, code: int = 0) -> str:
    """Make a hook that adds to NAME.said what it gets: its facts, then a path a line; return its command line."""
    path = Path(BESIDE.format(node.root, name))
    said = f"{path}.said"
    path.write_text(
        f'#!/bin/sh\n{{ echo "$HOTPAIR_SET $HOTPAIR_LABEL $HOTPAIR_NODE"; tr "\\0" "\\n"; }} >>{said}\nexit {code}\n'
    )
    path.chmod(0o755)
    return str(path)


def said(node: Node, name: str) -> list[str]:
    path = Path(BESIDE.format(node.root, name + ".said"))
    return path.read_text().splitlines() if path.exists() else []


def eventually(node: Node, name: str, *wanted: str) -> list[str]:
    """Wait until a hook was given these paths: what runs after a delivery is waited for by nobody."""
    deadline = time.monotonic() + DEADLINE
    while not set(wanted) <= set(said(node, name)):
        assert time.monotonic() < deadline, said(node, name)
        time.sleep(0.02)
    return said(node, name)


def test_hooks_run_before_a_batch_here_and_after_it_there(trees):
    alpha, beta = trees.nodes
    for node in trees.nodes:
        hooks = f"before = {hook(node, 'before')}\nafter = {hook(node, 'after')}\n"
        node.configure(SETS + "label = the lot\n" + hooks)
    fill(alpha, "a b", "new\nline")
    trees.sync()
    assert eventually(beta, "after", "/srv/data/a b", "line") == [
        "data the lot beta",
        "/srv/data/a b",
        "/srv/data/new",
        "line",
    ]
    assert said(alpha, "before") == ["data the lot alpha", "/srv/data/a b", "/srv/data/new", "line"]
    assert not said(alpha, "after") and not said(beta, "before")


def test_nothing_is_sent_while_before_fails(trees):
    alpha, beta = trees.nodes
    alpha.configure(SETS + f"before = {hook(alpha, 'before', 3)}\n")
    fill(alpha, "a")
    fill(beta, "b")
    assert alpha.run("syncr", "data", "0").code == 75
    assert not beta.live("/srv/data/a").exists()
    status = alpha.hotpair("status")
    assert (
        status.code == 2 and "data: before" in status.out and "exit 3: nothing is sent until it succeeds" in status.out
    )
    assert "peer away" not in status.out
    assert alpha.run("syncr", "data", "0").code == 75
    assert len(said(alpha, "before")) == 2, "there is a pause"
    assert beta.run("psync", "--once").code == 75
    assert alpha.live("/srv/data/b").exists(), "what the peer sends is taken"
    hook(alpha, "before")
    assert alpha.hotpair("retry").code == 0
    assert beta.live("/srv/data/a").exists()
    assert "data: before" not in alpha.hotpair("status").out


def test_before_that_failed_is_forgotten_with_what_it_held_back(trees):
    alpha = trees.alpha
    alpha.configure(SETS + f"before = {hook(alpha, 'before', 3)}\n")
    fill(alpha, "a")
    assert alpha.run("syncr", "data", "0").code == 75
    alpha.live("/srv/data/a").unlink()
    trees.sync()
    assert "data: before" not in alpha.hotpair("status").out


def test_after_is_owed_until_it_succeeds(trees):
    alpha, beta = trees.nodes
    beta.configure(SETS + f"after = {hook(beta, 'after', 1)}\n")
    fill(alpha, "a")
    trees.sync()
    eventually(beta, "after", "/srv/data/a")
    while "commands failed 1 times" not in (status := beta.hotpair("status")).out:
        assert len(said(beta, "after")) == 2
    assert "tree data" in status.out and "exit 1" in status.out
    hook(beta, "after")
    assert beta.hotpair("retry").code == 0
    assert said(beta, "after") == ["data  beta", "/srv/data/a"] * 2
    assert "tree data" not in beta.hotpair("status").out


@pytest.mark.parametrize("which", ["before", "after"])
def test_program_that_others_can_write_is_not_run(trees, which):
    alpha, beta = trees.nodes
    node = alpha if which == "before" else beta
    node.configure(SETS + f"{which} = {hook(node, which)}\n")
    Path(BESIDE.format(node.root, which)).chmod(0o777)
    check = node.hotpair("check")
    assert check.code == 78 and "can be written by others: chmod go-w" in check.out
    fill(alpha, "a")
    assert alpha.run("psync").code == (75 if which == "before" else 0)
    deadline = time.monotonic() + DEADLINE
    while "can be written by others" not in node.hotpair("status").out:
        assert time.monotonic() < deadline
    assert not said(node, which)


def test_label_is_shown_with_the_set(trees):
    trees.alpha.configure(SETS + "label = the lot\n")
    assert "data (the lot): " in trees.alpha.hotpair("status").out
    assert trees.alpha.json("status")["sets"][0]["label"] == "the lot"


def test_change_that_cannot_be_taken_is_given_up_until_a_person_says(tmp_path: Path):
    pair = Trees(tmp_path, SETS + "filter = - d/\nretries = 2\n")
    alpha, beta = pair.nodes
    pair.sync()
    beta.live("/srv/data/d").mkdir()
    fill(alpha, "d")
    assert alpha.run("syncr", "data", "0").code == 75
    assert "given up" not in alpha.hotpair("status").out
    assert alpha.run("psync", "--once").code == 75
    assert "(given up after 2 attempts)" in alpha.hotpair("status").out
    db = sqlite3.connect(alpha.root / "var/lib/hotpair/archive.db")
    assert db.execute("SELECT due FROM problem WHERE kind = 'failed'").fetchall() == [(math.inf,)]
    db.close()
    beta.live("/srv/data/d").rmdir()
    assert alpha.run("syncr", "data", "0").code == 75
    assert not beta.live("/srv/data/d").exists()
    assert alpha.hotpair("retry").code == 0
    assert pair.equal()


def test_large_content_that_was_given_up_is_retried_when_a_person_says(trees):
    alpha, beta = trees.nodes
    alpha.configure(SETS + "retries = 1\n", "large = 1K\n")
    beta.write_ini("syncr.ini", "[/srv/data/big]\ncheck = grep -q zero %s\n")
    alpha.live("/srv/data/big").write_bytes(b"x" * 2000)
    alpha.run("syncr", "data", "0")
    assert "(given up after 1 attempts)" in alpha.hotpair("status").out
    beta.write_ini("syncr.ini", "")
    alpha.run("syncr", "data", "0")
    assert not beta.live("/srv/data/big").exists()
    assert alpha.hotpair("retry").code == 0
    assert trees.equal()


def test_batch_that_takes_too_long_is_broken_off_and_tried_again(trees):
    alpha, beta = trees.nodes
    alpha.configure(SETS + "timeout = 0.5\n")
    beta.write_ini("syncr.ini", "[/srv/data/a]\ncheck = sh -c 'sleep 3' x %s\n")
    fill(alpha, "a")
    began = time.monotonic()
    assert alpha.run("syncr", "data", "0").code == 75
    assert time.monotonic() - began < 2.5
    assert "not done in the time that a batch has" in alpha.hotpair("status").out
    beta.write_ini("syncr.ini", "")
    assert alpha.hotpair("retry").code == 0
    assert trees.equal()


@pytest.mark.parametrize("bound, calls", [("batch-entries = 250", 1), ("batch-entries = 50", 4)])
def test_as_many_changes_go_in_a_batch_as_the_tree_says(trees, bound, calls):
    alpha = trees.alpha
    alpha.configure(SETS + f"{bound}\nbefore = {hook(alpha, 'before')}\n")
    fill(alpha, *(f"{n}" for n in range(200)))
    trees.sync()
    assert said(alpha, "before").count("data  alpha") == calls


def test_large_contents_travel_with_the_options_that_the_tree_asks_for(trees):
    options = "-z -W --no-sparse --preallocate --fsync --bwlimit=90m --block-size=4096 --compress-level=3"
    options += " --compress-choice=zstd --checksum-choice=md5"
    trees.alpha.configure(SETS + f"rsync-options = {options}\n")
    trees.alpha.live("/srv/data/big").write_bytes(bytes(200_000) + os.urandom(200_000))
    trees.sync()
    assert trees.beta.live("/srv/data/big").stat().st_blocks * 512 >= 400_000, "--no-sparse had its effect"


def test_too_many_changes_wait_for_a_person(filled):
    alpha, beta = filled.nodes
    alpha.configure(SETS + "max-change = 50%\n")
    for path in alpha.live("/srv/data/many").iterdir():
        path.chmod(0o600)
    fill(alpha, "new")
    held = "data: hold: 20 of 29 paths were changed here: nothing is sent\n"
    assert alpha.run("psync", "--dry-run") == (0, held, "")
    assert alpha.run("psync").code == 75
    assert "new" not in tree_of(beta.live("/srv/data")), "held whole"
    assert "were changed here: nothing is sent: if that is right: hotpair approve" in alpha.hotpair("status").out
    assert alpha.hotpair("approve", "data") == (0, "data: 20 changes approved\n", "")
    filled.sync()
    fill(alpha, *(f"many/{n}" for n in range(20)))
    for name in ("d/f", "d/deep/er"):
        alpha.live("/srv/data/" + name).unlink()
    filled.sync()  # approved for an hour; a few deletes besides need no word


def test_few_changes_and_new_paths_never_wait(filled):
    alpha = filled.alpha
    alpha.configure(SETS + "max-change = 0\n")
    fill(alpha, *(f"many/{n}" for n in range(9)), *(f"new{n}" for n in range(20)))
    filled.sync()


def test_full_sweep_lists_what_decayed_and_sends_it_nowhere(filled):
    alpha, beta = filled.nodes
    corrupt(beta, "/srv/data/stays")
    assert alpha.run("psync", "--cron").code == 0
    assert "decayed" not in alpha.hotpair("status").out
    alpha.configure(SETS + "fullsync = " + " ".join(map(str, range(24))) + "\n")
    assert alpha.run("psync", "--cron").code == 0
    status = alpha.hotpair("status")
    assert status.code == 2
    assert "data: decayed" in status.out and "contents of 1 paths differ, and no time or size tells why" in status.out
    assert (alpha.text("/srv/data/stays"), beta.text("/srv/data/stays")) == ("stays", "STAYS")
    shutil.copy(alpha.live("/srv/data/stays"), beta.live("/srv/data/stays"))
    assert beta.run("psync").code == 0
    forget_reading(alpha)
    assert alpha.run("psync", "--cron").code == 0
    assert "decayed" not in alpha.hotpair("status").out


def forget_reading(node: Node) -> None:
    """Have the archive say that the last full sweep was long ago."""
    db = sqlite3.connect(node.root / "var/lib/hotpair/archive.db")
    assert db.execute("UPDATE fact SET value = 1 WHERE key = 'reread'").rowcount == 1
    db.commit()
    db.close()


def test_end_that_reads_for_long_is_waited_for(trees):
    alpha, beta = trees.nodes
    for node in trees.nodes:
        node.configure(SETS, "io-timeout = 1\n")
    with open(beta.live("/srv/data/huge"), "wb") as file:
        file.truncate(800 << 20)
    assert alpha.run("psync", "--check", "--checksum").code == 3
