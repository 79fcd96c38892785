"""A tree as a person asks about it: dry runs, checks, parts of it, and the kinds of pass that psync makes."""

import json
import os

import pytest

from tests.ext.test_tree_pair import CHANGES
from tests.ext.trees import Trees, corrupt, fill, tree_of


def everything(pair: Trees) -> dict[str, tuple[int, int, int]]:
    """Return inode, size and ctime of all that either node has, its state and locks included."""
    found = {}
    for node in pair.nodes:
        for folder, directories, files in os.walk(node.root):
            for name in [*directories, *files]:
                seen = os.lstat(f"{folder}/{name}")
                found[f"{folder}/{name}"] = (seen.st_ino, seen.st_size, seen.st_ctime_ns)
    sqlites = ("/var/lib/hotpair", "/archive.db-wal", "/archive.db-shm")  # its log is there while it is open
    return {path: seen for path, seen in found.items() if not path.endswith(sqlites)}


PLANS = {
    "edit in place": ["put /srv/data/d/f (6 bytes)"],
    "create deep": [
        *("mkdir /srv/data/n", "mkdir /srv/data/n/e", "mkdir /srv/data/n/e/w"),
        "put /srv/data/n/e/w/f (1 bytes)",
    ],
    "chmod a directory": ["meta /srv/data/d"],
    "rename": ["move /srv/data/d/f to /srv/data/e/moved"],
    "rename a directory": ["move /srv/data/d to /srv/data/moved"],
    "delete": ["delete /srv/data/d/f"],
    "other link": ["link /srv/data/l"],
}


# P9: what it prints is what the real run then does, and it leaves no trace
@pytest.mark.parametrize("node", ["alpha", "beta"])
@pytest.mark.parametrize("what", PLANS)
def test_dry_run_says_what_a_run_would_do_and_writes_nothing(filled, what, node):
    CHANGES[what](filled.alpha.live("/srv/data"))
    before = everything(filled)
    way = "send" if node == "alpha" else "receive"
    said = getattr(filled, node).run("psync", "--dry-run")
    assert said == (0, "".join(f"data: {way} {line}\n" for line in PLANS[what]), "")
    assert everything(filled) == before
    filled.sync()
    assert filled.alpha.run("psync", "--dry-run") == (0, "data: nothing to do\n", "")


def test_check_tells_divergence_from_what_is_under_way(filled):
    alpha, beta = filled.nodes
    assert alpha.run("psync", "--check") == (0, "data: equal on both nodes\n", "")
    alpha.live("/srv/data/stays").write_text("changed")
    said = alpha.run("psync", "--check")
    assert said.code == 3
    assert said.out.startswith("data: /srv/data/stays: alpha has a file of 7 bytes")
    assert "beta has a file of 5 bytes" in said.out
    assert alpha.run("psync", "--check", "--lite") == (0, "data: equal on both nodes\n", "")
    filled.sync()
    filled.cut()
    assert alpha.run("psync", "--check").code == 1
    filled.mend()


# a failing disk changes a content behind the back of all signatures
def test_checksum_finds_what_neither_size_nor_time_tells(filled):
    alpha, beta = filled.nodes
    corrupt(beta, "/srv/data/stays")
    assert alpha.run("psync", "--check").code == 0
    said = alpha.run("psync", "--check", "--checksum", "--json")
    assert said.code == 2
    assert [one["path"] for one in json.loads(said.out)["data"]["differences"]] == ["/srv/data/stays"]


def test_only_what_a_person_asks_about_is_synced(filled):
    alpha = filled.alpha
    fill(alpha, "d/new", "e/new", "new")
    assert alpha.run("psync", "/srv/data/d") == (0, "/srv/data/d: in sync, 1 repaired\n", "")
    there = tree_of(filled.beta.live("/srv/data"))
    assert "d/new" in there and "e/new" not in there and "new" not in there
    assert alpha.run("psync", "/srv/data/e/new").code == 0
    there = tree_of(filled.beta.live("/srv/data"))
    assert "e/new" in there and "new" not in there
    said = alpha.run("psync", "/elsewhere")
    assert (said.code, said.err) == (66, "psync: /elsewhere is in no set: see hotpair.ini\n")


@pytest.mark.parametrize("options", [["--once"], ["--until-quiet"]])
def test_each_kind_of_pass_brings_a_change_over(filled, options):
    fill(filled.alpha, "d/new")
    said = filled.alpha.run("psync", *options)
    assert said.code == 0, said
    assert filled.equal()


def test_pass_that_compares_nothing_does_not_say_in_sync(filled):
    fill(filled.alpha, "d/new")
    assert filled.alpha.run("syncr", "data", "0").code == 0
    filled.cut()
    fill(filled.alpha, "d/newer")
    assert filled.alpha.run("syncr", "data", "0").code == 75
    filled.mend()
    assert filled.alpha.run("psync", "--skip-initial")[:2] == (0, "data: sent what had changed\n")
    assert filled.equal()


def test_until_quiet_does_not_wait_for_a_peer_that_is_away(filled):
    filled.cut()
    assert filled.alpha.run("psync", "--until-quiet").code == 75
    filled.mend()


def test_sync_of_a_part_forgets_no_event_elsewhere(filled):
    fill(filled.alpha, "e/new")
    (filled.alpha.root / "var/lib/hotpair/sets/data/marks/new/0").write_text(".")
    assert filled.alpha.run("psync", "/srv/data/d").code == 0
    assert filled.equal(), "the run after it saw the mark"
