"""A clock that is set back holds up nothing, and what it noted before proves nothing."""

import sqlite3

from hotpair import tree
from hotpair.cmd import psync
from tests.ext.trees import SETS, Trees, fill


def test_peer_is_asked_again_after_the_clock_was_set_back(tmp_path):
    trees = Trees(tmp_path)
    fill(trees.alpha, "one")
    trees.sync()
    trees.cut()
    fill(trees.alpha, "two")
    trees.alpha.run("psync", "--cron")
    trees.mend()
    with sqlite3.connect(trees.alpha.root / "var/lib/hotpair/archive.db") as db:  # as if noted by a clock a year ahead
        db.execute("UPDATE problem SET since = since + 31e6, due = due + 31e6")
    trees.alpha.run("psync", "--cron")
    trees.alpha.run("psync", "--retry")
    assert trees.equal()


def test_proof_of_the_future_proves_nothing(tmp_path):
    trees = Trees(tmp_path)
    trees.sync()
    with sqlite3.connect(trees.alpha.root / "var/lib/hotpair/archive.db") as db:
        db.execute("UPDATE fact SET value = value + 31e6 WHERE key = 'proved'")
    assert not trees.alpha.json("status")["sets"][0]["in_sync"]


def test_large_file_of_a_later_clock_is_sent(tmp_path, monkeypatch):
    trees = Trees(tmp_path, SETS + "bigfile = 10 1\n")
    trees.sync()
    trees.alpha.write("/srv/data/big", "x" * 100)
    monkeypatch.setenv("HOTPAIR_ROOT", str(trees.alpha.root))
    real = tree.time.time
    monkeypatch.setattr(tree.time, "time", lambda: real() - 86400)
    psync.main(["--cron"])
    assert trees.beta.live("/srv/data/big").exists()
